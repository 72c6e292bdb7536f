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

import logging
import os
import threading
from dataclasses import dataclass
from typing import Literal

from pydantic import TypeAdapter

from firesteel.conf.errors import FiresteelError, LeaseConflict, StorageError
from firesteel.pipelines.publish.envelope import decode, encode, invalid
from firesteel.pipelines.publish.process import is_dead, machine_id, started_at
from firesteel.pipelines.publish.state_store import SinkInterval, children, storage_time_ms, token_of, tokens_in

_log = logging.getLogger(__name__)

LEASE_TTL_S = 60.0
"""Seconds without a heartbeat after which another driver may take over a lease."""

DECIDED = frozenset({"released", "published"})
"""Marks of a token whose attempt is done."""

_PROOF = DECIDED | {"json"}
"""Files that prove that a token was used."""

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
    """The state of a token in the lease folder. `seen_ms` is the time of the last heartbeat, by the storage's clock.

    `released` is True for an attempt that is done. `published` is True if the ledger must have its publish.
    """

    token: int
    seen_ms: int
    released: bool
    abandoned: bool
    published: bool


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
            lost = lost_leases(sink_interval)
            if lost:
                raise _missing(sink_interval, lost[0])
            states = read_states(sink_interval)
            if states:
                refuse_if_held(sink_interval, states[-1])
            token = states[-1].token + 1 if states else 1
            pid = os.getpid()
            record = LeaseRecord(token, attempt, purpose, ttl_s, machine_id(), pid, started_at(pid))
            try:
                write_lease(sink_interval, record)
            except StorageError as error:
                if error.code == "FS8004":  # another driver was faster
                    continue
                raise
            return cls(sink_interval, record)
        raise LeaseConflict(
            "FS7501", f"{sink_interval}: other drivers acquired the lease first, {_RACES} times.", hint="Run again."
        )

    def release(self, *, published: bool = False) -> None:
        """Mark the token as done and stop the heartbeat."""
        self.close()
        release(self.sink_interval, self.token, published=published)

    def abandon(self) -> None:
        """Leave the journal to the next driver, which then need not wait for the lease to expire."""
        self.close()
        mark_abandoned(self.sink_interval, self.token)

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
    states = []
    newest = max((token for token, files in files_of.items() if files.keys() & _PROOF), default=0)
    for token, files in sorted(files_of.items()):
        if files.keys() == {"beat"} and token < newest:  # of a driver that woke after its lease was pruned
            continue
        released = bool(files.keys() & DECIDED)
        if (
            "json" not in files
            and not released
            and sink_interval.storage.status(sink_interval.file("lease", token)) is None
        ):
            raise _missing(sink_interval, token)
        seen_ms = max(files.get("json", 0), files.get("beat", 0))
        states.append(TokenState(token, seen_ms, released, "abandoned" in files, "published" in files))
    return states


def lost_leases(sink_interval: SinkInterval) -> list[int]:
    """Return the tokens that were used and have no lease file, ascending. Each newer lease would use one of them again."""
    storage = sink_interval.storage
    used = set(tokens_in(storage, sink_interval.folder("staging")))
    for kind in ("journal", "ledger"):
        used.update(tokens_in(storage, sink_interval.folder(kind), "json"))
    # The leases last: a token has a lease before it has anything else.
    marks = [token_of(child.name) for child in children(storage, sink_interval.folder("lease"))]
    leased = {mark[0] for mark in marks if mark and mark[1] in _PROOF}
    newest = max(leased, default=0)
    marked = {mark[0] for mark in marks if mark and (mark[1] != "beat" or mark[0] > newest)}
    return sorted((marked | {token for token in used if token > newest}) - leased)


def write_lease(sink_interval: SinkInterval, record: LeaseRecord) -> None:
    """Create the lease file of a token. Raise FS8004 when the token is in use."""
    data = encode(sink_interval.identity("lease", record.token), record)
    sink_interval.storage.create(sink_interval.file("lease", record.token), data)


def read_lease(sink_interval: SinkInterval, token: int) -> LeaseRecord:
    """Return the lease file of a token. Raise FS8006 when it is not valid."""
    path = sink_interval.file("lease", token)
    hint = (
        "Restore the file from a backup. Without one, make sure that no driver works on the interval, delete the file, and run "
        "`firesteel recover`."
    )
    return decode(_ADAPTER, sink_interval.storage.read(path), path, sink_interval.identity("lease", token), hint)


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


def mark_journaled(sink_interval: SinkInterval, token: int) -> None:
    """Mark that the journal of a token exists: a journal that is missing later is not a journal that was never written."""
    _mark(sink_interval, token, "journaled")


def mark_abandoned(sink_interval: SinkInterval, token: int) -> None:
    """Mark that no driver works on a token any more."""
    _mark(sink_interval, token, "abandoned")


def release(sink_interval: SinkInterval, token: int, *, published: bool) -> None:
    """Mark a token as done, and delete its heartbeat file. Of a published token, the ledger must have the record."""
    _mark(sink_interval, token, "published" if published else "released")
    sink_interval.storage.delete(sink_interval.file("lease", token, "journaled"))
    sink_interval.storage.delete(sink_interval.file("lease", token, "beat"))


def now_ms(sink_interval: SinkInterval) -> int:
    """Return the time of the storage's clock, which all drivers share."""
    return storage_time_ms(sink_interval.storage, sink_interval.folder("lease"))


def _missing(sink_interval: SinkInterval, token: int) -> StorageError:
    return invalid(
        sink_interval.file("lease", token),
        f"the lease of {sink_interval}, token {token}, is missing, although the token was used.",
        "Restore the file, or run `firesteel recover`: it completes or discards the attempt.",
    )


def _mark(sink_interval: SinkInterval, token: int, suffix: str) -> None:
    # A folder, because HDFS creates it without a DataNode; an empty file needs space for a block.
    sink_interval.storage.mkdirs(sink_interval.file("lease", token, suffix))


_ADAPTER = TypeAdapter(LeaseRecord)
