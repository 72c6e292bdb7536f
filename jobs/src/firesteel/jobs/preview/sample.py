"""Score a sample of the planned intervals into a scratch folder. The ledger, MLflow and the sinks learn nothing of it."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from firesteel.conf.redaction import scrubbed
from firesteel.jobs.preview.relation import preview
from firesteel.jobs.run.staged_files import StagedFiles
from firesteel.jobs.spark.lower import spark_fault, write_staged
from firesteel.jobs.spark.session import open_session
from firesteel.pipelines.publish.state_store import file_name
from firesteel.pipelines.storage.open import locate
from firesteel.pipelines.storage.paths import join

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from firesteel.pipelines.plan.model import IntervalPlan, Plan

FOLDER = "sample"
"""Below the spec's `storage`. Nothing deletes it but its owner."""


@dataclass(frozen=True, slots=True)
class SampledInterval:
    """A scored sample.

    Attributes
    ----------
    rows_in
        Rows of the sample: those that the model got, or all that were written where no model scores.
    rows
        Rows in the files.
    failed
        Rows that the model failed on.
    path
        The URI of the folder with the files, partitioned as the sink is.
    """

    interval: str
    rows_in: int
    rows: int
    failed: int
    path: str


@scrubbed
def score_sample(plan: Plan, fraction: float, spark: SparkSession | None = None) -> tuple[SampledInterval, ...]:
    """Compute a sink's rows from a sample, for each interval of a plan, and write them to a scratch folder.

    Gates are not evaluated. Rows that the model fails on are left out where `on_error` of the step is `dead_letter`.

    Parameters
    ----------
    fraction
        The part of the rows that the model gets; of the sink's rows where no model scores.
    spark
        A session of the caller's; without one Spark is started and stopped.

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
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException

    sink = plan.sinks[0]
    storage, base = locate(plan.storage)
    path = join(base, FOLDER, run_id, file_name(interval.id))
    step = plan.score_step
    version = next((model.version for model in plan.models if step and model.name == step.model), "")
    lineage = {"_run_id": run_id, "_model_version": version, "_plan_hash": interval.plan_hash}
    uri = f"{storage.base_uri}{path}"
    try:
        relation = preview(session, replace(plan, intervals=(interval,)), sink.source, fraction)
        write_staged(relation.frame, sink, lineage, uri)
        rows = StagedFiles.below(storage, path).rows()
        if rows is None:
            rows = session.read.parquet(uri).count()
    except (PySparkException, Py4JError) as error:
        raise spark_fault(error) from error
    report = relation.scored.report() if relation.scored else None
    return SampledInterval(
        interval.id,
        report.rows_in if report else rows,
        rows,
        len(report.dead_letters) if report else 0,
        uri,
    )
