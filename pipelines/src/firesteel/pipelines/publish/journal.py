"""The journal of a token: a register that is written once, and decides whether the token publishes.

::

                      the holder creates its journal        the swap runs, by whoever: roll forward
    journal/<token> --+-----------------------------------> JOURNALED -----------------------------> published
       (absent)       |
                      +-----------------------------------> FENCED ------> staging deleted, "died"
                      its successor creates a tombstone

Both write to one path with `Storage.create`, so exactly one of them wins, and there is no moment in which a driver
that was given up for dead could still begin to publish. The file stays for good: it must outlast every zombie.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Literal

from pydantic import TypeAdapter

from firesteel.conf.errors import LeaseConflict, StorageError
from firesteel.pipelines.publish.records import LedgerRecord, parsed
from firesteel.pipelines.publish.state_store import SinkInterval


@dataclass(frozen=True, slots=True)
class Directory:
    """One planned directory, relative to the sink: whether it was there before, and whether there is a new one.

    An append has one for each of its files. `source` is the older token whose version a rollback brings in, 0 for none.
    """

    path: str
    had_previous: bool
    staged: bool
    source: int = 0


@dataclass(frozen=True, slots=True)
class Journal:
    """All that is needed to finish a publish without the process that began it."""

    kind: Literal["journal"]
    token: int
    run_id: str
    sink_path: str
    directories: tuple[Directory, ...]
    record: LedgerRecord
    reuses: tuple[int, ...] = ()
    """Older tokens whose versions a rollback brings in."""


@dataclass(frozen=True, slots=True)
class Tombstone:
    """The token will never publish."""

    kind: Literal["tombstone"]
    fenced_by: int
    run_id: str
    cancelled: bool = False


def write_journal(place: SinkInterval, journal: Journal) -> None:
    """Decide for publishing.

    Raises
    ------
    LeaseConflict
        FS7502 when a successor has decided against it, FS7503 when somebody has cancelled it.
    """
    found = _decide(place, journal.token, journal)
    if isinstance(found, Tombstone) and found.cancelled:
        raise LeaseConflict(
            "FS7503", f"{place}: run {journal.run_id} was cancelled by {found.run_id}. Nothing of it was published."
        )
    if isinstance(found, Tombstone):
        raise LeaseConflict(
            "FS7502",
            f"{place}: the lease (token {journal.token}) was taken over by run {found.run_id} (token "
            f"{found.fenced_by}). Nothing of this run was published.",
            hint="This driver gave no sign of life for too long; the other one's result stands.",
        )
    if found.run_id != journal.run_id:
        raise StorageError(
            "FS8004",
            f"{place.file('journal', journal.token)} holds the journal of run {found.run_id}.",
            hint="A token was given twice: somebody changed the lease folder by hand.",
        )


def fence(place: SinkInterval, token: int, *, by: int, run_id: str, cancelled: bool = False) -> Journal | None:
    """Decide against publishing, unless the token has journaled: then its journal, to be rolled forward."""
    found = _decide(place, token, Tombstone("tombstone", by, run_id, cancelled))
    return found if isinstance(found, Journal) else None


def read_journal(place: SinkInterval, token: int) -> Journal:
    """The journal of a token that has published; FS8006 when there is none."""
    path = place.file("journal", token)
    found = _read(place, path)
    if isinstance(found, Tombstone):
        raise StorageError("FS8006", f"{path} is a tombstone: token {token} never published.")
    return found


def _decide(place: SinkInterval, token: int, wanted: Journal | Tombstone) -> Journal | Tombstone:
    """Write the register, or read what was written first."""
    path = place.file("journal", token)
    data = json.dumps(asdict(wanted), indent=2, ensure_ascii=False) + "\n"
    try:
        place.storage.create(path, data.encode())
    except StorageError as error:
        if error.code != "FS8004":
            raise
        return _read(place, path)
    return wanted


def _read(place: SinkInterval, path: str) -> Journal | Tombstone:
    hint = "Restore it. Without it nobody knows whether this attempt was published."
    return parsed(_ADAPTER, place.storage.read(path), path, "a journal", hint)


_ADAPTER: TypeAdapter[Journal | Tombstone] = TypeAdapter(Journal | Tombstone)
