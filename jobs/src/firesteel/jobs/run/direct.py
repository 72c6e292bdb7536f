"""The direct operator for one interval: the job for `firesteel.udfs.direct`, and the commit of the files that its tasks wrote."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from firesteel.conf.hadoop import HadoopConf
from firesteel.conf.partitions import parse_value
from firesteel.jobs.spark.types import schema_of
from firesteel.pipelines.plan.model import Column, SqlStepPlan
from firesteel.pipelines.plan.settings import TIME_ZONE, differs_by_operator
from firesteel.pipelines.planner.operator import Chain, direct_chain
from firesteel.pipelines.sql.mapping import NotMapOnlyError
from firesteel.pipelines.storage.open import locate
from firesteel.udfs.direct.done import DONE, CompletedTask, drop_overlapping, read_mark
from firesteel.udfs.direct.job import SPLIT_BYTES, DirectResult, pack, run_direct
from firesteel.udfs.direct.spec import DirectSpec, FileSystemSpec, Projection, ScanSpec, Split, WriteSpec
from firesteel.udfs.direct.write import TEMPORARY

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from firesteel.pipelines.plan.model import IntervalPlan, Plan, ScoreStepPlan, SinkPlan
    from firesteel.pipelines.storage.base import Storage
    from firesteel.udfs.direct.spec import TaskResult
    from firesteel.udfs.spec import ScoreSpec

_CODECS = {
    **{name: name for name in ("zstd", "snappy", "gzip", "none")},
    "uncompressed": "none",
    "lz4_raw": "lz4",
}
"""Spark's names of Parquet's codecs -> pyarrow's."""
_SECRET = ("password", "secret", "keystore", "key.", "credential", "token")
"""Parts of keys of settings that are not sent to tasks: a task needs addresses, and has its own Kerberos tickets."""


@dataclass(frozen=True, slots=True)
class DirectJob:
    """A direct job that is ready to run."""

    spec: DirectSpec
    tasks: tuple[tuple[Split, ...], ...]
    done: tuple[TaskResult, ...] = ()
    """Tasks that an earlier job with the same staging path has finished."""

    def run(self, spark: SparkSession) -> DirectResult:
        """Run the job."""
        return run_direct(spark, self.spec, self.tasks, self.done)


@dataclass(frozen=True, slots=True)
class NotDirect:
    """The reason why an interval cannot be scored by the direct operator, as a phrase."""

    reason: str


def plan_direct_job(
    spark: SparkSession,
    plan: Plan,
    interval: IntervalPlan,
    scoring: ScoreSpec,
    staging: str,
    lineage: dict[str, str],
    done: tuple[CompletedTask, ...] = (),
) -> DirectJob | NotDirect:
    """Return the job, or the reason why a Spark job is needed instead. The views of the steps before the score must exist.

    Parameters
    ----------
    scoring
        The plan's score step, as the operator describes it.
    staging
        The staging path, within the sink's storage.
    done
        Tasks that `finished_tasks` found there.
    """
    sink, step = plan.sinks[0], plan.score_step
    assert step is not None  # `scoring` describes it
    try:
        steps = [interval.bound(other) if isinstance(other, SqlStepPlan) else other for other in plan.steps]
        chain = direct_chain(plan.sources, steps, plan.gates, plan.sinks, step)
    except NotMapOnlyError as why:
        return NotDirect(str(why))
    codec = _CODECS.get(sink.codec or str(spark.conf.get("spark.sql.parquet.compression.codec")).lower())
    if codec is None:
        return NotDirect("the session writes Parquet with another codec")
    if str(spark.conf.get("spark.sql.ansi.enabled")).lower() != "true":
        return NotDirect("the session is not in ANSI mode")
    if setting := differs_by_operator(dict(plan.spark_conf)):
        return NotDirect(f"configuration sets {setting}")
    if difference := _type_difference(spark, chain, step):
        return NotDirect(difference)
    file_systems = (_file_system(chain.source.path), _file_system(sink.path))
    if any(system.scheme == "hdfs" for system in file_systems) and find_spec("hdfs_native") is None:
        return NotDirect("hdfs-native is not installed (pip install hdfs-native)")
    files = next((read.files for read in interval.inputs if read.source == chain.source.name), ())
    # Spark may start more executors while the job runs, so the tasks are as many as the plan expects slots.
    slots = max(spark.sparkContext.defaultParallelism, plan.resources.scan_partitions)
    return DirectJob(
        _spec(
            *(chain, sink, step, scoring, staging, lineage, interval.added(sink.name), codec),
            str(spark.conf.get(TIME_ZONE)),
        ),
        pack(
            [(file.path, file.length) for file in files],
            slots,
            plan.resources.file_input_bytes or SPLIT_BYTES,
            [split for task in done for split in task.splits],
        ),
        tuple(task.result for task in done),
    )


def finished_tasks(storage: Storage, staging: str) -> tuple[CompletedTask, ...]:
    """Return the finished tasks of a staging path, by their marks; delete files that belong to none of them.

    A task counts when each of its files has its full length, either where the task wrote it or where `commit` has moved it.
    """
    lengths = {file.path[len(staging) + 1 :]: file.length for file in storage.walk(staging)}
    marks: dict[str, CompletedTask] = {}
    for path in lengths:
        if path.startswith(f"{DONE}/"):
            mark = read_mark(storage.read(f"{staging}/{path}"))
            if mark is not None and _locate_files(mark, lengths):
                marks[path] = mark
    tasks = drop_overlapping(marks.values())
    kept = {file.temporary for task in tasks for file in task.result.files}
    kept |= {path for path, mark in marks.items() if any(mark is task for task in tasks)}
    for path in lengths.keys() - kept:
        storage.delete(f"{staging}/{path}")
    return tuple(tasks)


def _locate_files(mark: CompletedTask, lengths: Mapping[str, int]) -> bool:
    """Return whether all files of a task exist, and set `temporary` of each to its path."""
    files = mark.result.files
    for index, file in enumerate(files):
        path = next((path for path in (file.final, file.temporary) if lengths.get(path) == file.size), None)
        if path is None:
            return False
        files[index] = replace(file, temporary=path)
    return True


def delete_task_marks(storage: Storage, staging: str) -> None:
    """Delete the marks, and the files that other attempts at tasks have written since `commit`."""
    for folder in (DONE, TEMPORARY):
        storage.delete(f"{staging}/{folder}")


def commit(storage: Storage, staging: str, result: DirectResult) -> None:
    """Move the files of the successful task attempts to their partitions, and delete the files of all others."""
    created: set[str] = set()
    for file in result.files:
        if file.temporary == file.final:
            continue
        folder = f"{staging}/{file.final}".rpartition("/")[0]
        if folder not in created:
            storage.mkdirs(folder)
            created.add(folder)
        storage.rename(f"{staging}/{file.temporary}", f"{staging}/{file.final}")
    storage.delete(f"{staging}/{TEMPORARY}")


def _type_difference(spark: SparkSession, chain: Chain, step: ScoreStepPlan) -> str:
    """Return the first column whose type differs between Spark and the compiler, as a phrase; empty if there is none."""
    types = {field.name: field.dataType.simpleString() for field in spark.table(step.input).schema.fields}
    for column in chain.columns:
        if types.get(column.name) != column.type:
            return f"{step.input}.{column.name} is {types.get(column.name)} in Spark, {column.type} in the plan"
    return ""


def _spec(
    chain: Chain,
    sink: SinkPlan,
    step: ScoreStepPlan,
    scoring: ScoreSpec,
    staging: str,
    lineage: dict[str, str],
    added: dict[str, str],
    codec: str,
    zone: str,
) -> DirectSpec:
    source = chain.source
    read = {name.lower() for name in _columns_read(chain, step)}
    columns = [column for column in source.columns if column.name.lower() in read]
    schema = _arrow(columns, zone)
    partitions = _arrow(source.partitions, zone)
    outputs = [Column(output.name, output.type) for output in step.produced]
    lineages = [column for column in sink.columns if column.name in sink.lineage_columns]
    kept = [column for column in chain.columns if column.name in step.keep]
    kinds = {column.name: column.type for column in _arrow([*kept, *outputs, *lineages], zone)}
    constants: list[tuple[str, Any, Any]] = []
    for name in sink.lineage_columns:
        value = datetime.now(UTC) if name == "_scored_at" else lineage[name]
        constants.append((name, kinds[name], value))
    parts = [column for column in sink.columns if column.name in added]
    constants += [
        (column.name, kind.type, parse_value(added[column.name], column.type))
        for column, kind in zip(parts, _arrow(parts, zone), strict=True)
    ]
    data = tuple(column.name for column in sink.columns if column.name not in sink.partition_by)
    return DirectSpec(
        scan=ScanSpec(
            _file_system(source.path),
            locate(source.path)[1],
            schema,
            tuple((column.name, column.type) for column in partitions),
        ),
        projections=tuple(Projection(mapping.columns, mapping.where) for mapping in chain.maps),
        score=scoring,
        scored=_schema([(name, kinds[name]) for name in (*step.keep, *(output.name for output in step.produced))]),
        write=WriteSpec(
            _file_system(sink.path), staging, data, sink.partition_by, tuple(constants), codec, sink.file_bytes or 0
        ),
    )


def _columns_read(chain: Chain, step: ScoreStepPlan) -> set[str]:
    """Return the columns of the source that the first map, or the score step, reads."""
    if not chain.maps:
        return {*step.columns_read}
    names: set[str] = set()

    def visit(expression: Any) -> None:
        if expression[0] == "column":
            names.add(expression[2])
            return
        for operand in expression[2:]:
            if isinstance(operand, tuple):
                visit(operand)

    first = chain.maps[0]
    for _, expression in first.columns:
        visit(expression)
    if first.where is not None:
        visit(first.where)
    return names


def _file_system(uri: str) -> FileSystemSpec:
    """Return how tasks reach the file system of a URI."""
    storage, _ = locate(uri)
    scheme, _, authority = storage.base_uri.partition("://")
    if scheme != "hdfs":
        return FileSystemSpec("file")
    settings = HadoopConf.load()
    kept = tuple(
        (key, settings.get(key))
        for key in sorted(settings.values)
        if key.startswith(("dfs.", "fs.", "hadoop.security.", "hadoop.rpc."))
        and not any(word in key for word in _SECRET)
    )
    return FileSystemSpec("hdfs", authority, kept, os.environ.get("HADOOP_USER_NAME", ""))


def _arrow(columns: Iterable[Column], zone: str) -> Any:
    """Return the Arrow schema that Spark uses to send these columns to Python, with instants in the session's time zone."""
    from pyspark.sql.pandas.types import to_arrow_schema

    fields = tuple(columns)
    return to_arrow_schema(schema_of(fields), timezone=zone) if fields else _schema([])


def _schema(fields: list[tuple[str, Any]]) -> Any:
    import pyarrow as pa

    return pa.schema(fields)
