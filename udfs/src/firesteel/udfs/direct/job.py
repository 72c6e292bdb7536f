"""Run a direct job: pack splits into tasks, run the tasks, and collect the files of the successful attempts."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pyarrow as pa

from firesteel.conf.errors import FiresteelError
from firesteel.udfs.attempts import task_attempt
from firesteel.udfs.direct.done import CompletedTask, mark_name, write_mark
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
"""Maximum input bytes of a task, as spark.sql.files.maxPartitionBytes."""
OPEN_BYTES = 4 << 20
"""Cost of opening a file in bytes, as spark.sql.files.openCostInBytes."""
_END = 1 << 62


@dataclass(frozen=True, slots=True)
class DirectResult:
    """The result of a job.

    Attributes
    ----------
    report
        Scoring counts.
    files
        Files of the successful attempts, with temporary names.
    rows_read
        Rows in the input files.
    rows_in
        Rows after the filters, which are the input of the score step.
    """

    report: ScoreReport
    files: tuple[WrittenFile, ...]
    rows_read: int
    rows_in: int


def pack(
    files: Sequence[tuple[str, int]], slots: int, max_bytes: int = SPLIT_BYTES, done: Iterable[Split] = ()
) -> tuple[tuple[Split, ...], ...]:
    """Divide (path, length) files into splits and pack the splits into tasks in path order, as Spark does.

    A task has at most `max_bytes`, and fewer if that uses all slots. `done` splits are excluded.
    """
    ranges = _remaining(files, done)
    total = sum(stop - start + OPEN_BYTES for _, start, stop, _ in ranges)
    size = max(1, min(max_bytes, max(OPEN_BYTES, -(-total // max(1, slots)))))
    tasks: list[list[Split]] = []
    free_bytes = 0
    for path, first, stop, end in ranges:
        for start in range(first, max(first + 1, stop), size):
            split = Split(path, start, start + size if start + size < stop else end)
            cost = min(size, stop - start) + OPEN_BYTES
            if not tasks or cost > free_bytes:
                tasks.append([])
                free_bytes = size + OPEN_BYTES
            tasks[-1].append(split)
            free_bytes -= cost
    return tuple(tuple(task) for task in tasks)


def _remaining(files: Sequence[tuple[str, int]], done: Iterable[Split]) -> list[tuple[str, int, int, int]]:
    """Return the ranges (path, start, stop, end) that are not done. `end` is the stop of the last split, unbounded at the end of a file."""
    done_splits: dict[str, list[Split]] = {}
    for split in done:
        done_splits.setdefault(split.path, []).append(split)
    remaining = []
    for path, length in sorted(files):
        position = 0
        for split in sorted(done_splits.get(path, ()), key=lambda split: split.start):
            if split.start > position:
                remaining.append((path, position, split.start, split.start))
            position = max(position, split.stop)
        if position < max(1, length):
            remaining.append((path, position, length, _END))
    return remaining


def run_direct(
    spark: SparkSession, spec: DirectSpec, tasks: Sequence[tuple[Split, ...]], done: Sequence[TaskResult] = ()
) -> DirectResult:
    """Run the tasks and return their results, one per task.

    Parameters
    ----------
    done
        Results of tasks that an earlier job completed. The result includes them.

    Raises
    ------
    PySparkException
        A task failed. `firesteel.udfs.score.worker_error` extracts the firesteel error.
    """
    results = [*done]
    if tasks:
        run = _runner(spec, secrets.token_hex(6))
        # One slice per task, because the splits are already packed.
        results += spark.sparkContext.parallelize(list(enumerate(tasks)), len(tasks)).mapPartitions(run).collect()
    return DirectResult(
        summarise({index: result.report for index, result in enumerate(results)}),
        tuple(file for result in results for file in result.files),
        sum(result.rows_read for result in results),
        sum(result.rows_in for result in results),
    )


def _runner(spec: DirectSpec, job: str):  # type: ignore[no-untyped-def]  # noqa: ANN202 - a closure for Spark
    def run(items: Iterable[tuple[int, tuple[Split, ...]]]) -> Iterator[TaskResult]:
        from pyspark import TaskContext

        context = TaskContext.get()
        pin_gpus(context)
        for index, splits in items:
            try:
                with task_attempt(context, spec.score, job) as attempt_spec:
                    done = run_task(
                        replace(spec, score=attempt_spec), splits, index, context.taskAttemptId() if context else 0, job
                    )
                yield done
            except FiresteelError as error:
                raise WorkerError(error) from error

    return run


def run_task(spec: DirectSpec, splits: tuple[Split, ...], index: int, attempt: int, job: str) -> TaskResult:
    """Run one task without Spark: read its splits, score the rows and write the files."""
    report = TaskReport(index, attempt)
    result = TaskResult(report)
    files = open_files(spec.write.filesystem)
    with TaskWriter(files, spec.write, spec.scored, index, attempt, job) as writer:
        for batch in score_batches(_input(spec, splits, result), spec.score, spec.scored, report):
            writer.write(batch)
        clock = Clock(report.seconds)
        writer.finish()
        clock.add("write")
    result.files = writer.written
    with files.create(f"{spec.write.folder}/{mark_name(index, attempt, job)}") as sink:
        sink.write(write_mark(CompletedTask(splits, result)))
    return result


def _input(spec: DirectSpec, splits: tuple[Split, ...], result: TaskResult) -> Iterator[pa.RecordBatch]:
    columns = list(spec.score.columns)
    for table in scan(open_files(spec.scan.filesystem), spec.scan, splits, result):
        for projection in spec.projections:
            table = project(table, projection)  # noqa: PLW2901
        result.rows_in += table.num_rows
        yield from table.select(columns).combine_chunks().to_batches()
