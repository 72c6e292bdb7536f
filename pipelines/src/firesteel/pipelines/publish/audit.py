"""The audit log of a pipeline: a hash chain with one entry per publish and per refusal.

::

    audit/0000000001.json   {"previous": "",          "token": 1, "user": "ann", ...}
          0000000002.json   {"previous": SHA-256 of the bytes of entry 1, ...}

Entries are created exclusively, so two drivers cannot use the same number. Changing or removing an entry in the middle breaks the
chain. Removing the last entries leaves ledger records without an entry, and an edited entry differs from its ledger record, also at the
end of the chain and with recomputed hashes. `verify` detects all of these. The log detects tampering but does not prevent it: the
storage's permissions decide who can write. With `security.signing_key`, each entry is signed (`audit_signatures` verifies it). Without a
key, a person who changes log, ledger and sink alike is detected only by a head of the log that somebody else has kept (`head`,
`verify_heads`); with a key, only the removal of entries at the end needs a head.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

from pydantic import TypeAdapter

from firesteel.conf.errors import FiresteelError, NotAllowed, StorageError, Where
from firesteel.conf.signing import signed_message, signing_key
from firesteel.pipelines.publish.envelope import decode, encode, invalid
from firesteel.pipelines.publish.ledger import Ledger
from firesteel.pipelines.publish.records import LedgerRecord
from firesteel.pipelines.publish.sink_records import SinkRecords
from firesteel.pipelines.publish.state_store import SinkInterval, StateStore, tokens_in
from firesteel.pipelines.storage.paths import join

_HEAD = re.compile(r"([0-9]{1,20}) ([0-9a-f]{64})")

Create = Callable[[str, bytes], object]
"""`Storage.create`, or a replacement for it."""


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """A publish, or a publish that a policy refused (`action: refused`, `token: 0`).

    `previous` is the SHA-256 of the previous entry, `files_digest` that of the names, lengths and digests of the published files, `record`
    that of the ledger record. `policy` lists the digests and rules of the policies that allowed the publish, or the reason of the refusal.
    `location` is the sink's resolved URI, `storage` that of the state store. `key` is the fingerprint of the key that made `signature`;
    both are empty if no key is configured.
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
    record: str = ""
    location: str = ""
    storage: str = ""
    key: str = ""
    signature: str = ""

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
    tried = ""
    while True:
        numbers = entry_numbers(sink_interval.store)
        path, entry, data = _next(sink_interval, record, numbers)
        _expect_progress(path, tried)
        tried = path
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
    """Append the entry of a publish that a policy refused; this function sets `previous` and signs.

    Raises
    ------
    NotAllowed
        FS7604 when the log is signed and no key is configured.
    """
    tried, store = "", sink_interval.store
    while True:
        numbers = entry_numbers(store)
        _expect_key(store, numbers)
        path, data = _chained(sink_interval, numbers, refused)
        _expect_progress(path, tried)
        tried = path
        try:
            sink_interval.storage.inner.create(path, data)  # the caller has asked `may_record`
        except StorageError as error:
            if error.code != "FS8004":
                raise
            continue
        return


def next_entry(sink_interval: SinkInterval, record: LedgerRecord) -> tuple[str, bytes]:
    """Return the expected path and content of a publish's entry, unless another publish is faster.

    Raises
    ------
    NotAllowed
        FS7604 when the log is signed and no key is configured.
    """
    numbers = entry_numbers(sink_interval.store)
    _expect_key(sink_interval.store, numbers)
    path, _, data = _next(sink_interval, record, numbers)
    return path, data


def is_entry_signed(entry: AuditEntry) -> bool:
    """Return whether an entry has a signature, or a part of one."""
    return bool(entry.signature or entry.key)


def expect_key(store: StateStore) -> None:
    """Raise FS7604 when the log is signed and no key is configured: the next entry would look like one with its signature removed."""
    _expect_key(store, entry_numbers(store))


def _expect_key(store: StateStore, numbers: list[int]) -> None:
    if not store.signing_key and numbers and is_entry_signed(read_entry(store, numbers[-1])):
        raise NotAllowed(
            "FS7604",
            f"the audit log {store.storage.base_uri}{_folder(store)} is signed, and the spec has no `security.signing_key`. "
            "Nothing was published.",
            hint="Set `security.signing_key` in the spec; see docs/how-to/sign.md.",
        )


def _next(sink_interval: SinkInterval, record: LedgerRecord, numbers: list[int]) -> tuple[str, AuditEntry, bytes]:
    entry = entry_of(record)
    path, data = _chained(sink_interval, numbers, entry)
    return path, entry, data


def entry_of(record: LedgerRecord) -> AuditEntry:
    """Return the entry of a publish, without its place in the chain."""
    return AuditEntry(
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
        record=_record_digest(record),
        location=record.location,
    )


def _chained(sink_interval: SinkInterval, numbers: list[int], entry: AuditEntry) -> tuple[str, bytes]:
    """Return the path of the next entry, and its content with the digest of the last entry and the signature."""
    store, folder, previous = sink_interval.store, _folder(sink_interval.store), ""
    if numbers:
        read_entry(store, numbers[-1])  # an entry that cannot be believed gets no successor
        previous = _entry_digest(store, numbers[-1])
    number = numbers[-1] + 1 if numbers else 1
    entry = replace(entry, previous=previous, storage=store.location(store.base))
    if key := signing_key(store.signing_key):
        entry = replace(entry, key=key.public.fingerprint)
        entry = replace(entry, signature=key.sign(signed_bytes(number, entry)))
    return _file(folder, number), encode(_identity(number), entry)


def signed_bytes(number: int, entry: AuditEntry) -> bytes:
    """Return what an entry's signature covers: its number and everything else in it, with the hash of the previous entry."""
    body = asdict(replace(entry, signature=""))
    return signed_message("audit entry", {"identity": _identity(number), "body": body})


def _expect_progress(path: str, tried: str) -> None:
    """Stop when a file refuses to be created although a listing does not show it."""
    if path == tried:
        raise invalid(
            path,
            "the next audit entry cannot be created: a file that no listing shows is in its place.",
            "Remove it, then run `firesteel recover`.",
        )


def files_digest(record: LedgerRecord) -> str:
    """Return the SHA-256 of the published names, lengths and digests, sorted."""
    return _sha256(sorted((file.path, file.length, file.digest) for file in record.files))


def _record_digest(record: LedgerRecord) -> str:
    # A driver that dies between entry and record leaves the record to a recovery, which names itself in it.
    return _sha256(asdict(replace(record, recovered_by="")))


def _sha256(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def read_entry(store: StateStore, number: int) -> AuditEntry:
    """Return one entry. Raise FS8006 when it is not valid."""
    path = _file(_folder(store), number)
    hint = "Restore the file from a backup."
    return decode(_ADAPTER, store.storage.read(path), path, _identity(number), hint)


def entry_numbers(store: StateStore) -> list[int]:
    """Return the numbers of all entries, ascending."""
    return tokens_in(store.storage, _folder(store), "json")


def read_audit(store: StateStore) -> list[AuditEntry]:
    """Return all entries, oldest first."""
    return [read_entry(store, number) for number in entry_numbers(store)]


def head(store: StateStore) -> str:
    """Return the number and the SHA-256 of the newest entry, as one line; empty if there is none."""
    numbers = entry_numbers(store)
    return f"{numbers[-1]} {_entry_digest(store, numbers[-1])}" if numbers else ""


def verify_heads(store: StateStore, heads: str, path: str) -> list[str]:
    """Compare the log with earlier results of `head`, one a line. Return one sentence per problem.

    Raises
    ------
    StorageError
        FS8006 with the number of the first line of `path` that is no head.
    """
    numbers, problems = set(entry_numbers(store)), []
    for line_number, line in enumerate(heads.splitlines(), 1):
        match = _HEAD.fullmatch(line.strip())
        if match is None:
            hint = "Write the file with `firesteel audit head >> FILE`."
            raise StorageError(
                "FS8006", "the line is not a head of an audit log.", where=Where(path, line_number), hint=hint
            )
        number = int(match[1])
        if number not in numbers:
            problems.append(f"entry {number} was removed: line {line_number} of {path} names it")
        elif _entry_digest(store, number) != match[2]:
            problems.append(
                f"entry {number} or an earlier one was edited: line {line_number} of {path} has another hash"
            )
    return problems


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
    expected = dict[tuple[str, str, str, int], AuditEntry]()
    for sink in sinks:
        problems += _compare_index(store, sink)
        for interval in Ledger(store).intervals(sink):
            try:
                records = Ledger(store).history(sink, interval)
            except FiresteelError as error:
                problems.append(f"{sink} {interval}: the ledger cannot be read: {error.what}")
                known = {subject: entry for subject, entry in known.items() if subject[1:3] != (sink, interval)}
                continue
            published = (record for record in records if record.state == "published")
            expected |= {entry.subject: entry for entry in map(entry_of, published)}
    for subject, entry in expected.items():
        _, sink, interval, token = subject
        logged = known.get(subject)
        if logged is None:
            problems.append(f"{sink} {interval}: the publish of token {token} has no entry")
        elif replace(logged, previous="", storage="", key="", signature="") != entry:
            problems.append(f"{sink} {interval}: the ledger record of token {token} differs from its entry")
    for (profile, sink, interval, token), entry in known.items():
        ours = profile == store.profile and sink in sinks and entry.action != "refused"
        if ours and entry.subject not in expected:
            problems.append(f"{sink} {interval}: the log has a publish of token {token}, and the ledger has none")
    return problems


def _compare_index(store: StateStore, sink: str) -> list[str]:
    """Compare the index of a sink's records with the record files."""
    indexed = SinkRecords(store, sink)
    try:
        same = indexed.all() == Ledger(store).history(sink)
    except FiresteelError:
        return []  # a record cannot be read: `verify` names it
    return [] if same else [f"{sink}: the record index differs from the ledger: delete {indexed.index_path}"]


def _entry_digest(store: StateStore, number: int) -> str:
    return hashlib.sha256(store.storage.read(_file(_folder(store), number))).hexdigest()


def _folder(store: StateStore) -> str:
    return join(store.base, "audit")


def _identity(number: int) -> dict[str, str | int]:
    return {"kind": "audit", "number": number}


def _file(folder: str, number: int) -> str:
    return join(folder, f"{number:010d}.json")


_ADAPTER = TypeAdapter(AuditEntry)
