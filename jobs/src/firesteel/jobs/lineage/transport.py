"""Send events to a server with OpenLineage's client, or write them to files in a storage.

::

    path/RUN/000001.jsonl     during the run: one file per event, written atomically
         RUN.jsonl            after the run: all events; the parts are deleted

Separate files avoid appends, which are not reliable on HDFS. A killed run leaves its parts.
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
    """Sends events sequentially from one thread."""

    place: str

    def emit(self, event: dict[str, Any]) -> tuple[str, bool]:
        """Send an event. Return the reason of a failure, or an empty string, and whether a retry may succeed."""

    def close(self) -> None:
        """Finish after the last event."""


class FileChannel:
    """Writes events to files below a `file://` or `hdfs://` path."""

    def __init__(self, place: str, run_id: str) -> None:
        self.place = f"{place.rstrip('/')}/{run_id}.jsonl"
        self._storage, base = locate(place)
        self._whole, self._parts = join(base, f"{run_id}.jsonl"), join(base, run_id)
        self._lines: list[bytes] = []

    def emit(self, event: dict[str, Any]) -> tuple[str, bool]:
        """Write an event as a new part."""
        line = json.dumps(event, sort_keys=True, ensure_ascii=False).encode() + b"\n"
        try:
            self._storage.create(join(self._parts, f"{len(self._lines) + 1:06d}.jsonl"), line)
        except FiresteelError as error:  # the storage has already retried
            return str(error), False
        self._lines.append(line)
        return "", False

    def close(self) -> None:
        """Merge the parts into one file. If that fails, the parts stay."""
        if not self._lines:
            return
        try:
            self._storage.create(self._whole, b"".join(self._lines))
            self._storage.delete(self._parts)
        except FiresteelError as error:
            _log.warning("the lineage parts below %s cannot be merged: %s", self._parts, error)


class HttpChannel:
    """Sends events to a server with the transport of OpenLineage's client."""

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
            retry={"total": 0},  # its retries log warnings and do not stop when the run ends
            ssl_context=HttpSslContextConfig(ca_cert_path=plan.ca) if plan.ca else None,
        )
        self._transport = HttpTransport(config)

    def emit(self, event: dict[str, Any]) -> tuple[str, bool]:
        """Post an event. A retry may succeed after a server error or a timeout, but not after a rejection."""
        from requests import HTTPError

        try:
            with _quiet():
                self._transport.emit(event)  # type: ignore[arg-type]
        except HTTPError as error:
            status = error.response.status_code if error.response is not None else 0
            return f"the server answered {status} {getattr(error.response, 'reason', '') or ''}".rstrip(), status >= 500
        except Exception as error:  # noqa: BLE001 - no error of the library may fail a run
            return root_cause(error), True
        return "", False

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()


def open_channel(plan: LineagePlan, run_id: str) -> Channel:
    """Return the channel of a plan, without sending anything."""
    return FileChannel(plan.place, run_id) if plan.transport == "file" else HttpChannel(plan)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence urllib3's warning for each failed connection, because the sender logs failures once."""
    logger = logging.getLogger("urllib3.connectionpool")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def root_cause(error: Exception) -> str:
    """Return the root cause below the errors of requests and urllib3, in one line without secrets."""
    cause: BaseException = error
    while (next_cause := cause.__cause__ or cause.__context__) is not None:
        cause = next_cause
    text = (cause.strerror if isinstance(cause, OSError) else "") or str(cause) or type(cause).__name__
    return redact(text.splitlines()[0])[:300]
