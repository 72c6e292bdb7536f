"""Decide for each interval whether to score, audit or skip it, by its hash inputs and the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from firesteel.pipelines.plan.fingerprint import Parts, changed_gates, changed_parts
from firesteel.pipelines.plan.model import IntervalPlan, SinkOutput
from firesteel.pipelines.publish.ledger import Ledger
from firesteel.pipelines.publish.records import LedgerRecord
from firesteel.pipelines.publish.sink_records import SinkRecords

HISTORY_RUNS = 5
"""Number of published intervals per sink that give the pipeline's speed."""


@dataclass(frozen=True, slots=True)
class Published:
    """The latest published attempts of a plan's intervals and of the last intervals of each sink, by sink and interval."""

    records: dict[str, dict[str, LedgerRecord]]
    recent_intervals: dict[str, tuple[str, ...]]

    @classmethod
    def of(cls, ledger: Ledger, sinks: Sequence[str], intervals: Sequence[str]) -> Published:
        """List each sink once, so that intervals without an attempt cost no request."""
        records, recent = {}, {}
        for sink in sinks:
            known = ledger.intervals(sink)
            recent[sink] = known[-HISTORY_RUNS:]
            wanted = {*intervals, *recent[sink]}.intersection(known)
            records[sink] = SinkRecords(ledger.store, sink, sorted(wanted)).published()
        return cls(records, recent)

    def last(self, sink: str, interval: str) -> LedgerRecord | None:
        """Return the latest published attempt."""
        return self.records[sink].get(interval)

    def recent(self) -> list[LedgerRecord]:
        """Return the latest published attempts of the last intervals of each sink."""
        records = (
            self.last(sink, interval) for sink, intervals in self.recent_intervals.items() for interval in intervals
        )
        return [record for record in records if record is not None]


def decide(
    plan: IntervalPlan,
    published: Published,
    *,
    force: bool,
    appends: frozenset[str] = frozenset(),
    gates: frozenset[str] = frozenset(),
    auditable: frozenset[str] = frozenset(),
) -> IntervalPlan:
    """Return the interval with its `action` and `reason`.

    Parameters
    ----------
    appends
        The sinks in mode `append_once`: a plan is never appended twice, even with `force`.
    gates, auditable
        The gates of the plan, and those that can be checked without a score.
    """
    appended = [published.last(output.sink, plan.id) for output in plan.outputs if output.sink in appends]
    if appended and all(record is not None and record.holds(plan.plan_hash) for record in appended):
        return replace(plan, action="skip", reason="this plan is already appended")
    if force:
        return replace(plan, action="score", reason="forced")
    last = [published.last(output.sink, plan.id) for output in plan.outputs]
    known = [record for record in last if record is not None]
    if len(known) < len(last):
        return replace(plan, action="score", reason="not published yet")
    if all(record.plan_hash == plan.plan_hash for record in known):
        when = known[0].ended_at if known else ""
        return replace(plan, action="skip", reason=f"already published with the same plan hash ({when})")
    changed = [changed_gates(record.hash_inputs, plan.hash_inputs) for record in known]
    names = frozenset[str]().union(*(each or () for each in changed))
    if known and None not in changed and names & gates <= auditable:
        reason = _changes(known, plan.hash_inputs, plan.outputs)
        return replace(plan, action="audit", reason=reason, audited_gates=tuple(sorted(names & gates)))
    return replace(plan, action="score", reason=_changes(known, plan.hash_inputs, plan.outputs))


def _changes(records: Sequence[LedgerRecord], now: Parts, outputs: Sequence[SinkOutput]) -> str:
    stale = next((record for record in records if record.hash_inputs != now), records[0])
    if not stale.hash_inputs:
        return "changed since it was published: spec, model or input"
    changes = changed_parts(stale.hash_inputs, now)
    sink = f" to {stale.sink}" if len(outputs) > 1 else ""
    return f"changed since it was published{sink}: {'; '.join(changes) or 'the plan'}"
