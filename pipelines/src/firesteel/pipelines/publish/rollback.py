"""Rollback: restore an earlier version of an interval from its retained versions.

Every publish moves the directories that it replaces to `versions/<its token>`. The state before token T is therefore, for each
directory, the version of the *oldest* publish since T that planned the directory. A rollback is an ordinary publish: it holds a lease,
writes a journal before the first rename, is rolled forward after a kill, and is recorded in the ledger and the audit log. The
versions that it replaces are retained, so a rollback can be rolled back.
"""

from __future__ import annotations

from firesteel.conf.errors import StorageError
from firesteel.pipelines.events import OnEvent, ignore
from firesteel.pipelines.publish.cleanup import KEEP_VERSIONS
from firesteel.pipelines.publish.journal import Directory, read_journal
from firesteel.pipelines.publish.lease import Attempt
from firesteel.pipelines.publish.ledger import Ledger
from firesteel.pipelines.publish.records import LedgerRecord
from firesteel.pipelines.publish.staging import with_digests, within
from firesteel.pipelines.publish.state_store import SinkInterval, StateStore
from firesteel.pipelines.publish.transaction import Transaction
from firesteel.pipelines.storage.paths import join


def rollback(
    store: StateStore,
    sink: str,
    sink_path: str,
    interval: str,
    attempt: Attempt,
    *,
    to: str = "",
    on_event: OnEvent = ignore,
    keep_versions: int = KEEP_VERSIONS,
) -> LedgerRecord:
    """Undo the latest publish of an interval, or all publishes after the run `to`, and return the ledger record.

    Raises
    ------
    StorageError
        FS8010 when there is nothing to undo, when `to` did not publish, or when a version is no longer retained or was changed. Nothing
        was changed then.
    LeaseConflict
        FS7501 when another driver holds the interval.
    """
    with Transaction.begin(
        store, sink, sink_path, interval, attempt, on_event=on_event, keep_versions=keep_versions
    ) as transaction:
        sink_interval = SinkInterval(store, sink, interval)
        published = Ledger(store).publishes(sink, interval, transaction.location)
        undone = _undone(sink_interval, published, to)
        before = [record for record in published if record.token < undone[0].token]
        directories = _directories(sink_interval, transaction.sink_path, undone)
        restored = before[-1] if before else None
        if restored is not None:
            _check_content(sink_interval, directories, restored)
        return transaction.restore(directories, restored)


def _undone(sink_interval: SinkInterval, published: list[LedgerRecord], to: str) -> list[LedgerRecord]:
    if not published:
        raise StorageError(
            "FS8010", f"{sink_interval}: nothing was published.", hint="List the attempts with `firesteel history`."
        )
    # Audits after the latest publish have changed no file.
    latest = max((at for at, record in enumerate(published) if record.action != "audit"), default=0)
    if not to:
        return published[latest:]
    target = next((record.token for record in published if record.run_id == to), None)
    if target is None or target >= published[latest].token:
        others = ", ".join(record.run_id for record in published[:-1]) or "none"
        what = "has published nothing here" if target is None else "is already the published version"
        raise StorageError("FS8010", f"{sink_interval}: run {to} {what}.", hint=f"Use an earlier run: {others}.")
    return [record for record in published if record.token > target]


def _directories(sink_interval: SinkInterval, sink_path: str, undone: list[LedgerRecord]) -> tuple[Directory, ...]:
    storage = sink_interval.storage
    directories: dict[str, Directory] = {}
    for record in undone:  # oldest first: its version is the state before all of them
        for replaced in _replaced(sink_interval, record):
            path = replaced.path
            if path in directories:
                continue
            if any(_overlap(path, other) for other in directories):
                raise StorageError(
                    "FS8010",
                    f"{sink_interval}: {path} overlaps with a directory of another run; the runs cannot be undone together.",
                    hint="Roll back one run at a time.",
                )
            source = record.token if replaced.had_previous else 0
            if source and storage.status(sink_interval.version(source, path)) is None:
                raise StorageError(
                    "FS8010",
                    f"{sink_interval}: the version of {path or 'the sink'} that run {record.run_id} replaced is no longer retained.",
                    hint="Run the older spec again with --force, and raise `retain.versions` for later rollbacks.",
                )
            exists = storage.status(join(sink_path, path)) is not None
            directories[path] = Directory(path, had_previous=exists, staged=bool(source), source=source)
    return tuple(directories.values())


def _check_content(sink_interval: SinkInterval, directories: tuple[Directory, ...], restored: LedgerRecord) -> None:
    """Compare the files of retained versions with those that were published: others may be able to write where they wait.

    Raises
    ------
    StorageError
        FS8010 naming the first file that was changed or lost.
    """
    storage = sink_interval.storage
    for source in {directory.source for directory in directories if directory.source}:
        paths = [directory.path for directory in directories if directory.source == source]
        root = sink_interval.version(source, "")
        files = tuple(file for file in restored.files if any(within(file.path, path) for path in paths))
        statuses = {file: storage.status(join(root, file.path)) for file in files}
        changed = [file for file, status in statuses.items() if status is None or status.length != file.length]
        same = tuple(file for file in files if file.digest and file not in changed)
        now = with_digests(storage, root, same)
        changed += [file for file, other in zip(same, now, strict=True) if file.digest != other.digest]
        if changed:
            raise StorageError(
                "FS8010",
                f"{sink_interval}: {join(root, changed[0].path)} is not the file that run {restored.run_id} published: it was changed or "
                "lost. Nothing was changed.",
                hint="Restore the file from a backup, or run the older spec again with --force.",
            )


def _replaced(sink_interval: SinkInterval, record: LedgerRecord) -> tuple[Directory, ...]:
    if sink_interval.storage.status(sink_interval.file("journal", record.token)) is None:
        raise StorageError(
            "FS8010",
            f"{sink_interval}: the journal of run {record.run_id} was deleted, so it is unknown what the run replaced.",
            hint="firesteel keeps journals for 30 days at least. Restore it from a backup, or run the older spec again with `firesteel run --force`.",
        )
    return read_journal(sink_interval, record.token).directories


def _overlap(left: str, right: str) -> bool:
    return not left or not right or left.startswith(f"{right}/") or right.startswith(f"{left}/")
