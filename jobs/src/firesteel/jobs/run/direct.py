"""The direct operator for one interval: the plan as `firesteel.udfs.direct` wants it, and the commit of what it wrote."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from firesteel.conf.hadoop import HadoopConf
from firesteel.jobs.spark.types import schema_of
from firesteel.pipelines.plan.model import Column, SqlStepPlan
from firesteel.pipelines.plan.settings import TIME_ZONE, differs_by_operator
from firesteel.pipelines.planner.operator import Chain, direct_chain
from firesteel.pipelines.sql.mapping import NotMapOnlyError
from firesteel.pipelines.storage.open import locate
from firesteel.udfs.direct.done import DONE, Done, apart, read_mark
from firesteel.udfs.direct.job import SPLIT_BYTES, DirectResult, pack, run_direct
from firesteel.udfs.direct.spec import DirectSpec, Place, Projection, ScanSpec, Split, WriteSpec
from firesteel.udfs.direct.write import TEMPORARY

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from firesteel.pipelines.plan.model import IntervalPlan, Plan, ScoreStepPlan, SinkPlan
    from firesteel.pipelines.storage.base import Storage
    from firesteel.udfs.direct.spec import TaskResult
    from firesteel.udfs.spec import ScoreSpec

_CODECS = {"zstd": "zstd", "snappy": "snappy", "gzip": "gzip", "none": "none", "uncompressed": "none"}
_SECRET = ("password", "secret", "keystore", "key.", "credential", "token")
"""Settings that do not travel: a task needs addresses, and has its own tickets."""


@dataclass(frozen=True, slots=True)
class DirectWork:
    """A direct job that is ready to run."""

    spec: DirectSpec
    tasks: tuple[tuple[Split, ...], ...]
    done: tuple[TaskResult, ...] = ()
    """What an earlier job of the same staging path has finished."""

    def run(self, spark: SparkSession) -> DirectResult:
        """Run it."""
        return run_direct(spark, self.spec, self.tasks, self.done)


def direct_work(
    spark: SparkSession,
    plan: Plan,
    interval: IntervalPlan,
    scoring: ScoreSpec,
    staging: str,
    lineage: dict[str, str],
    done: tuple[Done, ...] = (),
) -> DirectWork | str:
    """The job, or why it cannot be done directly after all. The views of the steps before the score must be there.

    Parameters
    ----------
    scoring
        The operator's own description of the plan's score step.
    staging
        The staging path, within the sink's storage.
    done
        Tasks that `finished` found there.
    """
    sink, step = plan.sinks[0], plan.score_step
    assert step is not None  # it is what `scoring` describes
    try:
        steps = [interval.bound(each) if isinstance(each, SqlStepPlan) else each for each in plan.steps]
        chain = direct_chain(plan.sources, steps, plan.gates, plan.sinks, step)
    except NotMapOnlyError as why:
        return str(why)
    codec = _CODECS.get(str(spark.conf.get("spark.sql.parquet.compression.codec")).lower())
    if codec is None:
        return "the session writes Parquet with another codec"
    if str(spark.conf.get("spark.sql.ansi.enabled")).lower() != "true":
        return "the session is not in ANSI mode"
    if setting := differs_by_operator(dict(plan.spark_conf)):
        return f"configuration sets {setting}"
    if differs := _differs(spark, chain, step):
        return differs
    places = [_place(chain.source.path), _place(sink.path)]
    if any(place.scheme == "hdfs" for place in places) and find_spec("hdfs_native") is None:
        return "hdfs-native is not installed (pip install hdfs-native)"
    files = next((each.files for each in interval.inputs if each.source == chain.source.name), ())
    # Executors that are to come want tasks as well: those that are there may be the few of the beginning.
    slots = max(spark.sparkContext.defaultParallelism, plan.resources.scan_partitions)
    return DirectWork(
        _spec(chain, sink, step, scoring, staging, lineage, codec, str(spark.conf.get(TIME_ZONE))),
        pack(
            [(file.path, file.length) for file in files],
            slots,
            plan.resources.file_input_bytes or SPLIT_BYTES,
            [split for each in done for split in each.splits],
        ),
        tuple(each.result for each in done),
    )


def finished(storage: Storage, staging: str) -> tuple[Done, ...]:
    """The finished tasks of a staging path, by their marks; whatever belongs to none of them is removed.

    A task counts when each of its files is there in full length, where the task left it or where `commit` has moved it.
    """
    there = {file.path[len(staging) + 1 :]: file.length for file in storage.walk(staging)}
    marks: dict[str, Done] = {}
    for path in there:
        if path.startswith(f"{DONE}/"):
            mark = read_mark(storage.read(f"{staging}/{path}"))
            if mark is not None and _find(mark, there):
                marks[path] = mark
    found = apart(marks.values())
    kept = {file.temporary for each in found for file in each.result.files}
    kept |= {path for path, mark in marks.items() if any(mark is each for each in found)}
    for path in there.keys() - kept:
        storage.delete(f"{staging}/{path}")
    return tuple(found)


def _find(mark: Done, there: Mapping[str, int]) -> bool:
    """Whether all files of a task are there; from then on `temporary` says where."""
    files = mark.result.files
    for index, file in enumerate(files):
        place = next((path for path in (file.final, file.temporary) if there.get(path) == file.size), None)
        if place is None:
            return False
        files[index] = replace(file, temporary=place)
    return True


def forget(storage: Storage, staging: str) -> None:
    """Remove what nobody publishes: the marks, and what attempts that do not count have left since `commit`."""
    for folder in (DONE, TEMPORARY):
        storage.delete(f"{staging}/{folder}")


def commit(storage: Storage, staging: str, result: DirectResult) -> None:
    """Move the files of the attempts that count to where they belong, and remove those of all others."""
    made: set[str] = set()
    for file in result.files:
        if file.temporary == file.final:
            continue
        folder = f"{staging}/{file.final}".rpartition("/")[0]
        if folder not in made:
            storage.mkdirs(folder)
            made.add(folder)
        storage.rename(f"{staging}/{file.temporary}", f"{staging}/{file.final}")
    storage.delete(f"{staging}/{TEMPORARY}")


def _differs(spark: SparkSession, chain: Chain, step: ScoreStepPlan) -> str:
    """How Spark's own analysis differs from the compiler's, if it does."""
    found = {field.name: field.dataType.simpleString() for field in spark.table(step.input).schema.fields}
    for column in chain.columns:
        if found.get(column.name) != column.type:
            return f"{step.input}.{column.name} is {found.get(column.name)} in Spark, {column.type} here"
    return ""


def _spec(
    chain: Chain,
    sink: SinkPlan,
    step: ScoreStepPlan,
    scoring: ScoreSpec,
    staging: str,
    lineage: dict[str, str],
    codec: str,
    zone: str,
) -> DirectSpec:
    source = chain.source
    read = {name.lower() for name in _read(chain, step)}
    columns = [column for column in source.columns if column.name.lower() in read]
    schema = _arrow(columns, zone)
    partitions = _arrow(source.partitions, zone)
    outputs = [Column(output.name, output.type) for output in step.made]
    lineages = [column for column in sink.columns if column.name in sink.lineage_columns]
    kept = [column for column in chain.columns if column.name in step.keep]
    kinds = {each.name: each.type for each in _arrow([*kept, *outputs, *lineages], zone)}
    constants: list[tuple[str, Any, Any]] = []
    for name in sink.lineage_columns:
        value = datetime.now(UTC) if name == "_scored_at" else lineage[name]
        constants.append((name, kinds[name], value))
    data = tuple(column.name for column in sink.columns if column.name not in sink.partition_by)
    return DirectSpec(
        scan=ScanSpec(
            _place(source.path),
            locate(source.path)[1],
            schema,
            tuple((each.name, each.type) for each in partitions),
        ),
        projections=tuple(Projection(each.columns, each.where) for each in chain.maps),
        score=scoring,
        scored=_schema([(name, kinds[name]) for name in (*step.keep, *(output.name for output in step.made))]),
        write=WriteSpec(
            _place(sink.path), staging, data, sink.partition_by, tuple(constants), codec, sink.file_bytes or 0
        ),
    )


def _read(chain: Chain, step: ScoreStepPlan) -> set[str]:
    """The columns of the source that the first map, or the score, names."""
    if not chain.maps:
        return {*step.columns_read}
    found: set[str] = set()

    def visit(expression: Any) -> None:
        if expression[0] == "column":
            found.add(expression[2])
            return
        for each in expression[2:]:
            if isinstance(each, tuple):
                visit(each)

    first = chain.maps[0]
    for _, expression in first.columns:
        visit(expression)
    if first.where is not None:
        visit(first.where)
    return found


def _place(uri: str) -> Place:
    storage, _ = locate(uri)
    scheme, _, authority = storage.base_uri.partition("://")
    if scheme != "hdfs":
        return Place("file")
    settings = HadoopConf.load()
    kept = tuple(
        (key, settings.get(key))
        for key in sorted(settings.values)
        if key.startswith(("dfs.", "fs.", "hadoop.security.", "hadoop.rpc."))
        and not any(word in key for word in _SECRET)
    )
    return Place("hdfs", authority, kept, os.environ.get("HADOOP_USER_NAME", ""))


def _arrow(columns: Iterable[Column], zone: str) -> Any:
    """Return the Arrow schema in which Spark would give these columns to Python, instants in the session's time zone."""
    from pyspark.sql.pandas.types import to_arrow_schema

    found = tuple(columns)
    return to_arrow_schema(schema_of(found), timezone=zone) if found else _schema([])


def _schema(fields: list[tuple[str, Any]]) -> Any:
    import pyarrow as pa

    return pa.schema(fields)
