"""Score a sample of the planned intervals into a scratch folder. Nothing is written to the ledger, MLflow and the sinks."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from firesteel.conf.redaction import scrubbed
from firesteel.jobs.preview.relation import preview
from firesteel.jobs.run.staged_files import StagedFiles
from firesteel.jobs.spark.lower import spark_errors, write_staged
from firesteel.jobs.spark.session import open_session
from firesteel.pipelines.publish.state_store import StateStore, file_name
from firesteel.pipelines.storage.paths import join

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from firesteel.pipelines.plan.model import IntervalPlan, Plan

FOLDER = "sample"
"""The folder in the spec's `storage`. firesteel never deletes it."""


@dataclass(frozen=True, slots=True)
class SampledInterval:
    """A scored sample.

    Attributes
    ----------
    rows_in
        Rows of the sample: the input rows of the model; all written rows if no model scores.
    rows
        Rows in the files.
    failed
        Rows that the model failed on.
    path
        The URI of the folder with the files. It has the partitions of the sink.
    """

    interval: str
    rows_in: int
    rows: int
    failed: int
    path: str


@scrubbed
def score_sample(plan: Plan, fraction: float, spark: SparkSession | None = None) -> tuple[SampledInterval, ...]:
    """Compute a sink's rows from a sample, for each interval of a plan, and write them to a scratch folder.

    Gates are not evaluated. If `on_error` of the step is `dead_letter`, rows that the model fails on are excluded.

    Parameters
    ----------
    fraction
        The fraction of the model's input rows; of the sink's rows if no model scores.
    spark
        The session to use. By default, Spark is started and stopped.

    Raises
    ------
    FiresteelError
        The model, an input, Spark, or a row that the model fails on with `on_error: fail`.
    """
    run_id = f"sample-{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"
    with open_session(plan, spark) as session:
        return tuple(_sampled(session, plan, interval, fraction, run_id) for interval in plan.intervals)


def _sampled(
    session: SparkSession, plan: Plan, interval: IntervalPlan, fraction: float, run_id: str
) -> SampledInterval:
    sink = plan.sinks[0]
    store = StateStore.of(plan)
    storage, path = store.storage, join(store.base, FOLDER, run_id, file_name(interval.id))
    lineage = {"_run_id": run_id, "_model_version": plan.model_version, "_plan_hash": interval.plan_hash}
    uri = f"{storage.base_uri}{path}"
    with spark_errors():
        relation = preview(session, replace(plan, intervals=(interval,)), sink.source, fraction)
        storage.permit(join(path, "file"))
        write_staged(relation.frame, sink, lineage, uri)
        rows = StagedFiles.below(storage, path).count(session, uri)
    report = relation.scored.report() if relation.scored else None
    return SampledInterval(
        interval.id,
        report.rows_in if report else rows,
        rows,
        len(report.dead_letters) if report else 0,
        uri,
    )
