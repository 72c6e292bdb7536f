"""The journal of a token: a file that is written once and decides whether the token publishes.

::

                      the holder creates its journal        any process runs the swap: roll forward
    journal/<token> --+-----------------------------------> JOURNALED -----------------------------> published
       (absent)       |
                      +-----------------------------------> FENCED ------> staging deleted, "died"
                      its successor creates a tombstone

Both write to the same path with `Storage.create`, so exactly one succeeds. A driver that counts as dead can therefore never start to
publish. The file must outlive every zombie: it is deleted after 30 days at the earliest (`cleanup.prune_journals`).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Literal

from pydantic import TypeAdapter

from firesteel.conf.errors import LeaseConflict, StorageError
from firesteel.conf.signing import signed_message, signing_key
from firesteel.pipelines.publish.envelope import decode, encode, invalid
from firesteel.pipelines.publish.records import LedgerRecord
from firesteel.pipelines.publish.state_store import SinkInterval


@dataclass(frozen=True, slots=True)
class Directory:
    """A planned directory, relative to the sink: whether the sink has an old one, and whether a new one is staged.

    For an append, `path` is a file. `source` is the older token whose version a rollback restores, or 0.
    """

    path: str
    had_previous: bool
    staged: bool
    source: int = 0


@dataclass(frozen=True, slots=True)
class Journal:
    """All data that another process needs to finish a publish."""

    kind: Literal["journal"]
    token: int
    run_id: str
    sink_path: str
    directories: tuple[Directory, ...]
    record: LedgerRecord
    reuses: tuple[int, ...] = ()
    """Older tokens whose versions a rollback restores."""
    key: str = ""
    signature: str = ""
    """The signature of the run that wrote the journal, and the fingerprint of its key: another run publishes what the journal says."""


@dataclass(frozen=True, slots=True)
class Tombstone:
    """States that the token will never publish."""

    kind: Literal["tombstone"]
    fenced_by: int
    run_id: str
    cancelled: bool = False


def write_journal(sink_interval: SinkInterval, journal: Journal) -> None:
    """Sign the journal, if a key is configured, and write it: decide that the token publishes.

    Raises
    ------
    LeaseConflict
        FS7502 when a successor has fenced the token, FS7503 when a user has cancelled it.
    """
    if key := signing_key(sink_interval.store.signing_key):
        journal = replace(journal, key=key.public.fingerprint)
        journal = replace(journal, signature=key.sign(signed_bytes(sink_interval, journal)))
    decision = _decide(sink_interval, journal.token, journal)
    if isinstance(decision, Tombstone) and decision.cancelled:
        raise LeaseConflict(
            "FS7503",
            f"{sink_interval}: {decision.run_id} cancelled run {journal.run_id}. The interval was not published.",
        )
    if isinstance(decision, Tombstone):
        raise LeaseConflict(
            "FS7502",
            f"{sink_interval}: run {decision.run_id} (token {decision.fenced_by}) took over the lease (token {journal.token}). This "
            "run did not publish the interval.",
            hint="Use the result of the other run; this driver sent no heartbeat for too long.",
        )
    if decision.run_id != journal.run_id:
        raise StorageError(
            "FS8004",
            f"{sink_interval.file('journal', journal.token)} contains the journal of run {decision.run_id}.",
            hint="Restore the lease folder: it was edited, and a token was used twice.",
        )


def signed_bytes(sink_interval: SinkInterval, journal: Journal) -> bytes:
    """Return what a journal's signature covers: the storage, the place in it, and the content."""
    store = sink_interval.store
    content = {
        "storage": store.location(store.base),
        "pipeline": store.pipeline,
        "identity": sink_interval.identity("journal", journal.token),
        "body": asdict(replace(journal, signature="")),
    }
    return signed_message("journal", content)


def fence(sink_interval: SinkInterval, token: int, *, by: int, run_id: str, cancelled: bool = False) -> Journal | None:
    """Write a tombstone: decide that the token does not publish. If its journal exists, return it, to be rolled forward."""
    path = sink_interval.file("journal", token)
    marker = sink_interval.file("lease", token, "journaled")
    if sink_interval.storage.status(marker) is not None and sink_interval.storage.status(path) is None:
        raise invalid(
            path,
            f"the journal of {sink_interval}, token {token}, is missing, although it was written.",
            f"Restore the file from a backup. Without one, delete {marker} and run `firesteel recover`: it discards the attempt. "
            "Then run the interval again; `firesteel verify` lists files of the attempt that are left in the sink.",
        )
    decision = _decide(sink_interval, token, Tombstone("tombstone", by, run_id, cancelled))
    return decision if isinstance(decision, Journal) else None


def read_journal(sink_interval: SinkInterval, token: int) -> Journal:
    """Return the journal of a token that has published. Raise FS8006 when it has none."""
    path = sink_interval.file("journal", token)
    decision = read_decision(sink_interval, token)
    if isinstance(decision, Tombstone):
        raise invalid(path, f"the file is a tombstone: token {token} never published.", _HINT)
    return decision


def _decide(sink_interval: SinkInterval, token: int, decision: Journal | Tombstone) -> Journal | Tombstone:
    """Write the decision, and return the one that was written first."""
    path = sink_interval.file("journal", token)
    try:
        sink_interval.storage.create(path, encode(sink_interval.identity("journal", token), decision))
    except StorageError as error:
        if error.code != "FS8004":
            raise
        return read_decision(sink_interval, token)
    return decision


def read_decision(sink_interval: SinkInterval, token: int) -> Journal | Tombstone:
    """Return the journal of a token, or its tombstone. Raise FS8006 when it is missing or not valid."""
    path = sink_interval.file("journal", token)
    if sink_interval.storage.status(path) is None:
        raise invalid(path, f"the journal of {sink_interval}, token {token}, is missing.", _HINT)
    decision = decode(_ADAPTER, sink_interval.storage.read(path), path, sink_interval.identity("journal", token), _HINT)
    if isinstance(decision, Journal) and not decision.token == decision.record.token == token:
        raise invalid(path, f"the journal contradicts itself: it speaks of another token than {token}.", _HINT)
    return decision


_HINT = "Restore the file from a backup; without it, it is unknown what this attempt published."

_ADAPTER: TypeAdapter[Journal | Tombstone] = TypeAdapter(Journal | Tombstone)
