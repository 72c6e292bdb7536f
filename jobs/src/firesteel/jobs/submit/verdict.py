"""The exit code of a submission. The ledger decides, because spark-submit and YARN may report success for a failed run.

::

    the ledger has every interval as planned       -> 0, whatever else went wrong
    else the driver stored a result or an error    -> its exit code
    else the ledger has a failed attempt           -> the exit code of its error
    else                                           -> 1, FS9031 with the state that YARN reports
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from firesteel.conf.errors import RuntimeFault, kind_of
from firesteel.jobs.submit.result_store import DriverError
from firesteel.pipelines.publish.sink_records import SinkRecords
from firesteel.pipelines.publish.state_store import StateStore
from firesteel.pipelines.result import RunResult

if TYPE_CHECKING:
    from firesteel.pipelines.plan.model import IntervalPlan, Plan
    from firesteel.pipelines.publish.records import LedgerRecord


@dataclass(frozen=True, slots=True)
class Verdict:
    """The exit code, and the error if the exit code is not 0."""

    exit_code: int
    text: str = ""


def latest_tokens(plan: Plan) -> dict[tuple[str, str], int]:
    """Return the token of the latest attempt at each interval. Attempts after this call have higher ones."""
    return {sink_interval: record.token if record else 0 for sink_interval, _, record in _records(plan)}


def decide(
    plan: Plan, before: Mapping[tuple[str, str], int], outcome: RunResult | DriverError | None, state: str
) -> Verdict:
    """Return the verdict on a submission.

    Parameters
    ----------
    before
        The result of `latest_tokens` before the submission.
    outcome
        The result or the error that the driver stored.
    state
        The state that the cluster and spark-submit report, for the message.
    """
    failed: LedgerRecord | None = None
    missing: tuple[str, str] | None = None
    for sink_interval, interval, record in _records(plan):
        if record is None or record.token <= before.get(sink_interval, 0):
            missing = missing or sink_interval
        elif record.state != "published" or not record.holds(interval.plan_hash):
            failed = failed or record
    if failed is None and missing is None:
        return Verdict(0)
    if outcome is not None and outcome.exit_code:
        text = (
            f"{outcome.code} {outcome.what} {outcome.hint}".strip()
            if isinstance(outcome, DriverError)
            else outcome.error
        )
        return Verdict(outcome.exit_code, text)
    if failed is not None and failed.error:
        return Verdict(kind_of(failed.error).exit_code, failed.error)
    assert missing or failed
    sink, interval_id = missing or (failed.sink, failed.interval)  # type: ignore[union-attr]
    fault = RuntimeFault(
        "FS9031",
        f"{state}, and the ledger has no record of {sink} {interval_id} for this plan.",
        hint="Read the driver's log, and run again: published intervals are skipped.",
    )
    return Verdict(fault.exit_code, str(fault))


def _records(plan: Plan) -> list[tuple[tuple[str, str], IntervalPlan, LedgerRecord | None]]:
    store = StateStore.of(plan)
    intervals = [interval for interval in plan.intervals if interval.action != "skip"]
    latest = {sink.name: SinkRecords(store, sink.name, [i.id for i in intervals]).latest() for sink in plan.sinks}
    return [
        ((sink.name, interval.id), interval, latest[sink.name].get(interval.id))
        for sink in plan.sinks
        for interval in intervals
    ]
