"""The stages before the score: read the sources, run the SQL steps, check the input gates.

A gate that excludes rows checks its relation as a whole; the steps that read the relation get the remaining rows only. The rows that
remain and the rows that are excluded are read from one copy of the relation. SQL can return different rows each time that it runs
(`LIMIT`, `collect_list()`), and then a row would be both scored and quarantined, or neither.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from firesteel.conf.errors import FiresteelError, GateFailed, Where
from firesteel.jobs.gates.split import rows_fail, split_rows
from firesteel.jobs.run.staged_files import StagedFiles
from firesteel.jobs.spark.lower import check_required, make_view, read_sources
from firesteel.pipelines.plan.model import SqlStepPlan
from firesteel.pipelines.publish.quarantine import quarantine_path
from firesteel.pipelines.publish.state_store import file_name
from firesteel.pipelines.result import Counts
from firesteel.pipelines.sql.mapping import NotMapOnlyError, map_only
from firesteel.pipelines.sql.select import SqlText, parse_select
from firesteel.pipelines.storage.paths import join

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from firesteel.jobs.gates.split import SplitRows
    from firesteel.jobs.run.interval_context import IntervalContext
    from firesteel.pipelines.plan.model import GatePlan, IntervalPlan, Plan, SourcePlan
    from firesteel.pipelines.publish.state_store import StateStore


@dataclass(frozen=True, slots=True)
class ReadSources:
    """Create a view of each source over the files of the plan, and count nulls where the contract allows none."""

    sources: tuple[SourcePlan, ...]

    def __str__(self) -> str:
        return f"create a view of {', '.join(source.name for source in self.sources)}"

    def run(self, context: IntervalContext) -> None:
        spark, plan, interval = context.spark, context.plan, context.interval
        with context.metrics.timed("read"):
            for step in plan.steps:  # views of the previous interval
                spark.catalog.dropTempView(step.name)
            read_sources(spark, plan, interval)
            for source in self.sources:
                check_required(spark, source, interval.id)


@dataclass(frozen=True, slots=True)
class Transform:
    """Create a view of each SQL step before the score, without the rows that gates exclude.

    Attributes
    ----------
    gates
        The gates that exclude rows. A step can read the relation of such a gate, so its rows are excluded before the step's
        view is created.
    """

    steps: tuple[SqlStepPlan, ...]
    gates: tuple[GatePlan, ...]

    def __str__(self) -> str:
        views = [f"create a view of {', '.join(step.name for step in self.steps)}"] if self.steps else []
        gates = [f"exclude rows by gate {', '.join(gate.name for gate in self.gates)}"] if self.gates else []
        return "; ".join(views + gates)

    def run(self, context: IntervalContext) -> None:
        for source in context.plan.sources:
            self._exclude_rows(context, source.name)
        for step in self.steps:
            make_view(context.spark, step, context.interval)
            self._exclude_rows(context, step.name, step)

    def _exclude_rows(self, context: IntervalContext, relation: str, step: SqlStepPlan | None = None) -> None:
        gates = [gate for gate in self.gates if gate.on == relation]
        if not gates:
            return
        frame = context.spark.table(relation)
        if step is not None and not _maps_only(context.plan, step, context.interval):
            # Its SQL might return other rows to the gate than to the score: LIMIT, collect_list(), joins on doubles.
            with context.metrics.timed("quarantine"):
                storage, copy = context.store.storage, join(context.transaction.scratch_path, file_name(relation))
                storage.permit(join(copy, "file"))
                frame = _materialize(frame, f"{storage.base_uri}{copy}")
                frame.createOrReplaceTempView(relation)
        context.unsplit[relation] = frame
        verdicts = [(gate, context.check_gate(gate, frame)) for gate in gates]
        if not rows_fail(verdicts):
            return
        with context.metrics.timed("quarantine"):
            split = split_rows(frame, verdicts)
            if path := write_quarantine(split, context.store, relation, context.interval.id, context.attempt.run_id):
                context.transaction.record_excluded(path)
            split.passing.createOrReplaceTempView(relation)
        excluded = split.rows_quarantined + split.rows_dropped
        context.metrics.excluded += Counts(excluded, quarantined=split.rows_quarantined, dropped=split.rows_dropped)


@dataclass(frozen=True, slots=True)
class GateInputs:
    """Check the gates before the score that exclude no rows."""

    gates: tuple[GatePlan, ...]

    def __str__(self) -> str:
        return f"check {', '.join(f'{gate.name} on {gate.on}' for gate in self.gates)}"

    def run(self, context: IntervalContext) -> None:
        for gate in self.gates:
            frame = context.unsplit.get(gate.on)
            context.check_gate(gate, context.spark.table(gate.on) if frame is None else frame)


def _maps_only(plan: Plan, step: SqlStepPlan, interval: IntervalPlan) -> bool:
    """Return whether a step and the steps that it reads compute each row from one row of a source, the same each time."""
    sources = {source.name: (*source.columns, *source.partitions) for source in plan.sources}
    steps = {other.name: other for other in plan.steps if isinstance(other, SqlStepPlan)}
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


def _materialize(frame: DataFrame, uri: str) -> DataFrame:
    """Write the rows to files and return a frame over these. A cached frame would not do: Spark recomputes lost blocks."""
    writer = frame.write.option("mapreduce.fileoutputcommitter.marksuccessfuljobs", "false")
    writer.mode("errorifexists").parquet(uri)
    return frame.sparkSession.read.schema(frame.schema).parquet(uri)


def write_quarantine(split: SplitRows, store: StateStore, relation: str, interval: str, run_id: str) -> str:
    """Write the quarantined rows, and return their folder; empty if there are none. They are kept when the run fails, since they show why.

    Raises
    ------
    GateFailed
        FS7002 when the number of rows written is not the number of rows counted.
    """
    if split.quarantined is None or not split.rows_quarantined:
        return ""
    path = quarantine_path(store, relation, interval, run_id)
    uri = f"{store.storage.base_uri}{path}"
    store.storage.permit(join(path, "file"))
    writer = split.quarantined.hint("rebalance").write
    writer = writer.option("mapreduce.fileoutputcommitter.marksuccessfuljobs", "false")
    writer.mode("errorifexists").parquet(uri)
    written = StagedFiles.below(store.storage, path).count(split.quarantined.sparkSession, uri)
    if written != split.rows_quarantined:
        raise GateFailed(
            "FS7002",
            f"{interval}: rows do not add up: {split.rows_quarantined:,} rows of {relation} fail a gate, and {written:,} were "
            "quarantined. Nothing was published.",
            hint="Check whether something changes the files of the source while the run reads them.",
        )
    return path
