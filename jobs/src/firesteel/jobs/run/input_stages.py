"""The stages before the score: read the sources, run the SQL steps, check the input gates.

A gate that excludes rows checks its relation as a whole; the steps that read the relation get the remaining rows only. The rows that
remain and the rows that are excluded are read from one copy of the relation. SQL can return different rows each time that it runs
(`LIMIT`, `collect_list()`), and then a row would be both scored and quarantined, or neither.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from firesteel.conf.errors import FiresteelError, GateFailed, InputNotReady, Where
from firesteel.conf.formats import LINES, TITLES
from firesteel.conf.identifiers import quoted
from firesteel.conf.quantities import plural
from firesteel.jobs.gates.split import REASONS, SplitRows, rows_fail, split_rows
from firesteel.jobs.run.scoring import exceeded
from firesteel.jobs.run.staged_files import StagedFiles
from firesteel.jobs.spark.lines import FILE, POSITION, RECORD, helpers, parsed_rows
from firesteel.jobs.spark.lower import (
    check_required,
    files_of,
    make_view,
    materialize,
    read_files_of_lines,
    read_sources,
    read_unclosed_quotes,
)
from firesteel.pipelines.plan.model import SqlStepPlan
from firesteel.pipelines.publish.quarantine import quarantine_path, unparsed_relation
from firesteel.pipelines.publish.state_store import file_name
from firesteel.pipelines.result import Counts
from firesteel.pipelines.sql.mapping import NotMapOnlyError, map_only
from firesteel.pipelines.sql.select import SqlText, parse_select
from firesteel.pipelines.storage.paths import join

if TYPE_CHECKING:
    from firesteel.jobs.run.interval_context import IntervalContext
    from firesteel.pipelines.plan.model import GatePlan, IntervalPlan, Plan, SourcePlan
    from firesteel.pipelines.publish.state_store import StateStore

_SHOWN = 200
"""Most characters of a raw row in a message."""


@dataclass(frozen=True, slots=True)
class ReadSources:
    """Create a view of each source over the files of the plan, and count nulls where the contract allows none.

    Attributes
    ----------
    quarantines
        Whether rows that cannot be parsed are counted, and quarantined or refused. An audit only leaves them out.
    """

    sources: tuple[SourcePlan, ...]
    quarantines: bool = True

    def __str__(self) -> str:
        lines = [source.name for source in self.sources if source.format in LINES and self.quarantines]
        parse = f"; parse {', '.join(lines)}" if lines else ""
        return f"create a view of {', '.join(source.name for source in self.sources)}{parse}"

    def run(self, context: IntervalContext) -> None:
        spark, plan, interval = context.spark, context.plan, context.interval
        with context.metrics.timed("read"):
            for step in plan.steps:  # views of the previous interval
                spark.catalog.dropTempView(step.name)
            read_sources(spark, plan, interval)
            for source in self.sources:
                if source.format in LINES and self.quarantines:
                    exclude_unparsed(context, source)
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
                frame = materialize(frame, _scratch_copy(context, relation))
                frame.createOrReplaceTempView(relation)
        context.unsplit[relation] = frame
        verdicts = [(gate, context.check_gate(gate, frame)) for gate in gates]
        if not rows_fail(verdicts):
            return
        with context.metrics.timed("quarantine"):
            split = split_rows(frame, verdicts)
            _quarantine(context, split, relation)
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


def exclude_unparsed(context: IntervalContext, source: SourcePlan) -> None:
    """Parse the files of a source once, into scratch files. Quarantine the rows that cannot be parsed, or stop.

    Raises
    ------
    InputNotReady
        FS4008 when a row cannot be parsed and the source has no quarantine, or more rows than it allows; also when a quote is
        not closed, because then nothing says where the rows after it begin.
    """
    from pyspark.sql import functions as F  # noqa: N812

    files, names, interval = files_of(source, context.interval), helpers(source), context.interval.id
    if not files:
        return
    if unclosed := read_unclosed_quotes(context.spark, source, files):
        raise InputNotReady(
            "FS4008",
            f"{source.name} {interval}: a quote is not closed, at `{_short(unclosed[1])}` in {unclosed[0]}. Nothing was published.",
            hint=f"Fix the file. Set sources.{source.name}.options: {{multiLine: true}} if values contain line breaks, or "
            '{quote: ""} if the files have no quoted values.',
        )
    frame = materialize(read_files_of_lines(context.spark, source, files), _scratch_copy(context, source.name))
    parsed_rows(source, frame).createOrReplaceTempView(source.name)
    record = F.col(names[RECORD])
    counted = frame.agg(F.count(F.lit(1)).alias("rows"), F.count(record).alias("bad")).first()
    assert counted is not None
    rows, bad = int(counted["rows"]), int(counted["bad"])
    if not bad:
        return
    title = TITLES[source.format]
    unparsed = frame.where(record.isNotNull())
    first = unparsed.orderBy(names[FILE], names[POSITION]).select(names[FILE], names[RECORD]).first()
    assert first is not None
    what = (
        f"{source.name} {interval}: {plural(bad, 'row')} of {rows:,} cannot be parsed as {title} of the declared types. "
        f"The first is `{_short(first[1])}` in {first[0]}."
    )
    if source.unparsed.action == "fail":
        raise InputNotReady(
            "FS4008",
            f"{what} Nothing was published.",
            hint=f"Fix the file or the declared types, or set sources.{source.name}.on_error: {{action: quarantine}}.",
        )
    partitions = [F.col(quoted(column.name)) for column in source.partitions]
    reasons = F.array(F.lit(f"not {title} of the declared types")).alias(REASONS)
    rest = unparsed.select(*partitions, names[FILE], names[RECORD], reasons)
    path = _quarantine(context, SplitRows(frame, rest, bad, 0), unparsed_relation(source.name))
    over = exceeded(source.unparsed, bad, rows)
    if over:
        raise InputNotReady(
            "FS4008",
            f"{what} on_error.{over}. The rows are in {context.store.storage.base_uri}{path}. Nothing was published.",
            hint=f"Fix the file. Raise the limits of sources.{source.name}.on_error only if these rows may be missing.",
        )
    context.metrics.excluded += Counts(bad, quarantined=bad)


def _short(text: str) -> str:
    """Return the beginning of a raw row for a message."""
    return repr(text[:_SHOWN])[1:-1] + ("..." if len(text) > _SHOWN else "")


def _scratch_copy(context: IntervalContext, relation: str) -> str:
    """Return the URI of the scratch folder for a copy of a relation, which may be written."""
    storage, copy = context.store.storage, join(context.transaction.scratch_path, file_name(relation))
    storage.permit(join(copy, "file"))
    return f"{storage.base_uri}{copy}"


def _quarantine(context: IntervalContext, split: SplitRows, relation: str) -> str:
    """Write the quarantined rows and record their files. Return their folder; empty if there are none."""
    path = write_quarantine(split, context.store, relation, context.interval.id, context.attempt.run_id)
    if path:
        context.transaction.record_excluded(path)
    return path


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
