"""A run that somebody waits for says in the storage that it lives, and how it ended. Schedulers read that beside the ledger.

::

    <base>/heartbeat/<profile>/<run id>/started.json   who runs it, and where
                                       beat         its heartbeat: only the time matters
                                       ended.json   its exit code and brief: written once

The ledger knows an attempt from its lease to its end. A run is more than that: it waits for inputs, it plans, it starts Spark, and
it may end in any of these. Nothing here decides anything about data.
"""

from __future__ import annotations

import getpass
import json
import logging
import os
import secrets
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Literal, Self, TypeVar

from pydantic import JsonValue, TypeAdapter

from firesteel.conf.errors import FiresteelError, LeaseConflict, StorageError
from firesteel.pipelines.publish.process import is_dead, machine_id, started_at
from firesteel.pipelines.publish.records import parsed
from firesteel.pipelines.publish.state_store import StateStore, children, file_name, name_of
from firesteel.pipelines.storage.base import FileStatus, Storage
from firesteel.pipelines.storage.paths import join

T = TypeVar("T")

_log = logging.getLogger(__name__)

TTL_S = 60.0
"""Without a heartbeat for this long, a run counts as dead."""

KEEP_S = 30 * 86_400.0
"""How long it stays known how a run ended; the ledger knows for ever."""

State = Literal["running", "ended", "dead"]


@dataclass(frozen=True, slots=True)
class RunStarted:
    """Who runs it. `machine`, `pid` and `process_start` let another process on that machine see that it died."""

    run_id: str
    at: str
    user: str
    host: str
    machine: str
    pid: int
    process_start: str
    ttl_s: float


@dataclass(frozen=True, slots=True)
class RunEnded:
    """How it ended: the exit code of the command line, and the run in brief (`pipelines/brief.py`)."""

    at: str
    exit_code: int
    brief: dict[str, JsonValue]


@dataclass(frozen=True, slots=True)
class RunState:
    """What is known of a run. `ended` is there when `state` says so."""

    state: State
    started: RunStarted
    ended: RunEnded | None = None


class RunHeartbeat:
    """A run's own side: registered when it is entered, ended by `end`, or by the error with which it is left."""

    def __init__(self, store: StateStore, run_id: str, *, ttl_s: float = TTL_S) -> None:
        self._storage = store.storage
        self._parent = join(store.base, "heartbeat", file_name(store.profile))
        self._folder = join(self._parent, file_name(run_id))
        self._run_id = run_id
        self._ttl_s = ttl_s
        self._started = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name=f"heartbeat {run_id}", daemon=True)

    def __enter__(self) -> Self:
        """Register the run.

        Raises
        ------
        LeaseConflict
            FS7505 when a run of that id is known already.
        """
        if not self._started:
            self._register(self._storage.create)
        return self

    def taken_over(self) -> Self:
        """Go on in this process with what another one registered, as a driver in a cluster does for its client."""
        self._register(self._storage.replace)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """An error that leaves here is how the run ended."""
        if error is not None:
            code = error.exit_code if isinstance(error, FiresteelError) else 130 if kind is KeyboardInterrupt else 1
            self.end(code, {"error": str(error) if isinstance(error, FiresteelError) else ""})
        self.close()

    def end(self, exit_code: int, brief: Mapping[str, JsonValue]) -> None:
        """Say how it ended, once. Not being able to say so harms nobody: the ledger stands, and the beats stop."""
        ended = RunEnded(_now(), exit_code, dict(brief))
        try:
            self._storage.create(join(self._folder, "ended.json"), _json(ended))
        except FiresteelError as error:
            if error.code != "FS8004":
                _log.warning("run %s could not say how it ended: %s", self._run_id, error)

    def close(self) -> None:
        """Stop the heartbeat; may be called twice."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(timeout=max(1.0, self._ttl_s / 3))

    def _register(self, write: Callable[[str, bytes], FileStatus]) -> None:
        pid = os.getpid()
        started = RunStarted(
            self._run_id,
            _now(),
            getpass.getuser(),
            socket.gethostname(),
            machine_id(),
            pid,
            started_at(pid),
            self._ttl_s,
        )
        try:
            status = write(join(self._folder, "started.json"), _json(started))
        except StorageError as error:
            if error.code != "FS8004":
                raise
            raise LeaseConflict(
                "FS7505", f"a run {self._run_id} was registered already.", hint="Give each start an id of its own."
            ) from None
        self._started = True
        self._thread.start()
        self._prune(status.modified_ms)

    def _beat(self) -> None:
        while not self._stop.wait(self._ttl_s / 3):
            try:
                self._storage.replace(join(self._folder, "beat"), b"")
            except FiresteelError as error:
                _log.warning("run %s: a heartbeat failed: %s", self._run_id, error)

    def _prune(self, now_ms: int) -> None:
        """Forget old runs. A folder's time is that of its newest file, or older: one that beats is never that old."""
        try:
            for child in children(self._storage, self._parent):
                if now_ms - child.modified_ms > KEEP_S * 1000 and not _young(self._storage, child.path, now_ms):
                    self._storage.delete(child.path)
        except FiresteelError as error:
            _log.warning("old runs stay known: %s", error)


def runs(store: StateStore, name: str) -> list[RunState]:
    """What is known of the run `name`, or of all whose ids end in `-name`, oldest first."""
    parent = join(store.base, "heartbeat", file_name(store.profile))
    found = []
    for child in children(store.storage, parent):
        run_id = name_of(child.name)
        if run_id == name or run_id.endswith(f"-{name}"):
            state = _state(store.storage, child.path)
            if state is not None:
                found.append(state)
    return sorted(found, key=lambda each: (each.started.at, each.started.run_id))


def _state(storage: Storage, folder: str) -> RunState | None:
    files = {child.name: child for child in children(storage, folder)}
    if "started.json" not in files:
        return None
    started = _read(storage, join(folder, "started.json"), _STARTED, "the registration of a run")
    if "ended.json" in files:
        return RunState("ended", started, _read(storage, join(folder, "ended.json"), _ENDED, "the end of a run"))
    seen_ms = max(files[name].modified_ms for name in ("started.json", "beat") if name in files)
    if is_dead(started.machine, started.pid, started.process_start):
        # It may have said so between our two looks.
        ended = storage.status(join(folder, "ended.json"))
        return RunState("dead", started) if ended is None else _state(storage, folder)
    return RunState("dead" if _now_ms(storage, folder) - seen_ms > started.ttl_s * 1000 else "running", started)


def _young(storage: Storage, folder: str, now_ms: int) -> bool:
    return any(now_ms - child.modified_ms <= KEEP_S * 1000 for child in children(storage, folder))


def _now_ms(storage: Storage, folder: str) -> int:
    """The time by the storage's clock, as leases take it."""
    path = join(folder, f".clock-{secrets.token_hex(8)}")
    try:
        return storage.replace(path, b"").modified_ms
    finally:
        storage.delete(path)


def _read(storage: Storage, path: str, adapter: TypeAdapter[T], what: str) -> T:
    return parsed(adapter, storage.read(path), path, what, "Delete its folder.")


def _json(record: RunStarted | RunEnded) -> bytes:
    return (json.dumps(asdict(record), indent=2, ensure_ascii=False) + "\n").encode()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


_STARTED = TypeAdapter(RunStarted)
_ENDED = TypeAdapter(RunEnded)
