"""The operator: `mapInArrow` over the input, opaque to the optimizer, so that no filter goes through it and no row twice.

A deterministic `pandas_udf` is inlined where its result is used, so a filter on the score evaluates it again, and Spark's
own conversion makes nullable integers floats: docs/adr/0002-scoring-operator.md has the numbers.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from firesteel.conf.errors import FiresteelError, RowErrorBudget
from firesteel.conf.identifiers import quoted
from firesteel.udfs.attempts import attempt_at
from firesteel.udfs.batching import rebatch
from firesteel.udfs.dead_letter import DeadLetter, Failed, message_of
from firesteel.udfs.dead_letter_codec import encode_row, type_names
from firesteel.udfs.engine import Engine
from firesteel.udfs.gpus import pin_gpus
from firesteel.udfs.guard import guarded
from firesteel.udfs.model import LoadedModel, load_model
from firesteel.udfs.model_errors import summary_of
from firesteel.udfs.outputs import outputs_to_arrow
from firesteel.udfs.report import ByPartition, Clock, ScoreReport, TaskReport, summarise
from firesteel.udfs.shadow import Shadow
from firesteel.udfs.spec import ScoreSpec
from firesteel.udfs.worker_errors import WorkerError, worker_error

if TYPE_CHECKING:
    from pyspark.accumulators import Accumulator
    from pyspark.sql import DataFrame
    from pyspark.sql.types import DataType

__all__ = ["Scored", "score", "worker_error"]


@dataclass(frozen=True, slots=True)
class Scored:
    """A scored frame: kept columns, then outputs. Lazy, as every frame; each action scores anew."""

    df: DataFrame
    _tasks: Accumulator[dict[int, TaskReport]]

    def report(self) -> ScoreReport:
        """The counts of the last action that ran to its end over all partitions. Zero before the first."""
        return summarise(self._tasks.value)


def score(df: DataFrame, spec: ScoreSpec) -> Scored:
    """Score a frame with a shipped model (`firesteel.udfs.model.ship_model`).

    Parameters
    ----------
    df
        Holds the features and the kept columns; others are not sent to Python.
    spec
        Model, columns, outputs, batches, what happens to rows that fail.

    Raises
    ------
    ValueError
        A column is not there. Errors of the model come with the first action; `worker_error` finds them.
    """
    from pyspark.sql import functions as F  # noqa: N812
    from pyspark.sql.types import StructField, StructType

    columns = spec.columns
    missing = [name for name in columns if name not in df.columns]
    if missing:
        raise ValueError(f"no such column: {', '.join(missing)}; there are {', '.join(df.columns)}")
    kept = [df.schema[name] for name in spec.keep]
    outputs = [StructField(output.name, _type(output.type)) for output in spec.made]
    schema = StructType([*kept, *outputs])
    tasks = df.sparkSession.sparkContext.accumulator({}, ByPartition())
    zone = str(df.sparkSession.conf.get("spark.sql.session.timeZone"))
    operator = _operator(spec, schema, zone, tasks)
    # By number: `mapInArrow` takes a dot in a name for a field of a struct.
    numbered = df.select([F.col(quoted(name)).alias(f"c{number}") for number, name in enumerate(columns)])
    return Scored(numbered.mapInArrow(operator, schema), tasks)


def _type(text: str) -> DataType:
    from pyspark.sql.types import StructType

    parsed = StructType.fromDDL(f"x {text}")
    assert isinstance(parsed, StructType)
    return parsed.fields[0].dataType


def _operator(
    spec: ScoreSpec, schema: Any, zone: str, tasks: Accumulator[dict[int, TaskReport]]
) -> Callable[..., Iterator[pa.RecordBatch]]:
    """The function that runs in each task. It must carry nothing but plain values to the executors."""
    from pyspark.sql.pandas.types import to_arrow_schema

    arrow = to_arrow_schema(schema, timezone=zone)
    job = secrets.token_hex(6)

    def run(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        from pyspark import TaskContext

        context = TaskContext.get()
        pin_gpus(context)
        report = TaskReport(context.partitionId() if context else 0, context.taskAttemptId() if context else 0)
        try:
            with attempt_at(context, spec, job) as suited:
                named = (batch.rename_columns(list(spec.columns)) for batch in batches)
                yield from score_batches(named, suited, arrow, report)
        except FiresteelError as error:
            raise WorkerError(error) from error
        finally:
            tasks.add({report.partition: report})

    return run


def score_batches(
    batches: Iterable[pa.RecordBatch], spec: ScoreSpec, schema: pa.Schema, report: TaskReport
) -> Iterator[pa.RecordBatch]:
    """Score one task's batches; `report` is filled on the way. The operator without Spark."""
    clock = Clock(report.seconds)
    if spec.backend == "guarded":
        loaded = LoadedModel(spec.model, guarded(spec.model, spec.timeout_s).predict)
        spec = replace(
            spec, timeout_s=None, warmup=False
        )  # the guard's own; a process that computes once has no first call
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
        inputs = spec.of_model(table)
        if engine is None:
            engine = _engine(loaded, spec, inputs.schema)
            clock.add("warm up")
        for piece in engine.pieces(inputs, report, clock):
            report.choice = engine.choice
            if isinstance(piece, Failed):
                _put_aside(spec, table, piece, report)
                continue
            rows = piece.stop - piece.start
            arrays = outputs_to_arrow(piece.prediction, spec.outputs, types, rows, spec.model.name)
            kept = table.slice(piece.start, rows).select(spec.keep).combine_chunks()
            columns = [_one(kept.column(name)).cast(schema.field(name).type) for name in spec.keep]
            report.rows_scored += rows
            clock.add("encode")
            if shadow is not None:
                arrays += shadow.columns(table.slice(piece.start, rows), arrays)
                clock.add("challenger")
            yield pa.RecordBatch.from_arrays([*columns, *arrays], schema=schema)
            clock.add("write")


def _engine(loaded: LoadedModel, spec: ScoreSpec, schema: pa.Schema) -> Engine:
    """The worker's engine for these columns: a backend is chosen once a worker and not once a task."""
    types = dict(zip(schema.names, schema.types, strict=True))
    key = (*types.items(), spec.backend, spec.threads, spec.on_error, spec.timeout_s)
    if key not in loaded.engines:
        loaded.engines[key] = Engine(loaded, spec, types)
        if spec.warmup:
            loaded.engines[key].warm_up()
    engine: Engine = loaded.engines[key]
    return engine


def _one(column: pa.ChunkedArray) -> pa.Array:
    return (
        column.chunk(0)
        if column.num_chunks == 1
        else pa.concat_arrays(column.chunks)
        if column.num_chunks
        else pa.array([], column.type)
    )


def _values(table: pa.Table, failed: Failed, encoded: Mapping[str, Any]) -> Mapping[str, Any]:
    """The row as Python has it; where Python has no such date, as JSON."""
    try:
        row: dict[str, Any] = table.slice(failed.index, 1).to_pylist()[0]
    except (OverflowError, ValueError):
        return encoded
    return row


def _put_aside(spec: ScoreSpec, table: pa.Table, failed: Failed, report: TaskReport) -> None:
    name, message = type(failed.error).__name__, message_of(failed.error)
    try:
        encoded = encode_row(table, failed.index)
    except UnicodeDecodeError:
        raise RowErrorBudget(
            "FS5001",
            f"model {spec.model.name}: a text value of a row is not valid UTF-8. Nothing was published.",
            hint="Write the files again with valid text, or declare the column `binary`.",
        ) from failed.error
    if spec.on_error.action == "fail":
        raise RowErrorBudget(
            "FS5001",
            f"model {spec.model.name} failed on a row: {summary_of(failed.error, _values(table, failed, encoded))}. Nothing was "
            "published.",
            hint="Read the whole trace in the executor's log. Set on_error: {action: dead_letter} to keep such rows with "
            "their errors and score the others.",
        ) from failed.error
    kinds = type_names(table.schema)
    report.dead_letters.append(DeadLetter(tuple(encoded.items()), name, message, tuple(kinds.items())))
    if len(report.dead_letters) > spec.on_error.max_rows:
        raise RowErrorBudget(
            "FS5003",
            f"model {spec.model.name}: more than max_rows {spec.on_error.max_rows:,} bad rows in one task. First: "
            f"{report.dead_letters[0].error}. Nothing was published.",
            hint="Mend the rows or the model; raise the budget only if these may be lost.",
        )
