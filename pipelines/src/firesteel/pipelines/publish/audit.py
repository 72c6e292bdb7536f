"""The audit log of a pipeline: who published what by which plan, and who was refused; one hash-chained entry each.

::

    audit/0000000001.json   {"previous": "",          "token": 1, "user": "ann", ...}
          0000000002.json   {"previous": SHA-256 of the bytes of entry 1, ...}

Entries are created exclusively, so that two drivers never have the same number. Whoever changes or removes an entry in the
middle breaks the chain; whoever removes the last ones leaves ledger records without an entry. `verify` looks for both.
The log says that something was tampered with. It does not keep those away who may write the storage: file modes do.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass

from pydantic import TypeAdapter

from firesteel.conf.errors import FiresteelError, StorageError
from firesteel.pipelines.publish.ledger import Ledger
from firesteel.pipelines.publish.records import LedgerRecord, parsed
from firesteel.pipelines.publish.state_store import SinkInterval, StateStore, tokens_in
from firesteel.pipelines.storage.paths import join

Create = Callable[[str, bytes], object]
"""`Storage.create`, or what does the same."""


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One publish, or one that a policy refused (`action: refused`, `token: 0`).

    `previous` is the SHA-256 of the entry before, `files_digest` of the names and lengths published. `policy` is what allowed
    it: digests of policies and their rules; or why they did not.
    """

    previous: str
    pipeline: str
    profile: str
    sink: str
    interval: str
    token: int
    action: str
    run_id: str
    plan_hash: str
    user: str
    host: str
    at: str
    files: int
    files_digest: str
    policy: str = ""

    @property
    def subject(self) -> tuple[str, str, str, int]:
        """What the entry is about: there is one entry for each."""
        return self.profile, self.sink, self.interval, self.token


def append_entry(place: SinkInterval, record: LedgerRecord, create: Create) -> None:
    """Add the entry of a publish, once.

    Parameters
    ----------
    create
        `Storage.create`, or what does the same.
    """
    while True:
        numbers = tokens_in(place.storage, _folder(place.store), "json")
        path, entry, data = _next(place, record, numbers)
        # A publish that is finished for another one may have its entry already; a dead driver's is among the newest.
        if record.recovered_by and any(
            read_entry(place.store, number).subject == entry.subject for number in reversed(numbers)
        ):
            return
        try:
            create(path, data)
        except StorageError as error:
            if error.code != "FS8004":  # another publish came first: chain to that
                raise
            continue
        return


def append_refusal(place: SinkInterval, refused: AuditEntry) -> None:
    """Add the entry of a publish that a policy refused; `previous` is filled in."""
    while True:
        numbers = tokens_in(place.storage, _folder(place.store), "json")
        path, data = _chained(place, numbers, refused)
        try:
            place.storage.create(path, data)
        except StorageError as error:
            if error.code != "FS8004":
                raise
            continue
        return


def next_entry(place: SinkInterval, record: LedgerRecord) -> tuple[str, bytes]:
    """Where the entry of a publish would lie, and its bytes, if nobody is faster."""
    path, _, data = _next(place, record, tokens_in(place.storage, _folder(place.store), "json"))
    return path, data


def _next(place: SinkInterval, record: LedgerRecord, numbers: list[int]) -> tuple[str, AuditEntry, bytes]:
    entry = AuditEntry(
        previous="",
        pipeline=record.pipeline,
        profile=record.profile,
        sink=record.sink,
        interval=record.interval,
        token=record.token,
        action=record.action,
        run_id=record.run_id,
        plan_hash=record.plan_hash,
        user=record.user,
        host=record.host,
        at=record.ended_at,
        files=len(record.files),
        files_digest=files_digest(record),
        policy=record.policy,
    )
    path, data = _chained(place, numbers, entry)
    return path, entry, data


def _chained(place: SinkInterval, numbers: list[int], entry: AuditEntry) -> tuple[str, bytes]:
    """Where the next entry lies, and its bytes with the digest of the last one."""
    folder = _folder(place.store)
    previous = hashlib.sha256(place.storage.read(_file(folder, numbers[-1]))).hexdigest() if numbers else ""
    data = json.dumps({**asdict(entry), "previous": previous}, indent=2, ensure_ascii=False) + "\n"
    return _file(folder, numbers[-1] + 1 if numbers else 1), data.encode()


def files_digest(record: LedgerRecord) -> str:
    """SHA-256 of the published names and lengths, in order."""
    names = sorted((file.path, file.length) for file in record.files)
    return hashlib.sha256(json.dumps(names).encode()).hexdigest()


def read_entry(store: StateStore, number: int) -> AuditEntry:
    """One entry; FS8006 when it cannot be read."""
    path = _file(_folder(store), number)
    return parsed(_ADAPTER, store.storage.read(path), path, "an audit entry", "It was changed: restore it.")


def read_audit(store: StateStore) -> list[AuditEntry]:
    """All entries, oldest first."""
    return [read_entry(store, number) for number in tokens_in(store.storage, _folder(store), "json")]


def verify(store: StateStore, sinks: tuple[str, ...]) -> list[str]:
    """Hold the chain together, and the ledger against it.

    Returns
    -------
    One sentence for each thing that is wrong; nothing when all holds.
    """
    folder = _folder(store)
    numbers = tokens_in(store.storage, folder, "json")
    wrong, previous = [], ""
    known: dict[tuple[str, str, str, int], AuditEntry] = {}
    for at, number in enumerate(numbers, 1):
        if number != at:
            wrong.append(f"entry {at} is missing")
            break
        data = store.storage.read(_file(folder, number))
        try:
            entry = read_entry(store, number)
        except FiresteelError as error:
            wrong.append(f"entry {number} cannot be read: {error.what}")
        else:
            if entry.previous != previous:
                wrong.append(f"entry {number} does not follow entry {number - 1}: one of them was changed")
            known[entry.subject] = entry
        previous = hashlib.sha256(data).hexdigest()
    for sink in sinks:
        for record in Ledger(store).history(sink):
            if record.state != "published":
                continue
            found = known.get((record.profile, record.sink, record.interval, record.token))
            if found is None:
                wrong.append(f"{sink} {record.interval}: token {record.token} was published without an entry")
            elif (found.run_id, found.plan_hash, found.files_digest) != (
                record.run_id,
                record.plan_hash,
                files_digest(record),
            ):
                wrong.append(f"{sink} {record.interval}: the ledger of token {record.token} is not what was entered")
    return wrong


def _folder(store: StateStore) -> str:
    return join(store.base, "audit")


def _file(folder: str, number: int) -> str:
    return join(folder, f"{number:010d}.json")


_ADAPTER = TypeAdapter(AuditEntry)
