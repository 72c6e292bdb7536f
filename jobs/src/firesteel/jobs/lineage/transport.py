"""Where events go: to a server by OpenLineage's own client, or into files by the storage that the pipeline writes to.

::

    path/RUN/000001.jsonl     while a run is under way: what was new since the file before, each whole or not there
         RUN.jsonl            when it is over: all of it; the parts are removed then

HDFS has no append that two programs agree on, and a file an event would stay: a run that is killed leaves its parts.
"""

from __future__ import annotations

import json
import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from firesteel.conf.errors import FiresteelError
from firesteel.conf.redaction import redact
from firesteel.conf.secrets import reveal
from firesteel.jobs.tracking.connect import without_secrets
from firesteel.pipelines.storage.open import locate
from firesteel.pipelines.storage.paths import join

if TYPE_CHECKING:
    from collections.abc import Iterator

    from firesteel.pipelines.plan.model import LineagePlan

_log = logging.getLogger(__name__)


class Channel(Protocol):
    """Takes events, one after the other, from one thread."""

    place: str

    def emit(self, event: dict[str, Any]) -> tuple[str, bool]:
        """Send an event: why it was not taken, or nothing; and whether to try once more may help."""

    def close(self) -> None:
        """All events are sent."""


class FileChannel:
    """Files below a path of `file://` or `hdfs://`."""

    def __init__(self, place: str, run_id: str) -> None:
        self.place = f"{place.rstrip('/')}/{run_id}.jsonl"
        self._storage, base = locate(place)
        self._whole, self._parts = join(base, f"{run_id}.jsonl"), join(base, run_id)
        self._lines: list[bytes] = []

    def emit(self, event: dict[str, Any]) -> tuple[str, bool]:
        """Write one line as a part of its own."""
        line = json.dumps(event, sort_keys=True, ensure_ascii=False).encode() + b"\n"
        try:
            self._storage.create(join(self._parts, f"{len(self._lines) + 1:06d}.jsonl"), line)
        except FiresteelError as error:  # the storage has tried more than once
            return str(error), False
        self._lines.append(line)
        return "", False

    def close(self) -> None:
        """Make one file of the parts. Where that fails they stay, and nothing is lost."""
        if not self._lines:
            return
        try:
            self._storage.create(self._whole, b"".join(self._lines))
            self._storage.delete(self._parts)
        except FiresteelError as error:
            _log.warning("lineage stays in parts below %s: %s", self._parts, error)


class HttpChannel:
    """A server, by the official client's transport."""

    def __init__(self, plan: LineagePlan) -> None:
        from openlineage.client.transport.http import (
            ApiKeyTokenProvider,
            HttpConfig,
            HttpSslContextConfig,
            HttpTransport,
            TokenProvider,
        )

        self.place = f"{without_secrets(plan.place).rstrip('/')}/{plan.endpoint.lstrip('/')}"
        config = HttpConfig(
            url=f"{reveal(plan.place).rstrip('/')}/",
            endpoint=plan.endpoint.lstrip("/"),
            timeout=plan.timeout_s,
            auth=ApiKeyTokenProvider({"api_key": reveal(plan.auth)}) if plan.auth else TokenProvider({}),
            retry={"total": 0},  # its retries would log a warning each; ours know when the run is over
            ssl_context=HttpSslContextConfig(ca_cert_path=plan.ca) if plan.ca else None,
        )
        self._transport = HttpTransport(config)

    def emit(self, event: dict[str, Any]) -> tuple[str, bool]:
        """Post an event. What the server refuses it refuses again; faults and silence may pass."""
        from requests import HTTPError

        try:
            with _quiet():
                self._transport.emit(event)  # type: ignore[arg-type]
        except HTTPError as error:
            status = error.response.status_code if error.response is not None else 0
            return f"it answered {status} {getattr(error.response, 'reason', '') or ''}".rstrip(), status >= 500
        except Exception as error:  # noqa: BLE001 - a library's fault is no reason to lose a run
            return _cause(error), True
        return "", False

    def close(self) -> None:
        """Close connections."""
        self._transport.close()


def open_channel(plan: LineagePlan, run_id: str) -> Channel:
    """The channel that a plan asks for. Nothing is sent yet."""
    return FileChannel(plan.place, run_id) if plan.transport == "file" else HttpChannel(plan)


@contextmanager
def _quiet() -> Iterator[None]:
    """urllib3 warns of each connection that fails; we say it once, at the end."""
    logger = logging.getLogger("urllib3.connectionpool")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _cause(error: Exception) -> str:
    """What lies at the bottom of requests' and urllib3's wrapping, in one line and without the URL's secrets."""
    seen: BaseException = error
    while (inner := seen.__cause__ or seen.__context__) is not None:
        seen = inner
    said = (seen.strerror if isinstance(seen, OSError) else "") or str(seen) or type(seen).__name__
    return redact(said.splitlines()[0])[:300]
