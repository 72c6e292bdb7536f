"""How a submission ended. The ledger decides: exit codes of spark-submit, and YARN's states, may say success for a failure.

::

    every planned interval is in the ledger as planned  -> 0, whatever else went wrong
    else the driver left a result or an error           -> its exit code
    else an attempt is in the ledger that failed        -> the exit code of its error
    else nobody knows                                   -> 1, FS9031 with what YARN says
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from firesteel.conf.errors import RuntimeFault, kind_of
from firesteel.jobs.submit.handover import Stopped
from firesteel.pipelines.publish.sink_records import SinkRecords
from firesteel.pipelines.publish.state_store import StateStore
from firesteel.pipelines.result import RunResult

if TYPE_CHECKING:
    from firesteel.pipelines.plan.model import IntervalPlan, Plan
    from firesteel.pipelines.publish.records import LedgerRecord


@dataclass(frozen=True, slots=True)
class Verdict:
    """`text` says why, where the exit code is not 0 and no result says it."""

    exit_code: int
    text: str = ""


def tokens_before(plan: Plan) -> dict[tuple[str, str], int]:
    """The newest attempt at each interval so far: whatever is newer afterwards is this submission's, or another run's."""
    return {place: record.token if record else 0 for place, _, record in _records(plan)}


def decide(
    plan: Plan, before: Mapping[tuple[str, str], int], left: RunResult | Stopped | None, ended_as: str
) -> Verdict:
    """The exit code of a submission.

    Parameters
    ----------
    before
        What `tokens_before` gave.
    left
        What the driver left.
    ended_as
        What the cluster and spark-submit say, for people.
    """
    failed: LedgerRecord | None = None
    missing: tuple[str, str] | None = None
    for place, interval, record in _records(plan):
        if record is None or record.token <= before.get(place, 0):
            missing = missing or place
        elif record.state != "published" or not record.holds(interval.plan_hash):
            failed = failed or record
    if failed is None and missing is None:
        return Verdict(0)
    if left is not None and left.exit_code:
        error = f"{left.code} {left.what} {left.hint}".strip() if isinstance(left, Stopped) else left.error
        return Verdict(left.exit_code, error)
    if failed is not None and failed.error:
        return Verdict(kind_of(failed.error).exit_code, failed.error)
    assert missing or failed
    sink, interval_id = missing or (failed.sink, failed.interval)  # type: ignore[union-attr]
    fault = RuntimeFault(
        "FS9031",
        f"{ended_as}, and the ledger has no record of {sink} {interval_id} for this plan.",
        hint="Read the driver's log, and run again: published intervals are skipped.",
    )
    return Verdict(fault.exit_code, str(fault))


def _records(plan: Plan) -> list[tuple[tuple[str, str], IntervalPlan, LedgerRecord | None]]:
    store = StateStore.at(plan.storage, plan.pipeline, plan.profile)
    intervals = [interval for interval in plan.intervals if interval.action == "score"]
    latest = {sink.name: SinkRecords(store, sink.name, [i.id for i in intervals]).latest() for sink in plan.sinks}
    return [
        ((sink.name, interval.id), interval, latest[sink.name].get(interval.id))
        for sink in plan.sinks
        for interval in intervals
    ]
