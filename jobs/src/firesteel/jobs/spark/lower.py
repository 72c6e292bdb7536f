"""Stages of a plan -> DataFrames. Sources and SQL steps become temporary views of the plan's own session."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from firesteel.conf.errors import FiresteelError, InputNotReady, SqlError
from firesteel.conf.identifiers import quoted
from firesteel.conf.redaction import redact
from firesteel.jobs.interrupt import interrupted
from firesteel.jobs.spark.types import schema_of
from firesteel.pipelines.plan.model import SqlStepPlan

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, Observation, SparkSession

    from firesteel.pipelines.plan.model import IntervalPlan, Plan, SinkPlan, SourcePlan


BY_NAME = ("__globPaths__", "false")
"""Spark's own option: else it takes [ ] { } * ? in a path for a pattern, and reads other files."""
_UNREADABLE = re.compile(r"\[FAILED_READ_FILE[.\w]*\].*? file (?P<file>\S.*?)\.?\s+SQLSTATE")
_PYTHON_ERROR = re.compile(r"([A-Za-z_][\w.]*(?:Error|Exception|Interrupt|Exit))(?::|$)")


def read_sources(spark: SparkSession, plan: Plan, interval: IntervalPlan) -> None:
    """Make a view for each source: exactly the files of the manifest, only the columns that are needed."""
    for source in plan.sources:
        files = next((each.files for each in interval.inputs if each.source == source.name), ())
        frame = _read(spark, source, tuple(file.path for file in files))
        frame.createOrReplaceTempView(source.name)


def _read(spark: SparkSession, source: SourcePlan, files: tuple[str, ...]) -> DataFrame:
    schema = schema_of((*source.columns, *source.partitions))
    if not files:
        return spark.createDataFrame([], schema)
    reader = spark.read.format(source.format).schema(schema).option("basePath", source.path)
    frame = reader.option(*BY_NAME).load([f"{source.path}/{file}" for file in files])
    return frame.select([frame[f"`{name}`"] for name in schema.names])


def check_required(spark: SparkSession, source: SourcePlan, interval: str) -> None:
    """Hold a source to its `!` columns, in one pass; none when it has no such columns.

    Raises
    ------
    InputNotReady
        FS4003 with the number of nulls of each column that may have none.
    """
    from pyspark.sql import functions as F  # noqa: N812 - Spark's own convention

    required = [column.name for column in source.columns if not column.nullable]
    if not required:
        return
    counts = (
        spark.table(source.name)
        .agg(F.count(F.lit(1)).alias("_rows"), *(F.count(F.col(f"`{name}`")).alias(name) for name in required))
        .first()
    )
    assert counts is not None
    rows = int(counts["_rows"])
    nulls = {name: rows - int(counts[name]) for name in required if counts[name] != rows}
    if nulls:
        found = ", ".join(f"{count:,} nulls in `{name}`" for name, count in nulls.items())
        raise InputNotReady(
            "FS4003",
            f"{source.name} {interval}: {found} of {rows:,} rows; the contract says not null. Nothing was published.",
            hint="Mend the data, or drop the `!` from the contract.",
        )


def make_view(spark: SparkSession, step: SqlStepPlan, interval: IntervalPlan) -> None:
    """Make a step's view for an interval. Args are bound by Spark, so that a value can never become SQL.

    Raises
    ------
    SqlError
        FS2001 with Spark's own reason, by its error condition. FS2007 when the step reads other relations than the plan says.
    """
    from pyspark.errors import AnalysisException, ParseException

    # Spark would replace `${env:NAME}` and `${spark...}` in the text by values that no plan pins.
    spark.conf.set("spark.sql.variable.substitute", "false")
    try:
        frame = spark.sql(step.sql, args=dict(interval.bound(step).args))
    except (AnalysisException, ParseException) as error:
        condition = error.getCondition() or "ANALYSIS_ERROR"
        reason = redact(error.getMessage() or str(error)).splitlines()[0].removeprefix(f"[{condition}]").strip()
        raise SqlError("FS2001", f"Spark refuses step {step.name}: {condition}: {reason}") from error
    planned = {relation.lower() for relation in step.reads}
    if others := sorted(relation for relation in relations_read(frame) if relation.lower() not in planned):
        raise SqlError(
            "FS2007",
            f"Spark reads {', '.join(others)} in step {step.name}, the plan says {', '.join(step.reads) or 'no relation'}.",
            hint="Use only names of sources and steps in the SQL, and plan again.",
        )
    frame.createOrReplaceTempView(step.name)


_NO_DATA = {"CTERelationRef", "LocalRelation", "OneRowRelation", "UnionLoopRef"}
"""Leaves of Spark's analysed plans that read nothing: references to CTEs, and rows that the SQL contains."""


def relations_read(frame: DataFrame) -> set[str]:
    """Return the relations that a frame's SQL reads, by Spark's analysis.

    A view is its name; other data, such as a table, a path or a table function, is the name of Spark's node.
    """
    relations: set[str] = set()
    pending = [frame._jdf.queryExecution().analyzed()]  # noqa: SLF001 - there is no public way to ask
    while pending:
        node = pending.pop()
        kind = str(node.getClass().getSimpleName())
        inner = [nodes.apply(index) for nodes in (node.children(), node.subqueries()) for index in range(nodes.size())]
        if kind == "View":
            relations.add(str(node.desc().identifier().unquotedString()))
        elif inner:
            pending += inner
        elif kind not in _NO_DATA:
            relations.add(kind)
    return relations


def check_columns(frame: DataFrame, step_name: str, expected: dict[str, str]) -> None:
    """Hold Spark's own analysis against the plan's: a type the compiler got wrong must not pass silently."""
    found = {field.name: field.dataType.simpleString() for field in frame.schema.fields}
    for name, kind in expected.items():
        if kind != "unknown" and found.get(name, kind) != kind:
            raise SqlError(
                "FS2006",
                f"{step_name}.{name} is {found[name]} in Spark, the plan says {kind}.",
                hint=f"Write CAST({name} AS {kind.upper()}), so that both agree.",
            )


def write_staged(frame: DataFrame, sink: SinkPlan, lineage: dict[str, str], uri: str, *, file_rows: int = 0) -> None:
    """Write the sink's rows under `uri`: partitioned, in files as few and as even as Spark can make them.

    Parameters
    ----------
    file_rows
        The most rows of a file; 0 leaves that to Spark's settings.
    """
    from pyspark.sql import functions as F  # noqa: N812

    for name in sink.lineage_columns:
        value = F.current_timestamp() if name == "_scored_at" else F.lit(lineage[name])
        frame = frame.withColumn(name, value)
    ordered = frame.select([F.col(quoted(column.name)) for column in sink.columns])
    # REBALANCE: one file a partition where that is small, several where it is large (SPARK-35725).
    balanced = ordered.hint("rebalance", *sink.partition_by)
    # The marker is Hadoop's, not ours: readiness of a partition is said by the publish, not by the writer.
    writer = balanced.write.partitionBy(*sink.partition_by).option(
        "mapreduce.fileoutputcommitter.marksuccessfuljobs", "false"
    )
    if file_rows:
        writer = writer.option("maxRecordsPerFile", file_rows)
    writer.format(sink.format).mode("errorifexists").save(uri)


def observed_rows(observation: Observation) -> int:
    """The count that an observed write has made.

    Spark removes an observation together with a relation that it can prove empty; its row is then empty, and `get` fails.
    """
    row = observation._jo.getRow() if observation._jo is not None else None  # noqa: SLF001 - there is no public way to ask
    return int(row.getLong(0)) if row is not None and row.size() else 0


def read_staged(spark: SparkSession, sink: SinkPlan, uri: str, *, exists: bool) -> DataFrame:
    """The staged files as a frame; no rows when nothing was written."""
    schema = schema_of(sink.columns)
    if not exists:
        return spark.createDataFrame([], schema)
    return spark.read.format(sink.format).schema(schema).option(*BY_NAME).load(uri)


@contextmanager
def spark_errors() -> Iterator[None]:
    """Raise the errors of Spark as `spark_fault` returns them."""
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException

    try:
        yield
    except (PySparkException, Py4JError) as error:
        raise spark_fault(error) from error


def spark_fault(error: Exception) -> FiresteelError:
    """Return the error that a failed Spark job is shown as. The error's condition decides, never its text.

    Raises
    ------
    KeyboardInterrupt
        This driver was interrupted, and Spark's error is a consequence: py4j closes the connection that it waits on.
    """
    if interrupted(error):
        raise KeyboardInterrupt from error
    from firesteel.conf.errors import RuntimeFault
    from firesteel.udfs.worker_errors import worker_died, worker_error

    found = worker_error(error)
    if found is not None:
        return found
    if worker_died(error):
        return RuntimeFault(
            "FS9002",
            "the Spark job died: a Python worker died, by a signal or by ending itself. Nothing was published.",
            hint="on_error: {action: dead_letter} finds the rows that do it. If it is memory: resources.executors.python_memory.",
        )
    if unreadable := _UNREADABLE.search(str(error)):
        return InputNotReady(
            "FS4003",
            f"{unreadable['file']} cannot be read: the file is damaged, or has another schema than its footer says. "
            "Nothing was published.",
            hint="Write the partition again. The driver's log has Spark's trace.",
        )
    condition = getattr(error, "getCondition", lambda: None)() or type(error).__name__
    # Redacted before anything is cut off: half a secret would not be found.
    lines = [line.rstrip() for line in redact(str(error)).splitlines() if line.strip()]
    raised = [match[1] for line in lines if (match := _PYTHON_ERROR.match(line))]
    if raised:  # a worker's traceback: its last line may quote the row, its class does not
        return RuntimeFault(
            "FS9002",
            f"the Spark job died: {condition}: {raised[-1]} in a Python worker.",
            hint="The driver's log has the trace.",
        )
    cause = next((line.strip() for line in reversed(lines) if line.startswith("Caused by:")), lines[0] if lines else "")
    return RuntimeFault("FS9002", f"the Spark job died: {condition}: {cause[:400]}")
