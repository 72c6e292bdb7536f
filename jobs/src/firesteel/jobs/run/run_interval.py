"""Run one interval: a transaction around its stages.

::

    lease --> stages before the publish ------------------> journal --> renames --> ledger --> clean-up
              a crash here: readers keep the old version |  a crash here: the next run completes the publish
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from firesteel.conf.errors import FiresteelError
from firesteel.jobs.spark.lower import spark_fault
from firesteel.jobs.timeline.build import INTERVAL
from firesteel.pipelines.events import Event
from firesteel.pipelines.plan.overlaps import check_overlaps
from firesteel.pipelines.publish.transaction import Transaction

if TYPE_CHECKING:
    from firesteel.jobs.run.interval_context import IntervalContext, Stage
    from firesteel.pipelines.result import IntervalResult


@dataclass(frozen=True, slots=True)
class IntervalOutcome:
    """The result of an interval, and the error where it failed."""

    result: IntervalResult
    error: FiresteelError | None = None


def run_interval(context: IntervalContext, stages: Sequence[Stage]) -> IntervalOutcome:
    """Run the stages of an interval. Interrupts propagate, and the transaction aborts.

    Parameters
    ----------
    stages
        As of `interval_stages`; the last one publishes.
    """
    interval, spark = context.interval, context.spark.sparkContext
    facts: dict[str, object] = {"bytes": interval.input_bytes, "reason": interval.reason}
    context.on_event(Event("interval_started", interval.id, facts))
    spark.setLocalProperty(INTERVAL, interval.id)
    try:
        with context.budget.tagged():
            result = _run_stages(context, stages)
    except FiresteelError as error:
        context.on_event(Event("interval_failed", interval.id, error.as_dict()))
        return IntervalOutcome(context.result("failed", error=str(error)), error)
    finally:
        spark.setLocalProperty(INTERVAL, None)  # type: ignore[arg-type]
    facts = {"state": result.state, "rows": result.counts.scored, "seconds": sum(context.metrics.seconds.values())}
    context.on_event(Event("interval_done", interval.id, facts))
    return IntervalOutcome(result)


def _run_stages(context: IntervalContext, stages: Sequence[Stage]) -> IntervalResult:
    sink, interval = context.sink, context.interval
    check_overlaps(context.plan, interval)
    with Transaction.begin(
        context.store,
        sink.name,
        sink.path,
        interval.id,
        context.attempt,
        on_event=context.on_event,
        keep_versions=sink.keep_versions,
        take_over=context.resume and interval.reason != "forced",
    ) as transaction:
        context.transaction = transaction
        *preparation, publish = stages
        try:
            with _spark_errors(context):
                for stage in preparation:
                    skip = stage.run(context)
                    if skip is not None:
                        context.reason = skip.reason
                        return context.result("skipped")
        except FiresteelError as error:
            audits = interval.action == "audit"
            transaction.fail(str(error), context.metrics.counts, action="audit" if audits else "run")
            raise
        publish.run(context)  # records its own failures: after the journal this attempt may still succeed
    return context.result("audited" if interval.action == "audit" else "published")


@contextmanager
def _spark_errors(context: IntervalContext) -> Iterator[None]:
    """Raise Spark's errors as Firesteel's, or as the interrupt or the exhausted budget that cancelled the job."""
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException

    budget = context.budget
    try:
        yield
    except KeyboardInterrupt:
        budget.interrupt()  # before the transaction aborts: tasks that still run write into its staging folder
        raise
    except (PySparkException, Py4JError) as error:
        if budget.reached or budget.interrupted:  # the job was cancelled, and its tasks may still write
            budget.wait_for_tasks()
        if budget.reached:
            raise budget.error(context.interval.id) from error
        if budget.interrupted:
            raise KeyboardInterrupt from error  # in a thread: Python gives the signal to the main thread only
        raise spark_fault(error) from error
