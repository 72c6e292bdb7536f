"""The heartbeat of a run: files in the storage from which schedulers read that the run is alive, and how it ended.

::

    <base>/heartbeat/<profile>/<run id>/started.json   user, host and process
                                       beat         heartbeat: only its modification time matters
                                       ended.json   exit code and brief, written once

The ledger covers an attempt from its lease to its end. A run also waits for inputs, plans and starts Spark, and can end in any of
these phases. The heartbeat does not affect data.
"""

from __future__ import annotations

import getpass
import logging
import os
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Literal, Self, TypeVar

from pydantic import JsonValue, TypeAdapter

from firesteel.conf.errors import FiresteelError, LeaseConflict, StorageError
from firesteel.pipelines.publish.envelope import decode, encode
from firesteel.pipelines.publish.process import is_dead, machine_id, started_at
from firesteel.pipelines.publish.state_store import (
    StateStore,
    children,
    file_name,
    name_of,
    own_children,
    storage_time_ms,
)
from firesteel.pipelines.storage.base import FileStatus, Storage
from firesteel.pipelines.storage.paths import join

T = TypeVar("T")

_log = logging.getLogger(__name__)

TTL_S = 60.0
"""Seconds without a heartbeat after which a run counts as dead."""

KEEP_S = 30 * 86_400.0
"""Seconds after which the files of a run are deleted; the records of publishes are permanent."""

State = Literal["running", "ended", "dead"]


@dataclass(frozen=True, slots=True)
class RunStarted:
    """A started run. With `machine`, `pid` and `process_start`, another process on the machine can detect that it died."""

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
    """An ended run: the exit code of the command, and the run's brief (`pipelines/brief.py`)."""

    at: str
    exit_code: int
    brief: dict[str, JsonValue]


@dataclass(frozen=True, slots=True)
class RunState:
    """The state of a run. `ended` is set if `state` is `ended`."""

    state: State
    started: RunStarted
    ended: RunEnded | None = None


class RunHeartbeat:
    """Writes a run's heartbeat. Entering the block registers the run; `end`, or an error that leaves the block, ends it."""

    def __init__(self, store: StateStore, run_id: str, *, ttl_s: float = TTL_S) -> None:
        self._store = store
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
            FS7505 when a run with the same id is already registered.
        """
        if not self._started:
            self._register(self._storage.create)
        return self

    def taken_over(self) -> Self:
        """Continue a run that another process registered, as a driver in a cluster does for its client."""
        self._register(self._storage.replace)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the run with the error that leaves the block."""
        if error is not None:
            code = error.exit_code if isinstance(error, FiresteelError) else 130 if kind is KeyboardInterrupt else 1
            self.end(code, {"error": str(error) if isinstance(error, FiresteelError) else ""})
        self.close()

    def end(self, exit_code: int, brief: Mapping[str, JsonValue]) -> None:
        """Record once how the run ended. A storage error is only logged: the ledger decides, and the heartbeat stops."""
        ended = RunEnded(_now(), exit_code, dict(brief))
        try:
            self._storage.create(join(self._folder, "ended.json"), encode(_identity(self._folder, "ended"), ended))
        except FiresteelError as error:
            if error.code != "FS8004":
                _log.warning("the end of run %s could not be recorded: %s", self._run_id, error)

    def close(self) -> None:
        """Stop the heartbeat; idempotent."""
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
            status = write(join(self._folder, "started.json"), encode(_identity(self._folder, "started"), started))
        except StorageError as error:
            if error.code != "FS8004":
                raise
            raise LeaseConflict(
                "FS7505", f"run {self._run_id} is already registered.", hint="Use a new run id for each start."
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
        """Delete the files of old runs. The files of a folder are checked too, because a heartbeat does not change its time."""
        try:
            for child in own_children(self._store, self._parent):
                if now_ms - child.modified_ms > KEEP_S * 1000 and not _is_recent(self._storage, child.path, now_ms):
                    self._storage.delete(child.path)
        except FiresteelError as error:
            _log.warning("the files of old runs could not be deleted: %s", error)


def runs(store: StateStore, name: str) -> list[RunState]:
    """Return the states of the run `name`, or of all runs whose ids end in `-name`, oldest first."""
    parent = join(store.base, "heartbeat", file_name(store.profile))
    states = []
    for child in children(store.storage, parent):
        run_id = name_of(child.name)
        if run_id == name or run_id.endswith(f"-{name}"):
            state = _state(store.storage, child.path)
            if state is not None:
                states.append(state)
    return sorted(states, key=lambda state: (state.started.at, state.started.run_id))


def _state(storage: Storage, folder: str) -> RunState | None:
    files = {child.name: child for child in children(storage, folder)}
    if "started.json" not in files:
        return None
    started = _read(storage, folder, "started", _STARTED)
    if "ended.json" in files:
        return RunState("ended", started, _read(storage, folder, "ended", _ENDED))
    seen_ms = max(files[name].modified_ms for name in ("started.json", "beat") if name in files)
    if is_dead(started.machine, started.pid, started.process_start):
        # The run may have ended since the folder was listed.
        ended = storage.status(join(folder, "ended.json"))
        return RunState("dead", started) if ended is None else _state(storage, folder)
    return RunState("dead" if storage_time_ms(storage, folder) - seen_ms > started.ttl_s * 1000 else "running", started)


def _is_recent(storage: Storage, folder: str, now_ms: int) -> bool:
    return any(now_ms - child.modified_ms <= KEEP_S * 1000 for child in children(storage, folder))


def _read(storage: Storage, folder: str, kind: Literal["started", "ended"], adapter: TypeAdapter[T]) -> T:
    path, hint = join(folder, f"{kind}.json"), "Delete the folder of the run; it does not affect data."
    return decode(adapter, storage.read(path), path, _identity(folder, kind), hint)


def _identity(folder: str, kind: Literal["started", "ended"]) -> dict[str, str | int]:
    parent, _, run = folder.rpartition("/")
    return {"kind": kind, "profile": name_of(parent.rpartition("/")[2]), "run_id": name_of(run)}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


_STARTED = TypeAdapter(RunStarted)
_ENDED = TypeAdapter(RunEnded)
