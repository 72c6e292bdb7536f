"""The lease on an interval: the right to publish it, with a fencing token that orders the holders.

::

              create <token>.json                        publish or abort
    (none) --------------------------> held ------------------------------> released
                                        |  ^
              no heartbeat for ttl_s,   |  | heartbeat every ttl_s / 3
                   or process dead,     |  |
                   or abandoned         v
                                      stale ---> taken over: the next token decides its journal, then releases it

Tokens only increase. The holder is the highest token, unless it is released or stale. A lease alone does not stop a paused driver
that continues later. The journal stops it, because it is written only once (journal.py). The newest lease
file of an interval is never deleted, because a token must not be used twice.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import threading
from dataclasses import asdict, dataclass
from typing import Literal

from pydantic import TypeAdapter

from firesteel.conf.errors import FiresteelError, LeaseConflict, StorageError
from firesteel.pipelines.publish.process import is_dead, machine_id, started_at
from firesteel.pipelines.publish.records import parsed
from firesteel.pipelines.publish.state_store import SinkInterval, children, token_of
from firesteel.pipelines.storage.paths import join

_log = logging.getLogger(__name__)

LEASE_TTL_S = 60.0
"""Seconds without a heartbeat after which another driver may take over a lease."""

_RACES = 5
"""Number of attempts to create the next token while other drivers create it first."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt to publish an interval, as recorded in the lease and the ledger.

    `hash_inputs` are the named inputs of the plan hash, `slots` is the number of tasks that run at the same time.
    """

    run_id: str
    plan_hash: str
    user: str
    host: str
    started_at: str
    hash_inputs: tuple[tuple[str, str], ...] = ()
    input_bytes: int = 0
    slots: int = 0


@dataclass(frozen=True, slots=True)
class LeaseRecord:
    """A lease file. With `machine`, `pid` and `process_start`, another process on the machine can detect that the holder died."""

    token: int
    attempt: Attempt
    purpose: Literal["run", "recover"]
    ttl_s: float
    machine: str
    pid: int
    process_start: str


@dataclass(frozen=True, slots=True)
class TokenState:
    """The state of a token in the lease folder. `seen_ms` is the time of the last heartbeat, by the storage's clock."""

    token: int
    seen_ms: int
    released: bool
    abandoned: bool


class Lease:
    """A held lease. It sends heartbeats until it is closed."""

    def __init__(self, sink_interval: SinkInterval, record: LeaseRecord) -> None:
        self.sink_interval = sink_interval
        self.record = record
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name=f"lease {sink_interval}", daemon=True)
        self._thread.start()

    @property
    def token(self) -> int:
        """Return the fencing token."""
        return self.record.token

    @classmethod
    def acquire(
        cls, sink_interval: SinkInterval, attempt: Attempt, *, ttl_s: float, purpose: Literal["run", "recover"]
    ) -> Lease:
        """Return a lease with the next token.

        Raises
        ------
        LeaseConflict
            FS7501 when a live driver holds the interval.
        """
        for _ in range(_RACES):
            states = read_states(sink_interval)
            if states:
                refuse_if_held(sink_interval, states[-1])
            token = states[-1].token + 1 if states else 1
            pid = os.getpid()
            record = LeaseRecord(token, attempt, purpose, ttl_s, machine_id(), pid, started_at(pid))
            data = json.dumps(asdict(record), indent=2, ensure_ascii=False) + "\n"
            try:
                sink_interval.storage.create(sink_interval.file("lease", token), data.encode())
            except StorageError as error:
                if error.code == "FS8004":  # another driver was faster
                    continue
                raise
            return cls(sink_interval, record)
        raise LeaseConflict(
            "FS7501", f"{sink_interval}: other drivers acquired the lease first, {_RACES} times.", hint="Run again."
        )

    def release(self) -> None:
        """Mark the token as done and stop the heartbeat."""
        self.close()
        release(self.sink_interval, self.token)

    def abandon(self) -> None:
        """Leave the journal to the next driver, which then need not wait for the lease to expire."""
        self.close()
        _mark(self.sink_interval, self.token, "abandoned")

    def close(self) -> None:
        """Stop the heartbeat; idempotent."""
        self._stop.set()
        self._thread.join(timeout=max(1.0, self.record.ttl_s / 3))

    def _beat(self) -> None:
        path = self.sink_interval.file("lease", self.token, "beat")
        while not self._stop.wait(self.record.ttl_s / 3):
            try:
                self.sink_interval.storage.replace(path, b"")
            except FiresteelError as error:
                # The lease may expire. A missed heartbeat is safe, because the journal decides.
                _log.warning("%s: a heartbeat failed: %s", self.sink_interval, error)


def read_states(sink_interval: SinkInterval) -> list[TokenState]:
    """Return the states of all tokens, ascending."""
    files_of: dict[int, dict[str, int]] = {}
    for child in children(sink_interval.storage, sink_interval.folder("lease")):
        parsed = token_of(child.name)
        if parsed is not None:
            files_of.setdefault(parsed[0], {})[parsed[1]] = child.modified_ms
    return [
        TokenState(token, max(files["json"], files.get("beat", 0)), "released" in files, "abandoned" in files)
        for token, files in sorted(files_of.items())
        if "json" in files
    ]


def read_lease(sink_interval: SinkInterval, token: int) -> LeaseRecord:
    """Return the lease file of a token. Raise FS8006 when it is not valid."""
    path = sink_interval.file("lease", token)
    return parsed(_ADAPTER, sink_interval.storage.read(path), path, "a valid lease", "Restore the file, or move it.")


def refuse_if_held(sink_interval: SinkInterval, state: TokenState) -> None:
    """Raise FS7501 when a live driver holds the token."""
    if not is_held(sink_interval, state):
        return
    record = read_lease(sink_interval, state.token)
    who = record.attempt
    raise LeaseConflict(
        "FS7501",
        f"{sink_interval} is held by {who.user}@{who.host} (pid {record.pid}) since {who.started_at}, run {who.run_id}. "
        "Nothing was changed.",
        hint=f"Wait for it, or end the process. If the process has ended, the lease expires {record.ttl_s:g} s "
        "after its last heartbeat; then run again.",
    )


def is_held(sink_interval: SinkInterval, state: TokenState) -> bool:
    """Return whether the holder of a token is alive, as far as this process can determine."""
    if state.released or state.abandoned:
        return False
    record = read_lease(sink_interval, state.token)
    if is_dead(record.machine, record.pid, record.process_start):
        return False
    return now_ms(sink_interval) - state.seen_ms <= record.ttl_s * 1000


def release(sink_interval: SinkInterval, token: int) -> None:
    """Mark a token as done, and delete its heartbeat file."""
    _mark(sink_interval, token, "released")
    sink_interval.storage.delete(sink_interval.file("lease", token, "beat"))


def now_ms(sink_interval: SinkInterval) -> int:
    """Return the time of the storage's clock, which all drivers share, from a new file."""
    path = join(sink_interval.folder("lease"), f".clock-{secrets.token_hex(8)}")
    try:
        return sink_interval.storage.replace(path, b"").modified_ms
    finally:
        sink_interval.storage.delete(path)


def _mark(sink_interval: SinkInterval, token: int, suffix: str) -> None:
    # A folder, because HDFS creates it without a DataNode; an empty file needs space for a block.
    sink_interval.storage.mkdirs(sink_interval.file("lease", token, suffix))


_ADAPTER = TypeAdapter(LeaseRecord)
