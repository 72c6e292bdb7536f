"""An interval that would publish no rows, or fewer than the sink allows, is stopped before anything is published."""

from __future__ import annotations

from typing import TYPE_CHECKING

from firesteel.conf.errors import GateFailed
from firesteel.conf.quantities import plural
from firesteel.pipelines.publish.ledger import Ledger

if TYPE_CHECKING:
    from firesteel.pipelines.plan.model import IntervalPlan, Plan, SinkPlan
    from firesteel.pipelines.publish.layout import Area
    from firesteel.pipelines.result import Counts


def check_least_rows(plan: Plan, interval: IntervalPlan, sink: SinkPlan, counts: Counts, area: Area) -> None:
    """Hold the staged rows to `min_rows` and `on_empty` of the sink.

    Raises
    ------
    GateFailed
        FS7005 when too few rows are staged.
    """
    if counts.scored < (sink.min_rows or 0):
        raise _too_few(interval, sink, counts, f"at least {sink.min_rows:,} (`min_rows`)", "lower `min_rows`")
    if counts.scored or sink.on_empty == "allow":
        return
    published = Ledger(area).published(sink.name, interval.id)
    before = published.counts.scored if published else 0
    if before or not _may_be_empty(plan, interval, counts):
        now = f", where {before:,} are published now" if before else ""
        raise _too_few(interval, sink, counts, f"at least one{now}", "set `on_empty: allow`")


def _may_be_empty(plan: Plan, interval: IntervalPlan, counts: Counts) -> bool:
    """Return whether the spec says that there may be nothing: by `on_missing: empty`, or by a budget that covers every row."""
    read = {each.source: each.files for each in interval.inputs}
    missing = any(source.on_missing == "empty" and not read.get(source.name) for source in plan.sources)
    return missing or counts.dead_letter == counts.rows_in > 0


def _too_few(interval: IntervalPlan, sink: SinkPlan, counts: Counts, expected: str, remedy: str) -> GateFailed:
    return GateFailed(
        "FS7005",
        f"{sink.name} {interval.id}: {plural(counts.scored, 'row')} would be published, expected {expected}. "
        f"{counts.rows_in:,} in, {counts.dead_letter:,} dead letter, {counts.quarantined:,} quarantined, "
        f"{counts.dropped:,} dropped. Nothing was published.",
        hint=f"Look at the input, the filters and the gates; {remedy} on sinks.{sink.name} if it is right.",
    )
