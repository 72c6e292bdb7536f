"""The swap: replace old directories with staged ones by atomic renames.

For each planned directory `p` of token T::

    sink/p --(1)--> versions/T/p        if the sink has an old directory
    staging/T/p --(2)--> sink/p         if a new directory is staged

Each step is one atomic rename that fails when its target exists. It therefore happens once, even if several processes run it: the
holder, a successor that rolls it forward, both at the same time, or a zombie (a paused driver that continues days later). A zombie
does no harm, even when newer tokens have published to `sink/p`:

- (1) cannot move newer data. `versions/T/p` already exists: the first (1) filled it, or a process that found nothing to move created
  it empty ("sealed"), so the rename fails. After old versions are pruned, the parent folder of `versions/T/p` does not exist, so the
  rename fails too. No process creates a folder in `versions/T` after the journal: sealing renames an empty folder that was created
  elsewhere, and pruning moves `versions/T` by one rename before it deletes files.
- (2) cannot restore old data: the first (2) moved `staging/T/p`, and no other process writes there.
- A directory without an old version has only step (2).
- A rollback publishes the versions of an older token O. It first moves `versions/O` to its own staging by one rename, as pruning
  does. After that, (1) of a zombie of O has no target folder, and fails.

A failed rename is therefore never retried in (1), and in (2) only while `staging/T/p` exists.
"""

from __future__ import annotations

import secrets
from dataclasses import replace

from firesteel.conf.errors import StorageError
from firesteel.pipelines.events import Event, OnEvent
from firesteel.pipelines.publish.journal import Directory, Journal
from firesteel.pipelines.publish.lease import mark_journaled
from firesteel.pipelines.publish.permit import Permission
from firesteel.pipelines.publish.presence import missing_files
from firesteel.pipelines.publish.state_store import SinkInterval
from firesteel.pipelines.storage.paths import join, parent_of


def prepare(
    sink_interval: SinkInterval, token: int, directories: tuple[Directory, ...], reuses: tuple[int, ...]
) -> None:
    """Create the target folders of step (1) and of a rollback, before the journal and never after it (see above)."""
    if reuses:
        sink_interval.storage.mkdirs(sink_interval.staging(token))
    folders = {parent_of(sink_interval.version(token, item.path)) for item in directories if item.had_previous}
    for folder in sorted(folders):
        sink_interval.storage.mkdirs(folder)


def swap(permission: Permission, journal: Journal, on_event: OnEvent, *, resumed: bool = False) -> None:
    """Run the remaining renames of a journal's swap. Each successful rename emits an event.

    Parameters
    ----------
    resumed
        Look first which directories have been swapped, so that a version that was deleted by hand is not filled with new data.

    Raises
    ------
    NotAllowed
        FS7601 when a path leads to a place that a policy does not allow. All paths are checked before the first rename, and each again
        just before its own.
    """
    sink_interval = permission.sink_interval
    permission.check(*(join(journal.sink_path, directory.path) for directory in journal.directories))
    mark_journaled(sink_interval, journal.token)
    for older in journal.reuses:
        source, target = sink_interval.versions(older), sink_interval.reused(journal.token, older)
        permission.check(source, target)
        try:
            sink_interval.storage.rename(source, target)
        except StorageError as error:
            if error.code not in {"FS8003", "FS8004"}:  # already moved
                raise
    for directory in journal.directories:
        if resumed and directory.staged and not _is_staged(sink_interval, journal, directory):
            continue
        facts: dict[str, object] = {"directory": directory.path, "token": journal.token}
        if directory.had_previous and _retire(permission, journal, directory):
            on_event(Event("partition_retired", sink_interval.interval, facts))
        if directory.staged and _move_in(permission, journal, directory):
            on_event(Event("partition_published", sink_interval.interval, facts))


def what_is_lost(sink_interval: SinkInterval, journal: Journal) -> str:
    """Return why a swap cannot be finished, as a phrase; empty if it can. Only a person or another program deletes these files."""
    storage = sink_interval.storage
    moved = []
    for directory in journal.directories:
        waits = (
            _is_staged(sink_interval, journal, directory)
            if directory.staged
            else storage.status(join(journal.sink_path, directory.path)) is not None
        )
        if directory.staged and not waits:
            moved.append(directory.path)
        folder = parent_of(sink_interval.version(journal.token, directory.path))
        if waits and directory.had_previous and storage.status(folder) is None:
            return f"{folder} was deleted, where the replaced files go"
    files = tuple(file for file in journal.record.files if any(_within(file.path, path) for path in moved))
    (missing,) = missing_files(storage, journal.sink_path, [replace(journal.record, files=files)])
    return f"staged files were deleted, such as {missing[0]} ({len(missing):,} in all)" if missing else ""


def block(sink_interval: SinkInterval, journal: Journal) -> None:
    """Give up a swap that cannot be finished: no zombie moves newer data out of the sink."""
    for directory in journal.directories:
        if directory.had_previous:
            _seal(sink_interval, sink_interval.version(journal.token, directory.path))


def _within(path: str, directory: str) -> bool:
    return not directory or path == directory or path.startswith(f"{directory}/")


def _is_staged(sink_interval: SinkInterval, journal: Journal, directory: Directory) -> bool:
    storage = sink_interval.storage
    if storage.status(_staged(sink_interval, journal, directory)) is not None:
        return True
    older = directory.source  # a rollback that died before it had taken the older token's versions
    return bool(older) and storage.status(sink_interval.version(older, directory.path)) is not None


def _staged(sink_interval: SinkInterval, journal: Journal, directory: Directory) -> str:
    """Return the folder that step (2) moves into the sink."""
    if directory.source:
        return join(sink_interval.reused(journal.token, directory.source), "data", directory.path)
    return join(sink_interval.staging(journal.token), directory.path)


def _retire(permission: Permission, journal: Journal, directory: Directory) -> bool:
    sink_interval = permission.sink_interval
    slot = sink_interval.version(journal.token, directory.path)
    source = join(journal.sink_path, directory.path)
    permission.check(source, slot)
    try:
        sink_interval.storage.rename(source, slot)
    except StorageError as error:
        if error.code == "FS8004":
            return False
        if error.code != "FS8003":
            raise
        # Another process moved it, it was pruned, or a person removed it.
        _seal(sink_interval, slot)
        return False
    return True


def _seal(sink_interval: SinkInterval, slot: str) -> None:
    """Create an empty folder at `slot`, so that a zombie cannot move newer data there."""
    seal = join(sink_interval.folder("seal"), secrets.token_hex(8))
    sink_interval.storage.mkdirs(seal)
    try:
        sink_interval.storage.rename(seal, slot)
    except StorageError as error:
        sink_interval.storage.delete(seal)
        if error.code not in {"FS8003", "FS8004"}:  # pruned or filled, which also blocks a zombie
            raise


def _move_in(permission: Permission, journal: Journal, directory: Directory) -> bool:
    sink_interval = permission.sink_interval
    storage = sink_interval.storage
    source = _staged(sink_interval, journal, directory)
    target = join(journal.sink_path, directory.path)
    permission.check(source, target)
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
            hint="Move the files that another program wrote there, then run `firesteel recover`.",
        ) from error
    return True
