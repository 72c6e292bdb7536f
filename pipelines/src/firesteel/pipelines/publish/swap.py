"""The swap: old directories out, staged ones in, one strict rename at a time.

Per planned directory `p` of token T::

    sink/p --(1)--> versions/T/p        if there was a previous one
    staging/T/p --(2)--> sink/p         if there is a new one

Each step is one atomic rename that fails when its target exists, so it happens once, whoever runs it: the holder,
a successor that rolls it forward, both at the same time, or a zombie that wakes up days later. Why the zombie is
harmless even when newer tokens have published into `sink/p` since:

- (1) cannot move the newer data away. `versions/T/p` is there already, filled by the first (1), or made empty by
  whoever found nothing to move ("sealed"): the rename fails. And once old versions have been pruned, the folder
  that holds `versions/T/p` is gone, and the rename fails too: no folder below `versions/T` is made after the journal,
  not even to seal (that is a rename of an empty folder made elsewhere), and pruning moves `versions/T` away whole
  before it deletes anything.
- (2) cannot bring old data back: `staging/T/p` was moved by the first (2), and no one else writes there.
- a directory that had no previous one has only (2).
- a rollback brings in what an older token O retired. It first moves `versions/O` whole below its own staging, by one
  rename, as pruning does: from then on (1) of a zombie of O finds no folder to move into, and fails.

So a failed rename is never tried a second time in (1), and in (2) only while `staging/T/p` still exists.
"""

from __future__ import annotations

import secrets

from firesteel.conf.errors import StorageError
from firesteel.pipelines.events import Event, OnEvent
from firesteel.pipelines.publish.journal import Directory, Journal
from firesteel.pipelines.publish.state_store import SinkInterval
from firesteel.pipelines.storage.paths import join, parent_of


def prepare(place: SinkInterval, token: int, directories: tuple[Directory, ...], reuses: tuple[int, ...]) -> None:
    """Make the folders that step (1) and a rollback move into. Before the journal, and never after it: see above."""
    if reuses:
        place.storage.mkdirs(place.staging(token))
    folders = {parent_of(place.version(token, each.path)) for each in directories if each.had_previous}
    for folder in sorted(folders):
        place.storage.mkdirs(folder)


def swap(place: SinkInterval, journal: Journal, on_event: OnEvent) -> None:
    """Run what is left of a journal's swap. An event follows every rename that was made here."""
    for older in journal.reuses:
        try:
            place.storage.rename(place.versions(older), place.reused(journal.token, older))
        except StorageError as error:
            if error.code not in {"FS8003", "FS8004"}:  # moved already, by whoever
                raise
    for directory in journal.directories:
        facts: dict[str, object] = {"directory": directory.path, "token": journal.token}
        if directory.had_previous and _retire(place, journal, directory):
            on_event(Event("partition_retired", place.interval, facts))
        if directory.staged and _bring_in(place, journal, directory):
            on_event(Event("partition_published", place.interval, facts))


def _retire(place: SinkInterval, journal: Journal, directory: Directory) -> bool:
    slot = place.version(journal.token, directory.path)
    try:
        place.storage.rename(join(journal.sink_path, directory.path), slot)
    except StorageError as error:
        if error.code == "FS8004":
            return False
        if error.code != "FS8003":
            raise
        # Moved by another one, pruned long ago, or removed by hand.
        _seal(place, slot)
        return False
    return True


def _seal(place: SinkInterval, slot: str) -> None:
    """Fill a slot with an empty folder, so that a zombie cannot move later data there."""
    seal = join(place.folder("seal"), secrets.token_hex(8))
    place.storage.mkdirs(seal)
    try:
        place.storage.rename(seal, slot)
    except StorageError as error:
        place.storage.delete(seal)
        if error.code not in {"FS8003", "FS8004"}:  # pruned, or filled: both are as good
            raise


def _bring_in(place: SinkInterval, journal: Journal, directory: Directory) -> bool:
    storage = place.storage
    token = journal.token
    old = directory.source
    source = (
        join(place.reused(token, old), "data", directory.path) if old else join(place.staging(token), directory.path)
    )
    target = join(journal.sink_path, directory.path)
    try:
        try:
            storage.rename(source, target)
        except StorageError as error:
            if error.code != "FS8003" or storage.status(source) is None:
                raise
            storage.mkdirs(parent_of(target))
            storage.rename(source, target)
    except StorageError as error:
        if error.code not in {"FS8003", "FS8004"}:
            raise
        if storage.status(source) is None:
            return False
        raise StorageError(
            error.code,
            f"{storage.base_uri}{target} cannot be published: {error.what}",
            hint="Something other than firesteel wrote there meanwhile. Move it away, then run `firesteel recover`.",
        ) from error
    return True
