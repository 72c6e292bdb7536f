"""The audit log of a pipeline: a hash chain with one entry per publish and per refusal.

::

    audit/0000000001.json   {"previous": "",          "token": 1, "user": "ann", ...}
          0000000002.json   {"previous": SHA-256 of the bytes of entry 1, ...}

Entries are created exclusively, so two drivers cannot use the same number. Changing or removing an entry in the middle breaks the
chain. Removing the last entries leaves ledger records without an entry. `verify` detects both. The log detects tampering but does
not prevent it: the storage's permissions decide who can write.
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
from firesteel.pipelines.publish.sink_records import SinkRecords
from firesteel.pipelines.publish.state_store import SinkInterval, StateStore, tokens_in
from firesteel.pipelines.storage.paths import join

Create = Callable[[str, bytes], object]
"""`Storage.create`, or a replacement for it."""


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """A publish, or a publish that a policy refused (`action: refused`, `token: 0`).

    `previous` is the SHA-256 of the previous entry, `files_digest` that of the published names and lengths. `policy` lists the digests
    and rules of the policies that allowed the publish, or the reason of the refusal.
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
        """Return the identity of the publish, which has exactly one entry."""
        return self.profile, self.sink, self.interval, self.token


def append_entry(sink_interval: SinkInterval, record: LedgerRecord, create: Create) -> None:
    """Append the entry of a publish, if it does not exist.

    Parameters
    ----------
    create
        `Storage.create`, or a replacement for it.
    """
    while True:
        numbers = tokens_in(sink_interval.storage, _folder(sink_interval.store), "json")
        path, entry, data = _next(sink_interval, record, numbers)
        # A recovered publish may already have its entry; a dead driver's entry is among the latest.
        if record.recovered_by and any(
            read_entry(sink_interval.store, number).subject == entry.subject for number in reversed(numbers)
        ):
            return
        try:
            create(path, data)
        except StorageError as error:
            if error.code != "FS8004":  # another publish was faster: append to its entry
                raise
            continue
        return


def append_refusal(sink_interval: SinkInterval, refused: AuditEntry) -> None:
    """Append the entry of a publish that a policy refused; this function sets `previous`."""
    while True:
        numbers = tokens_in(sink_interval.storage, _folder(sink_interval.store), "json")
        path, data = _chained(sink_interval, numbers, refused)
        try:
            sink_interval.storage.create(path, data)
        except StorageError as error:
            if error.code != "FS8004":
                raise
            continue
        return


def next_entry(sink_interval: SinkInterval, record: LedgerRecord) -> tuple[str, bytes]:
    """Return the expected path and content of a publish's entry, unless another publish is faster."""
    path, _, data = _next(sink_interval, record, tokens_in(sink_interval.storage, _folder(sink_interval.store), "json"))
    return path, data


def _next(sink_interval: SinkInterval, record: LedgerRecord, numbers: list[int]) -> tuple[str, AuditEntry, bytes]:
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
    path, data = _chained(sink_interval, numbers, entry)
    return path, entry, data


def _chained(sink_interval: SinkInterval, numbers: list[int], entry: AuditEntry) -> tuple[str, bytes]:
    """Return the path of the next entry, and its content with the digest of the last entry."""
    folder = _folder(sink_interval.store)
    previous = hashlib.sha256(sink_interval.storage.read(_file(folder, numbers[-1]))).hexdigest() if numbers else ""
    data = json.dumps({**asdict(entry), "previous": previous}, indent=2, ensure_ascii=False) + "\n"
    return _file(folder, numbers[-1] + 1 if numbers else 1), data.encode()


def files_digest(record: LedgerRecord) -> str:
    """Return the SHA-256 of the published names and lengths, sorted."""
    names = sorted((file.path, file.length) for file in record.files)
    return hashlib.sha256(json.dumps(names).encode()).hexdigest()


def read_entry(store: StateStore, number: int) -> AuditEntry:
    """Return one entry. Raise FS8006 when it is not valid."""
    path = _file(_folder(store), number)
    return parsed(_ADAPTER, store.storage.read(path), path, "a valid audit entry", "Restore the file; it was edited.")


def read_audit(store: StateStore) -> list[AuditEntry]:
    """Return all entries, oldest first."""
    return [read_entry(store, number) for number in tokens_in(store.storage, _folder(store), "json")]


def verify(store: StateStore, sinks: tuple[str, ...]) -> list[str]:
    """Verify the chain, and compare it with the ledger.

    Returns
    -------
    One sentence per problem.
    """
    folder = _folder(store)
    numbers = tokens_in(store.storage, folder, "json")
    problems, previous = [], ""
    known: dict[tuple[str, str, str, int], AuditEntry] = {}
    for at, number in enumerate(numbers, 1):
        if number != at:
            problems.append(f"entry {at} is missing")
            break
        data = store.storage.read(_file(folder, number))
        try:
            entry = read_entry(store, number)
        except FiresteelError as error:
            problems.append(f"entry {number} cannot be read: {error.what}")
        else:
            if entry.previous != previous:
                problems.append(f"entry {number} does not match entry {number - 1}: one of them was edited")
            known[entry.subject] = entry
        previous = hashlib.sha256(data).hexdigest()
    for sink in sinks:
        records = Ledger(store).history(sink)
        indexed = SinkRecords(store, sink)
        if indexed.all() != records:
            problems.append(f"{sink}: the record index differs from the ledger: delete {indexed.index_path}")
        for record in records:
            if record.state != "published":
                continue
            logged = known.get((record.profile, record.sink, record.interval, record.token))
            if logged is None:
                problems.append(f"{sink} {record.interval}: the publish of token {record.token} has no entry")
            elif (logged.run_id, logged.plan_hash, logged.files_digest) != (
                record.run_id,
                record.plan_hash,
                files_digest(record),
            ):
                problems.append(
                    f"{sink} {record.interval}: the ledger record of token {record.token} differs from its entry"
                )
    return problems


def _folder(store: StateStore) -> str:
    return join(store.base, "audit")


def _file(folder: str, number: int) -> str:
    return join(folder, f"{number:010d}.json")


_ADAPTER = TypeAdapter(AuditEntry)
