"""Decide for each interval whether to score, audit or skip it, by its hash inputs, the ledger and the files in the sinks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from firesteel.conf.errors import StorageError
from firesteel.pipelines.plan.fingerprint import Parts, changed_gates, changed_parts
from firesteel.pipelines.plan.model import IntervalPlan, SinkOutput
from firesteel.pipelines.publish.ledger import Ledger
from firesteel.pipelines.publish.presence import missing_files
from firesteel.pipelines.publish.records import LedgerRecord
from firesteel.pipelines.publish.recover import journaled
from firesteel.pipelines.publish.sink_records import SinkRecords
from firesteel.pipelines.publish.state_store import StateStore
from firesteel.pipelines.storage.identity import canonical
from firesteel.pipelines.storage.open import locate

HISTORY_RUNS = 5
"""Number of published intervals per sink that give the pipeline's speed."""


@dataclass(frozen=True, slots=True)
class Published:
    """The latest publishes of a plan's intervals and of the last intervals of each sink, by sink and interval.

    Attributes
    ----------
    sinks
        The sinks' URIs.
    records, anywhere
        The latest publishes to the sink's location, and to any location.
    unfinished
        Intervals with a journal that a dead run has not finished, by sink.
    """

    sinks: Mapping[str, str]
    records: Mapping[str, Mapping[str, LedgerRecord]]
    anywhere: Mapping[str, Mapping[str, LedgerRecord]]
    recent_intervals: Mapping[str, tuple[str, ...]]
    unfinished: Mapping[str, frozenset[str]]

    @classmethod
    def of(cls, store: StateStore, sinks: Mapping[str, str], intervals: Sequence[str]) -> Published:
        """List the names of all intervals, and the records and journals of these, so that intervals without an attempt cost no request."""
        records, anywhere, recent, unfinished = {}, {}, {}, {}
        for sink, uri in sinks.items():
            known = Ledger(store).intervals(sink)
            recent[sink] = known[-HISTORY_RUNS:]
            of_sink = SinkRecords(store, sink, sorted({*intervals, *recent[sink]}.intersection(known)))
            records[sink], anywhere[sink] = of_sink.published(canonical(uri)), of_sink.published()
            unfinished[sink] = journaled(store, sink, intervals, of_sink.latest_tokens())
        return cls(sinks, records, anywhere, recent, unfinished)

    def last(self, sink: str, interval: str) -> LedgerRecord | None:
        """Return the latest publish to the sink's location."""
        return self.records[sink].get(interval)

    def recent(self) -> list[LedgerRecord]:
        """Return the latest published attempts of the last intervals of each sink."""
        records = (
            self.last(sink, interval) for sink, intervals in self.recent_intervals.items() for interval in intervals
        )
        return [record for record in records if record is not None]

    def missing(self, sink: str, intervals: Sequence[str]) -> dict[str, tuple[str, ...]]:
        """Return the published files that the sink lacks, by interval, without intervals that are complete."""
        storage, path = locate(self.sinks[sink])
        records = [record for interval in intervals if (record := self.last(sink, interval)) is not None]
        missing = missing_files(storage, path, records)
        return {record.interval: files for record, files in zip(records, missing, strict=True) if files}


def decide(
    plans: Sequence[IntervalPlan],
    published: Published,
    *,
    force: bool,
    appends: frozenset[str] = frozenset(),
    gates: frozenset[str] = frozenset(),
    auditable: frozenset[str] = frozenset(),
) -> list[IntervalPlan]:
    """Return the intervals with their `action` and `reason`.

    Parameters
    ----------
    appends
        The sinks in mode `append_once`: a plan is never appended twice, even with `force`.
    gates, auditable
        The gates of the plan, and those that can be checked without a score.

    Raises
    ------
    StorageError
        FS8013 when files of an interval that is appended already are missing: they cannot be appended again.
    """
    decided = [
        _by_ledger(plan, published, force=force, appends=appends, gates=gates, auditable=auditable) for plan in plans
    ]
    for sink in published.sinks:
        skipped = [plan.id for plan in decided if plan.action != "score"]
        missing = published.missing(sink, skipped)
        if sink in appends and missing:
            raise lost_appends(sink, published.sinks[sink], missing)
        decided = [
            replace(plan, action="score", reason=_missing(missing[plan.id])) if plan.id in missing else plan
            for plan in decided
        ]
    return decided


def lost_appends(sink: str, uri: str, missing: Mapping[str, tuple[str, ...]]) -> StorageError:
    """Return FS8013 for appended intervals with missing files, which are given by interval."""
    interval, files = next(iter(missing.items()))
    return StorageError(
        "FS8013",
        f"{sink} {interval}: {len(files)} published files are missing in {uri}, such as {files[0]}. A plan is not appended twice.",
        hint=f"Restore the files, or run `firesteel rollback --interval {interval} --sink {sink}`, then run again.",
    )


def _by_ledger(
    plan: IntervalPlan,
    published: Published,
    *,
    force: bool,
    appends: frozenset[str],
    gates: frozenset[str],
    auditable: frozenset[str],
) -> IntervalPlan:
    unfinished = any(plan.id in published.unfinished[output.sink] for output in plan.outputs)
    appended = [published.last(output.sink, plan.id) for output in plan.outputs if output.sink in appends]
    if appended and not unfinished and all(record and record.holds(plan.plan_hash) for record in appended):
        return replace(plan, action="skip", reason="this plan is already appended")
    if force:
        return replace(plan, action="score", reason="forced")
    if unfinished:  # the run recovers the interval, and then compares its plan with the ledger
        return replace(plan, action="score", reason="a run ended before it had published all files")
    last = [(output.sink, published.last(output.sink, plan.id)) for output in plan.outputs]
    known = [record for _, record in last if record is not None]
    if len(known) < len(last):
        unknown = next(sink for sink, record in last if record is None)
        other = published.anywhere[unknown].get(plan.id)
        reason = f"published to another location: {other.location}" if other else "not published yet"
        return replace(plan, action="score", reason=reason)
    if all(record.plan_hash == plan.plan_hash for record in known):
        when = known[0].ended_at if known else ""
        return replace(plan, action="skip", reason=f"already published with the same plan hash ({when})")
    return _changed(plan, known, gates, auditable)


def _changed(
    plan: IntervalPlan, records: Sequence[LedgerRecord], gates: frozenset[str], auditable: frozenset[str]
) -> IntervalPlan:
    """Return an interval that another plan published: to audit if only auditable gates have changed, else to score."""
    reason = _changes(records, plan.hash_inputs, plan.outputs)
    changed = [changed_gates(record.hash_inputs, plan.hash_inputs) for record in records]
    names = frozenset[str]().union(*(of_record or () for of_record in changed)) & gates
    if None in changed or not names <= auditable:
        return replace(plan, action="score", reason=reason)
    return replace(plan, action="audit", reason=reason, audited_gates=tuple(sorted(names)))


def _missing(files: Sequence[str]) -> str:
    more = f" and {len(files) - 1} more" if len(files) > 1 else ""
    return f"published files are missing: {files[0]}{more}"


def _changes(records: Sequence[LedgerRecord], now: Parts, outputs: Sequence[SinkOutput]) -> str:
    stale = next((record for record in records if record.hash_inputs != now), records[0])
    if not stale.hash_inputs:
        return "changed since it was published: spec, model or input"
    changes = changed_parts(stale.hash_inputs, now)
    sink = f" to {stale.sink}" if len(outputs) > 1 else ""
    return f"changed since it was published{sink}: {'; '.join(changes) or 'the plan'}"
