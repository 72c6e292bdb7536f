"""What each interval does, and why: from what it is made of now, and what the ledger says it was made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from firesteel.pipelines.plan.fingerprint import Parts, what_changed
from firesteel.pipelines.plan.model import IntervalPlan, SinkOutput
from firesteel.pipelines.publish.ledger import Ledger
from firesteel.pipelines.publish.records import LedgerRecord

HISTORY_RUNS = 5
"""Published intervals that say how fast the pipeline was."""


@dataclass(frozen=True, slots=True)
class Published:
    """What the ledger knows of one pipeline's sinks, asked for once."""

    ledger: Ledger
    intervals: dict[str, frozenset[str]]

    @classmethod
    def of(cls, ledger: Ledger, sinks: Sequence[str]) -> Published:
        """One listing a sink: intervals that were never tried cost no request of their own."""
        return cls(ledger, {sink: frozenset(ledger.intervals(sink)) for sink in sinks})

    def last(self, sink: str, interval: str) -> LedgerRecord | None:
        """The newest published attempt."""
        return self.ledger.published(sink, interval) if interval in self.intervals[sink] else None

    def recent(self) -> list[LedgerRecord]:
        """The newest published attempts at the last intervals of each sink."""
        found = (
            self.ledger.published(sink, interval)
            for sink, intervals in self.intervals.items()
            for interval in sorted(intervals)[-HISTORY_RUNS:]
        )
        return [record for record in found if record is not None]


def decide(
    plan: IntervalPlan, published: Published, *, force: bool, appends: frozenset[str] = frozenset()
) -> IntervalPlan:
    """Fill in `action` and `reason`.

    Parameters
    ----------
    appends
        The sinks to which plans are appended: no plan is, twice, however it is asked for.
    """
    appended = [published.last(output.sink, plan.id) for output in plan.outputs if output.sink in appends]
    if appended and all(record is not None and record.holds(plan.plan_hash) for record in appended):
        return replace(plan, action="skip", reason="this plan is appended already")
    if force:
        return replace(plan, action="score", reason="forced")
    last = [published.last(output.sink, plan.id) for output in plan.outputs]
    known = [record for record in last if record is not None]
    if len(known) < len(last):
        return replace(plan, action="score", reason="not published yet")
    if all(record.plan_hash == plan.plan_hash for record in known):
        when = known[0].ended_at if known else ""
        return replace(plan, action="skip", reason=f"already published with the same plan hash ({when})")
    return replace(plan, action="score", reason=_changes(known, plan.hash_inputs, plan.outputs))


def _changes(records: Sequence[LedgerRecord], now: Parts, outputs: Sequence[SinkOutput]) -> str:
    stale = next((record for record in records if record.hash_inputs != now), records[0])
    if not stale.hash_inputs:
        return "changed since it was published: spec, model or input"
    changes = what_changed(stale.hash_inputs, now)
    of = f" of {stale.sink}" if len(outputs) > 1 else ""
    return f"changed since it was published{of}: {'; '.join(changes) or 'the plan'}"
