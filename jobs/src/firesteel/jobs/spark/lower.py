"""Translate the sources, SQL steps and sinks of a plan into DataFrames. Sources and steps become temporary views of the plan's session."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING
from urllib.parse import unquote

from firesteel.conf.errors import FiresteelError, InputNotReady, SqlError
from firesteel.conf.formats import LINES
from firesteel.conf.identifiers import quoted
from firesteel.conf.quantities import plural
from firesteel.conf.redaction import redact
from firesteel.jobs.interrupt import interrupted
from firesteel.jobs.spark.lines import parsed_rows, read_lines, unclosed_quotes
from firesteel.jobs.spark.types import schema_of
from firesteel.pipelines.plan.model import SqlStepPlan

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, Observation, SparkSession

    from firesteel.pipelines.plan.model import IntervalPlan, Plan, SinkPlan, SourcePlan


BY_NAME = ("__globPaths__", "false")
"""Reader option of Spark. Without it, Spark treats [ ] { } * ? in a path as a pattern, and reads other files."""
_UNREADABLE = re.compile(r"\[FAILED_READ_FILE[.\w]*\].*? file (?P<file>\S.*?)\.?\s+SQLSTATE")
_HEADER = re.compile(
    r"(?P<what>(?:CSV header does not|Number of column in CSV header)[^\r]*?)\s+CSV file: (?P<file>\S+)"
)
_PYTHON_ERROR = re.compile(r"([A-Za-z_][\w.]*(?:Error|Exception|Interrupt|Exit))(?::|$)")


def read_sources(spark: SparkSession, plan: Plan, interval: IntervalPlan) -> None:
    """Create a view of each source: exactly the files of the manifest, and only the columns that the plan needs.

    Rows that cannot be parsed are not in it.
    """
    for source in plan.sources:
        _read(spark, source, files_of(source, interval)).createOrReplaceTempView(source.name)


def files_of(source: SourcePlan, interval: IntervalPlan) -> tuple[str, ...]:
    """Return the paths of the files that an interval reads from a source."""
    files = next((manifest.files for manifest in interval.inputs if manifest.source == source.name), ())
    return tuple(file.path for file in files)


def _read(spark: SparkSession, source: SourcePlan, files: tuple[str, ...]) -> DataFrame:
    schema = schema_of((*source.columns, *source.partitions))
    if not files:
        return spark.createDataFrame([], schema)
    if source.format in LINES:
        from pyspark.sql import functions as F  # noqa: N812

        rows = read_files_of_lines(spark, source, files)
        # Spark refuses a query of CSV files that reads only the column of raw texts, such as a count of the parsed rows.
        every = F.hash(*(quoted(column.name) for column in source.file_columns)) >= F.lit(-(1 << 31))
        return parsed_rows(source, rows.where(every))
    reader = spark.read.format(source.format).schema(schema).option("basePath", source.path)
    frame = reader.option(*BY_NAME).load([f"{source.path}/{file}" for file in files])
    return frame.select([frame[f"`{name}`"] for name in schema.names])


def read_files_of_lines(spark: SparkSession, source: SourcePlan, files: Sequence[str]) -> DataFrame:
    """Return the rows of files without a schema, with those that cannot be parsed, as `read_lines` does."""
    reader = spark.read.option("basePath", source.path).option(*BY_NAME)
    return read_lines(source, reader, [f"{source.path}/{file}" for file in files])


def read_unclosed_quotes(spark: SparkSession, source: SourcePlan, files: Sequence[str]) -> tuple[str, str] | None:
    """Return a file and its first text with a quote that is not closed, as `unclosed_quotes` does; None if there is none."""
    frame = unclosed_quotes(source, spark.read.option(*BY_NAME), [f"{source.path}/{file}" for file in files])
    row = None if frame is None else frame.first()
    return None if row is None else (str(row[0]), str(row[1]))


def materialize(frame: DataFrame, uri: str) -> DataFrame:
    """Write the rows to files and return a frame over these. A cached frame would not do: Spark recomputes lost blocks."""
    writer = frame.write.option("mapreduce.fileoutputcommitter.marksuccessfuljobs", "false")
    writer.mode("errorifexists").parquet(uri)
    return frame.sparkSession.read.schema(frame.schema).parquet(uri)


def check_required(spark: SparkSession, source: SourcePlan, interval: str) -> None:
    """Check in one pass that the `!` columns of a source have no nulls. Without such columns, read nothing.

    Raises
    ------
    InputNotReady
        FS4003 with the number of nulls of each such column.
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
        columns = ", ".join(f"{plural(count, 'null')} in `{name}`" for name, count in nulls.items())
        raise InputNotReady(
            "FS4003",
            f"{source.name} {interval}: {columns} of {plural(rows, 'row')}; the contract allows no nulls. Nothing was published.",
            hint="Fix the data, or remove the `!` from the contract.",
        )


def make_view(spark: SparkSession, step: SqlStepPlan, interval: IntervalPlan) -> None:
    """Create the view of a step for an interval. Spark binds the args, so a value can never become SQL.

    Raises
    ------
    SqlError
        FS2001 with Spark's error condition and message. FS2007 when the step reads other relations than the plan says, FS2008 when a
        value is not the same in every run.
    """
    from pyspark.errors import AnalysisException, ParseException

    # Spark would replace `${env:NAME}` and `${spark...}` in the text with values that the plan does not pin.
    spark.conf.set("spark.sql.variable.substitute", "false")
    try:
        frame = spark.sql(step.sql, args=dict(interval.bound(step).args))
    except (AnalysisException, ParseException) as error:
        condition = error.getCondition() or "ANALYSIS_ERROR"
        reason = redact(error.getMessage() or str(error)).splitlines()[0].removeprefix(f"[{condition}]").strip()
        raise SqlError("FS2001", f"Spark cannot analyse step {step.name}: {condition}: {reason}") from error
    planned = {relation.lower() for relation in step.reads}
    if others := sorted(relation for relation in relations_read(frame) if relation.lower() not in planned):
        raise SqlError(
            "FS2007",
            f"Spark reads {', '.join(others)} in step {step.name}, the plan says {', '.join(step.reads) or 'no relation'}.",
            hint="Use only names of sources and steps in the SQL, and plan again.",
        )
    if changing := values_that_change(frame):
        raise SqlError(
            "FS2008",
            f"Spark computes {changing} in step {step.name}, whose result is not the same in every run.",
            hint='Bind the value in the step\'s `args`, for example `args: {at: "${interval.start}"}`, and plan again.',
        )
    frame.createOrReplaceTempView(step.name)


def values_that_change(frame: DataFrame) -> str:
    """Return a part of a frame's SQL that differs in each run, by Spark's analysis; empty if there is none.

    `validate` knows Spark's functions by their names. It knows neither functions of a catalog nor the casts that Spark adds:
    Spark casts the string `today` to another date each day, for example in `dt < 'today'`.
    """
    execution = frame._jdf.queryExecution()  # noqa: SLF001 - there is no public way to ask
    jvm = frame.sparkSession._jvm  # noqa: SLF001
    assert jvm is not None
    optimizer = jvm.org.apache.spark.sql.catalyst.optimizer
    subqueries = execution.analyzed().subqueriesAll()
    pending = [execution.analyzed(), *(subqueries.apply(index) for index in range(subqueries.size()))]
    for plan in pending:
        if not plan.fastEquals(optimizer.SpecialDatetimeValues.apply(plan)):
            return "a date or time from a string such as 'today' or 'epoch'"
        if not plan.fastEquals(optimizer.ComputeCurrentTime.apply(plan)):
            return "the current time"
    while pending:
        node = pending.pop()
        if str(node.getClass().getSimpleName()) == "View":
            continue  # its own step was checked
        expressions, inner = node.expressions(), node.children()
        for index in range(expressions.size()):
            if not expressions.apply(index).deterministic():
                return f"`{expressions.apply(index).sql()}`"
        pending += [inner.apply(index) for index in range(inner.size())]
    return ""


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
    """Compare the column types of a frame with the plan's, so that a wrong type of the compiler raises an error."""
    types = {field.name: field.dataType.simpleString() for field in frame.schema.fields}
    for name, kind in expected.items():
        if kind != "unknown" and types.get(name, kind) != kind:
            raise SqlError(
                "FS2006",
                f"{step_name}.{name} is {types[name]} in Spark, but {kind} in the plan.",
                hint=f"Write CAST({name} AS {kind.upper()}).",
            )


def write_staged(
    frame: DataFrame,
    sink: SinkPlan,
    lineage: dict[str, str],
    uri: str,
    *,
    added: Mapping[str, str] = MappingProxyType({}),
    file_rows: int = 0,
) -> None:
    """Write the sink's rows below `uri`: partitioned, in few files of similar size.

    Parameters
    ----------
    added
        Column -> value, for the partition columns that are the same in all rows.
    file_rows
        The maximum number of rows of a file; 0 leaves it to Spark's settings.
    """
    from pyspark.sql import functions as F  # noqa: N812

    for name in sink.lineage_columns:
        value = F.current_timestamp() if name == "_scored_at" else F.lit(lineage[name])
        frame = frame.withColumn(name, value)
    for column in sink.columns:
        if column.name in added:
            frame = frame.withColumn(column.name, F.lit(added[column.name]).cast(column.type))
    ordered = frame.select([F.col(quoted(column.name)) for column in sink.columns])
    # REBALANCE writes one file for a small partition and several for a large one (SPARK-35725).
    balanced = ordered.hint("rebalance", *sink.partition_by)
    # No _SUCCESS file of Hadoop: the publish marks a partition as ready, not the writer.
    writer = balanced.write.partitionBy(*sink.partition_by).option(
        "mapreduce.fileoutputcommitter.marksuccessfuljobs", "false"
    )
    if sink.codec:
        writer = writer.option("compression", sink.codec)
    if file_rows:
        writer = writer.option("maxRecordsPerFile", file_rows)
    writer.format(sink.format).mode("errorifexists").save(uri)


def observed_rows(observation: Observation) -> int:
    """Return the row count of an observed write.

    Spark removes an observation with a relation that it proves to be empty. Its row is then empty, and `get` fails.
    """
    row = observation._jo.getRow() if observation._jo is not None else None  # noqa: SLF001 - no public API
    return int(row.getLong(0)) if row is not None and row.size() else 0


def read_staged(spark: SparkSession, sink: SinkPlan, uri: str, *, exists: bool) -> DataFrame:
    """Return the staged files as a frame, without rows if nothing was written."""
    schema = schema_of(sink.columns)
    if not exists:
        return spark.createDataFrame([], schema)
    return spark.read.format(sink.format).schema(schema).option(*BY_NAME).load(uri)


def read_files(spark: SparkSession, sink: SinkPlan, uris: Sequence[str], base_uri: str) -> DataFrame:
    """Return the rows of a sink's files. The folders between `base_uri` and the files give the partition columns."""
    schema = schema_of(sink.columns)
    if not uris:
        return spark.createDataFrame([], schema)
    reader = spark.read.format(sink.format).schema(schema).option("basePath", base_uri)
    return reader.option(*BY_NAME).load(list(uris))


@contextmanager
def spark_errors() -> Iterator[None]:
    """Raise errors of Spark as the errors that `spark_fault` returns."""
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException

    try:
        yield
    except (PySparkException, Py4JError) as error:
        raise spark_fault(error) from error


def _without_avro() -> FiresteelError:
    from pyspark import __version__ as version

    from firesteel.conf.errors import RuntimeFault

    package = f"org.apache.spark:spark-avro_2.13:{version}"
    return RuntimeFault(
        "FS9004",
        "a source has the format avro, and the Spark session lacks the package that reads it. Nothing was read.",
        hint=f"Set `spark.jars.packages: {package}` in `configuration` (or `spark.jars`, with the path of the jar).",
    )


def spark_fault(error: Exception) -> FiresteelError:
    """Return the FiresteelError for a failed Spark job. The condition of Spark's error selects it, not the text.

    Raises
    ------
    KeyboardInterrupt
        The driver was interrupted. Spark's error is a consequence: py4j closes the connection that it waits on.
    """
    if interrupted(error):
        raise KeyboardInterrupt from error
    from firesteel.conf.errors import RuntimeFault
    from firesteel.udfs.worker_errors import worker_died, worker_error

    if (fault := worker_error(error)) is not None:
        return fault
    if worker_died(error):
        return RuntimeFault(
            "FS9002",
            "the Spark job failed: a Python worker died (killed by a signal, or it exited). Nothing was published.",
            hint="Set on_error: {action: dead_letter} to find the rows that cause it. If memory ran out, raise resources.executors.python_memory.",
        )
    if header := _HEADER.search(str(error)):
        return InputNotReady(
            "FS4003",
            f"{unquote(header['file'])}: {' '.join(header['what'].split())}. Nothing was published.",
            hint="Declare the columns of the file in their order, or set `options: {header: false}` if its first line is a row.",
        )
    if unreadable := _UNREADABLE.search(str(error)):
        return InputNotReady(
            "FS4003",
            f"{unreadable['file']} cannot be read: the file is damaged, or its data does not match its footer. "
            "Nothing was published.",
            hint="Write the partition again. The driver's log has Spark's stack trace.",
        )
    condition = getattr(error, "getCondition", lambda: None)() or type(error).__name__
    if condition == "AVRO_DATA_SOURCE_NOT_ENABLED":
        return _without_avro()
    # Redact before truncating: part of a secret would not be recognised.
    lines = [line.rstrip() for line in redact(str(error)).splitlines() if line.strip()]
    raised = [match[1] for line in lines if (match := _PYTHON_ERROR.match(line))]
    if raised:  # a worker's traceback: its last line may contain values of the row; the class does not
        return RuntimeFault(
            "FS9002",
            f"the Spark job failed: {condition}: {raised[-1]} in a Python worker.",
            hint="Read the traceback in the driver's log.",
        )
    cause = next((line.strip() for line in reversed(lines) if line.startswith("Caused by:")), lines[0] if lines else "")
    return RuntimeFault("FS9002", f"the Spark job failed: {condition}: {cause[:400]}")
