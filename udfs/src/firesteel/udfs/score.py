"""Score a Spark DataFrame with `mapInArrow`.

The optimizer does not push filters through `mapInArrow`, so each row is scored once. Spark inlines a deterministic `pandas_udf`, so a
filter on the score evaluates it twice, and its conversion turns nullable integers into floats. See docs/adr/0002-scoring-operator.md
for measurements.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from firesteel.conf.errors import FiresteelError, RowErrorBudget
from firesteel.conf.identifiers import quoted
from firesteel.udfs.attempts import task_attempt
from firesteel.udfs.batching import rebatch
from firesteel.udfs.dead_letter import DeadLetter, FailedRow, error_message
from firesteel.udfs.dead_letter_codec import encode_row, type_names
from firesteel.udfs.engine import Engine
from firesteel.udfs.gpus import pin_gpus
from firesteel.udfs.guard import guarded
from firesteel.udfs.model import LoadedModel, load_model
from firesteel.udfs.model_errors import summarize_error
from firesteel.udfs.outputs import outputs_to_arrow
from firesteel.udfs.report import Clock, ReportsByPartition, ScoreReport, TaskReport, summarise
from firesteel.udfs.requirements import check_module_error
from firesteel.udfs.shadow import Shadow
from firesteel.udfs.spec import ScoreSpec
from firesteel.udfs.worker_errors import WorkerError, worker_error

if TYPE_CHECKING:
    from pyspark.accumulators import Accumulator
    from pyspark.sql import DataFrame
    from pyspark.sql.types import DataType

__all__ = ["ScoredFrame", "score", "worker_error"]


@dataclass(frozen=True, slots=True)
class ScoredFrame:
    """A lazy scored DataFrame: kept columns, then outputs. Each action scores all rows again."""

    df: DataFrame
    _tasks: Accumulator[dict[int, TaskReport]]

    def report(self) -> ScoreReport:
        """Return the counts of the last completed action over all partitions, or zero before the first one."""
        return summarise(self._tasks.value)


def score(df: DataFrame, spec: ScoreSpec) -> ScoredFrame:
    """Score a DataFrame with a distributed model (`firesteel.udfs.model.distribute_model`).

    Parameters
    ----------
    df
        Has the features and the kept columns. Other columns are not sent to Python.
    spec
        Model, columns, outputs, batch size and error handling.

    Raises
    ------
    ValueError
        A column is missing. Actions raise the model's errors; `worker_error` extracts them.
    """
    from pyspark.sql import functions as F  # noqa: N812
    from pyspark.sql.types import StructField, StructType

    columns = spec.columns
    missing = [name for name in columns if name not in df.columns]
    if missing:
        raise ValueError(f"the DataFrame has no column {', '.join(missing)} (available: {', '.join(df.columns)})")
    kept_columns = [df.schema[name] for name in spec.keep]
    outputs = [StructField(output.name, _type(output.type)) for output in spec.result_columns]
    schema = StructType([*kept_columns, *outputs])
    tasks = df.sparkSession.sparkContext.accumulator({}, ReportsByPartition())
    zone = str(df.sparkSession.conf.get("spark.sql.session.timeZone"))
    operator = _operator(spec, schema, zone, tasks)
    # Columns are numbered, because `mapInArrow` reads a dot in a name as a struct field.
    numbered = df.select([F.col(quoted(name)).alias(f"c{number}") for number, name in enumerate(columns)])
    return ScoredFrame(numbered.mapInArrow(operator, schema), tasks)


def _type(text: str) -> DataType:
    from pyspark.sql.types import StructType

    parsed = StructType.fromDDL(f"x {text}")
    assert isinstance(parsed, StructType)
    return parsed.fields[0].dataType


def _operator(
    spec: ScoreSpec, schema: Any, zone: str, tasks: Accumulator[dict[int, TaskReport]]
) -> Callable[..., Iterator[pa.RecordBatch]]:
    """Return the function that runs in each task. Its closure must contain only plain values."""
    from pyspark.sql.pandas.types import to_arrow_schema

    arrow = to_arrow_schema(schema, timezone=zone)
    job = secrets.token_hex(6)

    def run(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        from pyspark import TaskContext

        context = TaskContext.get()
        pin_gpus(context)
        report = TaskReport(context.partitionId() if context else 0, context.taskAttemptId() if context else 0)
        try:
            with task_attempt(context, spec, job) as attempt_spec:
                named = (batch.rename_columns(list(spec.columns)) for batch in batches)
                yield from score_batches(named, attempt_spec, arrow, report)
        except FiresteelError as error:
            raise WorkerError(error) from error
        finally:
            tasks.add({report.partition: report})

    return run


def score_batches(
    batches: Iterable[pa.RecordBatch], spec: ScoreSpec, schema: pa.Schema, report: TaskReport
) -> Iterator[pa.RecordBatch]:
    """Score the batches of one task without Spark, and add the counts to `report`."""
    clock = Clock(report.seconds)
    if spec.backend == "guarded":
        loaded = LoadedModel(spec.model, guarded(spec.model, spec.timeout_s).predict)
        spec = replace(
            spec, timeout_s=None, warmup=False
        )  # the guard applies the timeout, and warming up a process for one call is useless
    else:
        loaded, fresh = load_model(spec.model, spec.threads, spec.models_in_memory + (spec.challenger is not None))
        report.loads += fresh
    clock.add("load")
    types = [schema.field(output.name).type for output in spec.outputs]
    engine: Engine | None = None
    shadow = Shadow(spec, spec.challenger, types, report) if spec.challenger else None
    for table in rebatch(batches, spec.batch_rows, spec.batch_bytes):
        clock.add("read")
        report.rows_in += table.num_rows
        report.batches += 1
        report.max_batch_rows = max(report.max_batch_rows, table.num_rows)
        inputs = spec.model_inputs(table)
        if engine is None:
            engine = _engine(loaded, spec, inputs.schema)
            clock.add("warm up")
        for result in engine.score(inputs, report, clock):
            report.choice = engine.choice
            if isinstance(result, FailedRow):
                _handle_failed_row(spec, table, result, report)
                continue
            rows = result.stop - result.start
            arrays = outputs_to_arrow(result.prediction, spec.outputs, types, rows, spec.model.name)
            kept_columns = table.slice(result.start, rows).select(spec.keep).combine_chunks()
            columns = [_to_array(kept_columns.column(name)).cast(schema.field(name).type) for name in spec.keep]
            report.rows_scored += rows
            clock.add("encode")
            if shadow is not None:
                arrays += shadow.columns(table.slice(result.start, rows), arrays)
                clock.add("challenger")
            yield pa.RecordBatch.from_arrays([*columns, *arrays], schema=schema)
            clock.add("write")


def _engine(loaded: LoadedModel, spec: ScoreSpec, schema: pa.Schema) -> Engine:
    """Return the worker's engine for these columns. A worker chooses the backend once, not per task."""
    types = dict(zip(schema.names, schema.types, strict=True))
    key = (*types.items(), spec.backend, spec.threads, spec.on_error, spec.timeout_s)
    if key not in loaded.engines:
        loaded.engines[key] = Engine(loaded, spec, types)
        if spec.warmup:
            loaded.engines[key].warm_up()
    engine: Engine = loaded.engines[key]
    return engine


def _to_array(column: pa.ChunkedArray) -> pa.Array:
    return (
        column.chunk(0)
        if column.num_chunks == 1
        else pa.concat_arrays(column.chunks)
        if column.num_chunks
        else pa.array([], column.type)
    )


def _values(table: pa.Table, failed: FailedRow, encoded: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the row as Python values, or as JSON values if Python cannot represent a date."""
    try:
        row: dict[str, Any] = table.slice(failed.index, 1).to_pylist()[0]
    except (OverflowError, ValueError):
        return encoded
    return row


def _handle_failed_row(spec: ScoreSpec, table: pa.Table, failed: FailedRow, report: TaskReport) -> None:
    check_module_error(failed.error, spec.model.name)
    name, message = type(failed.error).__name__, error_message(failed.error)
    try:
        encoded = encode_row(table, failed.index)
    except UnicodeDecodeError:
        raise RowErrorBudget(
            "FS5001",
            f"model {spec.model.name}: a string value of a row is not valid UTF-8. Nothing was published.",
            hint="Write the files again with valid UTF-8, or declare the column as `binary`.",
        ) from failed.error
    if spec.on_error.action == "fail":
        raise RowErrorBudget(
            "FS5001",
            f"model {spec.model.name} failed on a row: {summarize_error(failed.error, _values(table, failed, encoded))}. Nothing was "
            "published.",
            hint="Read the full stack trace in the executor's log. Set on_error: {action: dead_letter} to write such rows to dead "
            "letters and score the others.",
        ) from failed.error
    kinds = type_names(table.schema)
    report.dead_letters.append(DeadLetter(tuple(encoded.items()), name, message, tuple(kinds.items())))
    if len(report.dead_letters) > spec.on_error.max_rows:
        raise RowErrorBudget(
            "FS5003",
            f"model {spec.model.name} failed on more rows of one task than on_error.max_rows ({spec.on_error.max_rows:,}). First error: "
            f"{report.dead_letters[0].error}. Nothing was published.",
            hint="Fix the rows or the model. Raise `max_rows` only if these rows may be missing.",
        )
