"""Spark's physical plan of an interval. Nothing is executed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from firesteel.jobs.spark.lower import make_view, read_sources
from firesteel.jobs.spark.session import open_session
from firesteel.pipelines.plan.model import ScoreStepPlan

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from firesteel.pipelines.plan.model import IntervalPlan, Plan


def physical_plan(plan: Plan, interval: IntervalPlan, session: SparkSession | None = None) -> str:
    """Return what `DataFrame.explain("formatted")` prints for the relation of the first sink.

    Parameters
    ----------
    session
        The caller's session. Without one a session is started and stopped.

    Raises
    ------
    SqlError, RuntimeFault
        Spark cannot analyse a step, or does not start.
    """
    with open_session(plan, session) as spark:
        frame = relation(spark, plan, interval, plan.sinks[0].source)
        execution = frame._jdf.queryExecution()  # noqa: SLF001 - explain() only prints
        jvm = spark._jvm  # noqa: SLF001
        assert jvm is not None
        mode = jvm.org.apache.spark.sql.execution.ExplainMode.fromString("formatted")
        return str(execution.explainString(mode))


def relation(spark: SparkSession, plan: Plan, interval: IntervalPlan, name: str) -> DataFrame:
    """Return a relation of the plan over an interval's files. Score steps have their schema, and load no model."""
    from firesteel.jobs.spark.types import schema_of

    read_sources(spark, plan, interval)
    for step in plan.steps:
        if isinstance(step, ScoreStepPlan):
            schema = schema_of(step.columns)
            # The same Spark operator as in a run. Tasks would load the model, but no task runs here.
            frame = spark.table(step.input).select(*step.columns_read)
            frame.mapInArrow(lambda batches: batches, schema).createOrReplaceTempView(step.name)
        else:
            make_view(spark, step, interval)
    return spark.table(name)
