"""A direct job: splits -> tasks -> files of the attempts that count."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pyarrow as pa

from firesteel.conf.errors import FiresteelError
from firesteel.udfs.attempts import attempt_at
from firesteel.udfs.direct.done import Done, mark_name, write_mark
from firesteel.udfs.direct.expressions import project
from firesteel.udfs.direct.files import open_files
from firesteel.udfs.direct.scan import scan
from firesteel.udfs.direct.spec import DirectSpec, Split, TaskResult, WrittenFile
from firesteel.udfs.direct.write import TaskWriter
from firesteel.udfs.gpus import pin_gpus
from firesteel.udfs.report import Clock, ScoreReport, TaskReport, summarise
from firesteel.udfs.score import score_batches
from firesteel.udfs.worker_errors import WorkerError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

SPLIT_BYTES = 128 << 20
"""The most that one task reads, as spark.sql.files.maxPartitionBytes."""
OPEN_BYTES = 4 << 20
"""What opening a file counts for, as spark.sql.files.openCostInBytes."""
_END = 1 << 62


@dataclass(frozen=True, slots=True)
class DirectResult:
    """What a job did. `files` are those of the attempts that count, still under their temporary names.

    `rows_read` were in the files, `rows_in` of them reached the score.
    """

    report: ScoreReport
    files: tuple[WrittenFile, ...]
    rows_read: int
    rows_in: int


def pack(
    files: Sequence[tuple[str, int]], slots: int, most: int = SPLIT_BYTES, done: Iterable[Split] = ()
) -> tuple[tuple[Split, ...], ...]:
    """Cut (path, length) files into splits and pack those into tasks, as Spark does, in the order of the paths.

    A task has at most `most` bytes, and less where that keeps all slots at work. What is `done` is left out.
    """
    stretches = _left(files, done)
    total = sum(stop - start + OPEN_BYTES for _, start, stop, _ in stretches)
    size = max(1, min(most, max(OPEN_BYTES, -(-total // max(1, slots)))))
    tasks: list[list[Split]] = []
    room = 0
    for path, first, stop, end in stretches:
        for start in range(first, max(first + 1, stop), size):
            split = Split(path, start, start + size if start + size < stop else end)
            cost = min(size, stop - start) + OPEN_BYTES
            if not tasks or cost > room:
                tasks.append([])
                room = size + OPEN_BYTES
            tasks[-1].append(split)
            room -= cost
    return tuple(tuple(task) for task in tasks)


def _left(files: Sequence[tuple[str, int]], done: Iterable[Split]) -> list[tuple[str, int, int, int]]:
    """Stretches (path, start, stop, end) that are not done; `end` is the split's stop, beyond all for a file's last."""
    taken: dict[str, list[Split]] = {}
    for each in done:
        taken.setdefault(each.path, []).append(each)
    left = []
    for path, length in sorted(files):
        at = 0
        for each in sorted(taken.get(path, ()), key=lambda split: split.start):
            if each.start > at:
                left.append((path, at, each.start, each.start))
            at = max(at, each.stop)
        if at < max(1, length):
            left.append((path, at, length, _END))
    return left


def run_direct(
    spark: SparkSession, spec: DirectSpec, tasks: Sequence[tuple[Split, ...]], done: Sequence[TaskResult] = ()
) -> DirectResult:
    """Run the tasks. What they return comes home once for each, however often it was tried.

    Parameters
    ----------
    done
        Tasks of an earlier job: the result is theirs, too.

    Raises
    ------
    PySparkException
        A task failed; `firesteel.udfs.score.worker_error` finds an error of ours in it.
    """
    found = [*done]
    if tasks:
        run = _runner(spec, secrets.token_hex(6))
        # One task a slice: the splits are packed already.
        found += spark.sparkContext.parallelize(list(enumerate(tasks)), len(tasks)).mapPartitions(run).collect()
    return DirectResult(
        summarise({place: result.report for place, result in enumerate(found)}),
        tuple(file for result in found for file in result.files),
        sum(result.rows_read for result in found),
        sum(result.rows_in for result in found),
    )


def _runner(spec: DirectSpec, job: str):  # type: ignore[no-untyped-def]  # noqa: ANN202 - a closure for Spark
    def run(items: Iterable[tuple[int, tuple[Split, ...]]]) -> Iterator[TaskResult]:
        from pyspark import TaskContext

        context = TaskContext.get()
        pin_gpus(context)
        for index, splits in items:
            try:
                with attempt_at(context, spec.score, job) as suited:
                    done = run_task(
                        replace(spec, score=suited), splits, index, context.taskAttemptId() if context else 0, job
                    )
                yield done
            except FiresteelError as error:
                raise WorkerError(error) from error

    return run


def run_task(spec: DirectSpec, splits: tuple[Split, ...], index: int, attempt: int, job: str) -> TaskResult:
    """One task, from its splits to its files. Works without Spark."""
    report = TaskReport(index, attempt)
    result = TaskResult(report)
    files = open_files(spec.write.place)
    with TaskWriter(files, spec.write, spec.scored, index, attempt, job) as writer:
        for batch in score_batches(_input(spec, splits, result), spec.score, spec.scored, report):
            writer.write(batch)
        clock = Clock(report.seconds)
        writer.finish()
        clock.add("write")
    result.files = writer.written
    with files.create(f"{spec.write.folder}/{mark_name(index, attempt, job)}") as sink:
        sink.write(write_mark(Done(splits, result)))
    return result


def _input(spec: DirectSpec, splits: tuple[Split, ...], result: TaskResult) -> Iterator[pa.RecordBatch]:
    columns = list(spec.score.columns)
    for table in scan(open_files(spec.scan.place), spec.scan, splits, result):
        for projection in spec.projections:
            table = project(table, projection)  # noqa: PLW2901
        result.rows_in += table.num_rows
        yield from table.select(columns).combine_chunks().to_batches()
