"""Rollback: bring back what an interval was, from the versions that its publishes retired.

Every publish moves the directories that it replaces to `versions/<its token>`. What the sink was before token T is therefore,
for each directory, the version of the *oldest* publish since T that planned it. Bringing those back is a publish like any
other: leased, journaled before the first rename, rolled forward after a kill, entered into ledger and audit log. What it
replaces is retained in turn, so a rollback can be rolled back.
"""

from __future__ import annotations

from firesteel.conf.errors import StorageError
from firesteel.pipelines.events import OnEvent, ignore
from firesteel.pipelines.publish.cleanup import KEEP_VERSIONS
from firesteel.pipelines.publish.journal import Directory, read_journal
from firesteel.pipelines.publish.lease import Attempt
from firesteel.pipelines.publish.ledger import Ledger
from firesteel.pipelines.publish.records import LedgerRecord
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
    """Undo the newest publish of an interval, or all after the run `to`.

    Raises
    ------
    StorageError
        FS8010 when there is nothing to undo, when `to` did not publish, or when a version is not retained any more.
        Nothing was done then.
    LeaseConflict
        FS7501 when a driver is at work on the interval.
    """
    with Transaction.begin(
        store, sink, sink_path, interval, attempt, on_event=on_event, keep_versions=keep_versions
    ) as transaction:
        place = SinkInterval(store, sink, interval)
        published = [each for each in Ledger(store).history(sink, interval) if each.state == "published"]
        published.sort(key=lambda each: each.token)
        undone = _undone(place, published, to)
        before = [each for each in published if each.token < undone[0].token]
        directories = _directories(place, transaction.sink_path, undone)
        return transaction.restore(directories, before[-1] if before else None)


def _undone(place: SinkInterval, published: list[LedgerRecord], to: str) -> list[LedgerRecord]:
    if not published:
        raise StorageError("FS8010", f"{place}: nothing was published.", hint="See `firesteel history`.")
    if not to:
        return published[-1:]
    target = next((each.token for each in published if each.run_id == to), None)
    if target is None or target == published[-1].token:
        others = ", ".join(each.run_id for each in published[:-1]) or "none"
        what = "has published nothing here" if target is None else "is what is published now"
        raise StorageError("FS8010", f"{place}: run {to} {what}.", hint=f"Runs before the newest: {others}.")
    return [each for each in published if each.token > target]


def _directories(place: SinkInterval, sink_path: str, undone: list[LedgerRecord]) -> tuple[Directory, ...]:
    storage = place.storage
    found: dict[str, Directory] = {}
    for record in undone:  # oldest first: its version is what was there before all of them
        for each in read_journal(place, record.token).directories:
            if each.path in found:
                continue
            if any(_overlap(each.path, other) for other in found):
                raise StorageError(
                    "FS8010",
                    f"{place}: {each.path} and what other runs published overlap; they cannot be undone together.",
                    hint="Roll back one run at a time.",
                )
            source = record.token if each.had_previous else 0
            if source and storage.status(place.version(source, each.path)) is None:
                raise StorageError(
                    "FS8010",
                    f"{place}: what run {record.run_id} replaced in {each.path or 'the sink'} is not retained any more.",
                    hint="Raise `retain.versions` for the next time; run the older spec again with --force for now.",
                )
            here = storage.status(join(sink_path, each.path)) is not None
            found[each.path] = Directory(each.path, had_previous=here, staged=bool(source), source=source)
    return tuple(found.values())


def _overlap(left: str, right: str) -> bool:
    return not left or not right or left.startswith(f"{right}/") or right.startswith(f"{left}/")
