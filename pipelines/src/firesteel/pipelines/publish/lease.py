"""The lease on an interval: who may publish it, and the fencing token that orders those who did.

::

              create <token>.json                        publish or abort
    (none) --------------------------> held ------------------------------> released
                                        |  ^
                   no beat for ttl_s,   |  | heartbeat every ttl_s / 3
                   or process dead,     |  |
                   or abandoned         v
                                      stale ---> taken over: the next token decides its journal, then releases it

Tokens only rise. The holder is the highest token, unless it is released or stale. A lease alone stops nobody: a
driver that was paused wakes up and knows nothing. What stops it is the journal, which is decided once (journal.py).
Lease files stay, since a token must never be given twice.
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
"""Without a heartbeat for this long, a lease can be taken over."""

_RACES = 5
"""How often the next token is tried for when others take it and are done with it in between."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """Who tries to publish, and what: for the ledger, and for whoever finds the lease taken.

    `hash_inputs` are the named parts of the plan hash, `input_bytes` what is read, `slots` the tasks that run at once.
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
    """A lease file. `machine`, `pid` and `process_start` let another process on that machine see that it died."""

    token: int
    attempt: Attempt
    purpose: Literal["run", "recover"]
    ttl_s: float
    machine: str
    pid: int
    process_start: str


@dataclass(frozen=True, slots=True)
class TokenState:
    """What the lease folder says about a token. `seen_ms`: the last sign of life, by the storage's clock."""

    token: int
    seen_ms: int
    released: bool
    abandoned: bool


class Lease:
    """A held lease; beats until it is closed."""

    def __init__(self, place: SinkInterval, record: LeaseRecord) -> None:
        self.place = place
        self.record = record
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name=f"lease {place}", daemon=True)
        self._thread.start()

    @property
    def token(self) -> int:
        """The fencing token."""
        return self.record.token

    @classmethod
    def acquire(
        cls, place: SinkInterval, attempt: Attempt, *, ttl_s: float, purpose: Literal["run", "recover"]
    ) -> Lease:
        """Take the next token.

        Raises
        ------
        LeaseConflict
            FS7501 when another one holds the interval and lives.
        """
        for _ in range(_RACES):
            states = read_states(place)
            if states:
                refuse_if_held(place, states[-1])
            token = states[-1].token + 1 if states else 1
            pid = os.getpid()
            record = LeaseRecord(token, attempt, purpose, ttl_s, machine_id(), pid, started_at(pid))
            data = json.dumps(asdict(record), indent=2, ensure_ascii=False) + "\n"
            try:
                place.storage.create(place.file("lease", token), data.encode())
            except StorageError as error:
                if error.code == "FS8004":  # another one was faster: look at it
                    continue
                raise
            return cls(place, record)
        raise LeaseConflict("FS7501", f"{place}: {_RACES} others were faster.", hint="Run again.")

    def release(self) -> None:
        """Nothing is left to do for this token."""
        self.close()
        release(self.place, self.token)

    def abandon(self) -> None:
        """Leave what is journaled to the next one, who need not wait for the lease to run out."""
        self.close()
        _mark(self.place, self.token, "abandoned")

    def close(self) -> None:
        """Stop the heartbeat; may be called twice."""
        self._stop.set()
        self._thread.join(timeout=max(1.0, self.record.ttl_s / 3))

    def _beat(self) -> None:
        path = self.place.file("lease", self.token, "beat")
        while not self._stop.wait(self.record.ttl_s / 3):
            try:
                self.place.storage.replace(path, b"")
            except FiresteelError as error:
                # The lease may run out for it. The journal decides then, so a missed beat harms nobody.
                _log.warning("%s: a heartbeat failed: %s", self.place, error)


def read_states(place: SinkInterval) -> list[TokenState]:
    """All tokens that were ever given out, ascending."""
    found: dict[int, dict[str, int]] = {}
    for child in children(place.storage, place.folder("lease")):
        parsed = token_of(child.name)
        if parsed is not None:
            found.setdefault(parsed[0], {})[parsed[1]] = child.modified_ms
    return [
        TokenState(token, max(files["json"], files.get("beat", 0)), "released" in files, "abandoned" in files)
        for token, files in sorted(found.items())
        if "json" in files
    ]


def read_lease(place: SinkInterval, token: int) -> LeaseRecord:
    """The lease file of a token; FS8006 names it when it was cut or changed."""
    path = place.file("lease", token)
    return parsed(_ADAPTER, place.storage.read(path), path, "a lease", "Restore it, or move it away.")


def refuse_if_held(place: SinkInterval, state: TokenState) -> None:
    """Raise FS7501 when the token is held by someone who lives."""
    if not is_held(place, state):
        return
    record = read_lease(place, state.token)
    who = record.attempt
    raise LeaseConflict(
        "FS7501",
        f"{place} is held by {who.user}@{who.host} (pid {record.pid}) since {who.started_at}, run {who.run_id}. "
        "Nothing was done.",
        hint=f"Wait for it, or end that process. If it is gone already, the lease runs out {record.ttl_s:g} s "
        "after its last heartbeat; run again then.",
    )


def is_held(place: SinkInterval, state: TokenState) -> bool:
    """Whether the holder of a token lives, as far as anyone can see."""
    if state.released or state.abandoned:
        return False
    record = read_lease(place, state.token)
    if is_dead(record.machine, record.pid, record.process_start):
        return False
    return now_ms(place) - state.seen_ms <= record.ttl_s * 1000


def release(place: SinkInterval, token: int) -> None:
    """Mark a token as done. Its beat is of no use any more."""
    _mark(place, token, "released")
    place.storage.delete(place.file("lease", token, "beat"))


def now_ms(place: SinkInterval) -> int:
    """The time by the storage's clock: the only one that all drivers share. A fresh file tells it."""
    path = join(place.folder("lease"), f".clock-{secrets.token_hex(8)}")
    try:
        return place.storage.replace(path, b"").modified_ms
    finally:
        place.storage.delete(path)


def _mark(place: SinkInterval, token: int, suffix: str) -> None:
    # A folder: HDFS makes one without any DataNode, and an empty file only where a block would have room.
    place.storage.mkdirs(place.file("lease", token, suffix))


_ADAPTER = TypeAdapter(LeaseRecord)
