"""Everything before the score: views of sources and steps, the gates on them, and the rows that gates take out.

The rows that go on and the rows that do not are read from one copy of the relation. SQL may give other rows each time that it is
computed (`rand()`, `current_timestamp()`, `LIMIT`): a row would be scored and quarantined, or neither.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from firesteel.conf.errors import FiresteelError, Where
from firesteel.jobs.gates.aside import rows_fail, take_out
from firesteel.jobs.run.quarantine import write_quarantine
from firesteel.jobs.spark.lower import check_required, make_view, read_sources
from firesteel.pipelines.plan.model import SqlStepPlan
from firesteel.pipelines.publish.layout import file_name
from firesteel.pipelines.result import Counts
from firesteel.pipelines.sql.mapping import NotMapOnlyError, map_only
from firesteel.pipelines.sql.select import SqlText, parse_select

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyspark.sql import DataFrame, SparkSession

    from firesteel.jobs.run.findings import Findings
    from firesteel.jobs.run.gating import Gating
    from firesteel.pipelines.plan.model import GatePlan, IntervalPlan, Plan
    from firesteel.pipelines.publish.layout import Area
    from firesteel.pipelines.result import GateResult


def make_inputs(
    spark: SparkSession,
    plan: Plan,
    interval: IntervalPlan,
    gating: Gating,
    findings: Findings,
    area: Area,
    run_id: str,
    scratch: str,
) -> None:
    """Make the views that the score reads, held against their gates.

    A gate sees its relation whole, as it is before rows are taken out of it; the steps that read it do not.

    Parameters
    ----------
    scratch
        A folder within the storage, for the copies of relations that rows are taken out of.
    """
    with findings.timed("read"):
        for step in plan.steps:  # those of the interval before
            spark.catalog.dropTempView(step.name)
        read_sources(spark, plan, interval)
        for source in plan.sources:
            check_required(spark, source, interval.id)
    scored = plan.scored_relations
    steps = {step.name: step for step in plan.steps if isinstance(step, SqlStepPlan) and step.name not in scored}
    whole: dict[str, DataFrame] = {}
    for relation in (*(source.name for source in plan.sources), *steps):
        if relation in steps:
            make_view(spark, steps[relation], interval)
        taking = [gate for gate in plan.gates if gate.on == relation and gate.takes_rows_out]
        if not taking:
            continue
        whole[relation] = spark.table(relation)
        if relation in steps and not _maps_only(plan, steps[relation], interval):
            # Its SQL might give other rows to the gate than to the score: rand(), current_timestamp(), joins on doubles.
            with findings.timed("quarantine"):
                copy = f"{area.storage.base_uri}{scratch}/{file_name(relation)}"
                whole[relation] = _computed_once(whole[relation], copy)
                whole[relation].createOrReplaceTempView(relation)
        verdicts = [(gate, gating.run(gate, whole[relation])) for gate in taking]
        if not rows_fail(verdicts):
            continue
        with findings.timed("quarantine"):
            _take_out(whole[relation], relation, verdicts, interval, findings, area, run_id)
    for gate in plan.gates:
        if not (gate.takes_rows_out or gate.on.startswith("sink:") or gate.on in scored):
            gating.run(gate, whole[gate.on] if gate.on in whole else spark.table(gate.on))


def _maps_only(plan: Plan, step: SqlStepPlan, interval: IntervalPlan) -> bool:
    """Whether a step, and all that it reads, computes each row from one row of a source, the same each time."""
    sources = {source.name: (*source.columns, *source.partitions) for source in plan.sources}
    steps = {each.name: each for each in plan.steps if isinstance(each, SqlStepPlan)}
    read = step.reads[0]
    if len(step.reads) > 1 or (read not in sources and read not in steps):
        return False
    try:
        tree = parse_select(SqlText(step.sql, Where(""), in_file=False)).tree
        columns = sources[read] if read in sources else steps[read].columns
        map_only(tree, columns, dict(interval.bound(step).args))
    except (NotMapOnlyError, FiresteelError):
        return False
    return read in sources or _maps_only(plan, steps[read], interval)


def _computed_once(frame: DataFrame, uri: str) -> DataFrame:
    """Return a frame over a copy of the rows in files. A cached frame would not do: Spark computes lost blocks again."""
    writer = frame.write.option("mapreduce.fileoutputcommitter.marksuccessfuljobs", "false")
    writer.mode("errorifexists").parquet(uri)
    return frame.sparkSession.read.schema(frame.schema).parquet(uri)


def _take_out(
    frame: DataFrame,
    relation: str,
    verdicts: Sequence[tuple[GatePlan, GateResult]],
    interval: IntervalPlan,
    findings: Findings,
    area: Area,
    run_id: str,
) -> None:
    """Put a view of the rows that go on in the place of a relation, and the others into quarantine."""
    aside = take_out(frame, verdicts)
    if aside is None:  # all rows of the copy hold
        frame.createOrReplaceTempView(relation)
        return
    write_quarantine(aside, area, relation, interval.id, run_id)
    aside.kept.createOrReplaceTempView(relation)
    taken = aside.rows_quarantined + aside.rows_dropped
    findings.aside += Counts(rows_in=taken, quarantined=aside.rows_quarantined, dropped=aside.rows_dropped)
