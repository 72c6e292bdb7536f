"""Propose the resources of a run from the planned bytes and the speed of earlier runs. They do not change hashes."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from firesteel.conf import shuffle
from firesteel.conf.quantities import byte_size, plural
from firesteel.pipelines.plan.model import IntervalPlan, ResourcePlan
from firesteel.pipelines.planner.allocation import (
    START_S,
    allocation_conf,
    idle_timeout,
    min_slot_work,
    pause_between,
    speculation_conf,
    useful_executors,
)
from firesteel.pipelines.planner.cost import Cost
from firesteel.pipelines.publish.records import LedgerRecord
from firesteel.pipelines.rules.logical_plan import LogicalPlan
from firesteel.pipelines.spec.model import Resources, Spec, Workers

SPLIT_BYTES = 128 << 20
"""spark.sql.files.maxPartitionBytes: most bytes that one scan task reads."""
OPEN_BYTES = 4 << 20
"""spark.sql.files.openCostInBytes: Spark's estimated cost of opening a file."""
EXCHANGED_BYTES = 64 << 20
"""Bytes per shuffle partition: spark.sql.adaptive.advisoryPartitionSizeInBytes, so that AQE changes little."""
SHUFFLE_EXPANSION = 4
"""Approximate size ratio of rows in a shuffle (LZ4 UnsafeRows) to rows in a file (zstd Parquet)."""
BROADCAST_BYTES = 10 << 20
"""spark.sql.autoBroadcastJoinThreshold: largest side of a join that Spark broadcasts."""
ONE_CORE = Workers()
WORTH_A_TASK_S = 5.0
"""Least work of a task: starting a task and closing its files takes about 0.1 s."""
WAVES = 3
"""Tasks per slot, so that one slow task does not leave the other slots idle."""


@dataclass(frozen=True, slots=True)
class Speed:
    """The speed of this pipeline: medians over its last runs."""

    runs: int
    input_bytes_s: float
    """Input bytes per second and slot."""
    rows_s: float
    """Rows per second and slot."""
    output_ratio: float
    """Published bytes per input byte."""

    @classmethod
    def of(cls, records: Sequence[LedgerRecord]) -> Speed | None:
        """Return the speed from published records with times; None without such records."""
        timed = [record for record in records if record.state == "published" and record.work_seconds > 0]
        timed = [record for record in timed if record.slots > 0 and record.input_bytes > 0]
        if not timed:
            return None
        return cls(
            len(timed),
            statistics.median(record.input_bytes / _slot_seconds(record) for record in timed),
            statistics.median(record.counts.rows_in / _slot_seconds(record) for record in timed),
            statistics.median(sum(file.length for file in record.files) / record.input_bytes for record in timed),
        )


def _slot_seconds(record: LedgerRecord) -> float:
    """Return the task time; without it, assume that all slots were busy."""
    return record.task_seconds or record.work_seconds * record.slots


def propose(
    logical: LogicalPlan,
    configuration: Mapping[str, str],
    intervals: Sequence[IntervalPlan],
    earlier: Sequence[LedgerRecord],
) -> ResourcePlan:
    """Return the executors, tasks, partitions and files for the intervals to score.

    Parameters
    ----------
    earlier
        The latest published records.
    """
    resources, speed = logical.spec.resources, Speed.of(earlier)
    work = [interval for interval in intervals if interval.action == "score"]
    if not work:
        return ResourcePlan(reasons=("nothing to do",))
    largest = max(work, key=lambda interval: interval.input_bytes)
    files = sum(len(source.files) for source in largest.inputs)
    tasks = max(1, math.ceil((largest.input_bytes + files * OPEN_BYTES) / SPLIT_BYTES))
    reasons = [
        f"the largest interval reads {byte_size(largest.input_bytes)} in {plural(files, 'file')}: {plural(tasks, 'scan task')}"
    ]
    by_bytes = tasks
    if speed is not None and logical.spec.resources.local_cores is None:
        tasks = _split(logical.spec, tasks, files, largest.input_bytes, speed, reasons)
    proposal = _executors(logical.spec, tasks, work, largest, speed, earlier, reasons)
    executors, slots = proposal.executors, proposal.slots
    if resources.shuffle.manager == "rdma":
        otherwise = "falls back to Spark's shuffle" if resources.shuffle.fallback == "sort" else "the run fails"
        reasons.append(
            f"shuffles through the nodes' shuffle services, which outlive executors; without them {otherwise}"
        )
    seconds = None
    if speed is not None:
        useful = max(1, min(slots or 1, tasks * _concurrent(logical.spec, work)))
        seconds = round(sum(interval.input_bytes for interval in work) / speed.input_bytes_s / useful, 1)
        reasons.append(
            f"{plural(speed.runs, 'earlier run')} reached {speed.rows_s:,.0f} rows/s per core: "
            f"about {seconds:,.0f} s for all intervals"
        )
    target = next((sink.files.target_size for sink in logical.spec.sinks.values()), None)
    rows, input_bytes = _file_size(target, earlier, reasons)
    published = largest.input_bytes * (speed.output_ratio if speed else 1.0)
    directories = max(1, sum(len(output.directories) for output in largest.outputs))
    return ResourcePlan(
        executors=executors,
        slots=slots,
        tasks=tasks,
        shuffle_partitions=_shuffle(
            logical, configuration, largest, -(-slots // _concurrent(logical.spec, work)), reasons
        ),
        files=max(directories, math.ceil(published / (target or SPLIT_BYTES))),
        file_rows=rows,
        file_input_bytes=input_bytes,
        seconds=seconds,
        scan_partitions=tasks if tasks > by_bytes else 0,
        max_executors=proposal.max_executors,
        idle_timeout_s=proposal.idle_timeout_s,
        executor_hours=proposal.executor_hours,
        max_executor_hours=proposal.max_executor_hours,
        reasons=(*reasons, *_joins(logical, configuration, largest)),
    )


def spark_conf(
    resources: Resources,
    configuration: Mapping[str, str],
    proposal: ResourcePlan,
    workers: Workers = ONE_CORE,
    file_bytes: int | None = None,
    at_once: int = 1,
) -> tuple[tuple[str, str], ...]:
    """Return the Spark settings, sorted by key and overridden by `configuration`. `at_once` is the number of concurrent intervals."""
    conf: dict[str, str] = {}
    if at_once > 1:
        # Each interval has its own pool: with FIFO, the gates of one interval would wait for the tasks of all.
        conf["spark.scheduler.mode"] = "FAIR"
    executors = resources.executors
    if workers.cpus > 1:
        conf["spark.task.cpus"] = str(workers.cpus)
    if workers.gpus:
        # A task uses all GPUs of its executor, so a reused worker keeps the devices that it has initialised.
        conf |= dict.fromkeys(
            ("spark.executor.resource.gpu.amount", "spark.task.resource.gpu.amount"), str(workers.gpus)
        )
    if executors and resources.local_cores is None:
        conf |= allocation_conf(resources, executors, proposal) | speculation_conf(resources)
    if proposal.scan_partitions:
        conf["spark.sql.files.minPartitionNum"] = str(proposal.scan_partitions)
    if proposal.shuffle_partitions:
        conf["spark.sql.shuffle.partitions"] = str(proposal.shuffle_partitions)
    if file_bytes:  # for the exchange before the write, where rows are larger
        conf["spark.sql.adaptive.advisoryPartitionSizeInBytes"] = str(file_bytes * SHUFFLE_EXPANSION)
    if resources.queue:
        conf["spark.yarn.queue"] = resources.queue
    if resources.shuffle.manager == "rdma":
        # The plugin checks on the driver whether the service is available, and sets the rest or reports the reason.
        conf[shuffle.FALLBACK] = resources.shuffle.fallback
        others = configuration.get("spark.plugins")
        configuration = {**configuration, "spark.plugins": f"{others},{shuffle.PLUGIN}" if others else shuffle.PLUGIN}
    return tuple(sorted({**conf, **configuration}.items()))


def _file_size(target: int | None, earlier: Sequence[LedgerRecord], reasons: list[str]) -> tuple[int, int]:
    """Return the rows and the input bytes of a file of `target` bytes, from the latest published records."""
    if target is None:
        return 0, 0
    sizes = [(sum(file.length for file in record.files), record) for record in earlier]
    row_sizes = [size / record.counts.scored for size, record in sizes if size and record.counts.scored]
    ratios = [size / record.input_bytes for size, record in sizes if size and record.input_bytes]
    if not row_sizes:
        reasons.append(
            f"files of about {byte_size(target)}, by the size of rows in a shuffle: nothing is published yet"
        )
        return 0, 0
    row_bytes = statistics.median(row_sizes)
    rows = max(1, round(target / row_bytes))
    reasons.append(f"files of about {byte_size(target)}: {rows:,} rows of {row_bytes:,.1f} bytes, as in earlier runs")
    return rows, max(1, round(target / statistics.median(ratios))) if ratios else 0


def _concurrent(spec: Spec, work: Sequence[IntervalPlan]) -> int:
    """Return the number of intervals that run concurrently."""
    return max(1, min(spec.interval.batch_concurrency, len(work)))


def _split(spec: Spec, tasks: int, files: int, bytes_read: int, speed: Speed, reasons: list[str]) -> int:
    """Return the scan tasks: more than by bytes if the work per byte is large.

    Spark splits a scan for the cores that exist when it plans the scan. Under dynamic allocation few executors exist then, and too
    few tasks would request no more executors.
    """
    settings = spec.resources.executors
    if settings is None:
        return tasks
    work_s = bytes_read / speed.input_bytes_s
    most = [int(work_s / WORTH_A_TASK_S), (bytes_read + files * OPEN_BYTES) // OPEN_BYTES]
    if settings.max is not None:
        most.append(WAVES * settings.max * max(1, settings.cores // spec.workers.cpus))
    if min(most) <= tasks:
        return tasks
    reasons.append(f"{work_s:,.0f} s of work in {plural(tasks, 'task')}: split into {min(most):,}")
    return min(most)


def _executors(
    spec: Spec,
    tasks: int,
    work: Sequence[IntervalPlan],
    largest: IntervalPlan,
    speed: Speed | None,
    earlier: Sequence[LedgerRecord],
    reasons: list[str],
) -> ResourcePlan:
    """Return the part of the proposal about executors."""
    resources, cpus = spec.resources, spec.workers.cpus
    cores = resources.local_cores
    settings = resources.executors
    budget_hours = settings.max_executor_hours if settings else None
    if cores is not None:
        slots = cores // cpus
        reasons.append(f"{resources.master} runs {f'{slots} tasks' if slots else 'one task per core'} at once")
        return ResourcePlan(slots=slots or 1, max_executor_hours=budget_hours)
    if settings is None:
        reasons.append("resources.executors is not set: the cluster's settings apply")
        return ResourcePlan()
    at_once, concurrent = max(1, settings.cores // cpus), _concurrent(spec, work)
    if concurrent > 1:
        reasons.append(f"{concurrent} concurrent intervals")
    if spare := settings.cores % cpus:
        reasons.append(f"tasks of {cpus} CPUs leave {spare} of an executor's {settings.cores} cores idle")
    idle_s, why = idle_timeout(settings, earlier, len(work))
    if why:
        reasons.append(f"an executor is released after {idle_s:g} s without work: {why}")
    useful, most = math.ceil(tasks * concurrent / at_once), settings.max or 0
    if speed is not None:
        worth, cap = useful_executors(settings, concurrent * largest.input_bytes / speed.input_bytes_s, at_once, idle_s)
        if worth < useful:
            slot_s = min_slot_work(settings, idle_s)
            reasons.append(f"with more than {worth} executors, a core would have less than {slot_s:.3g} s of work")
            useful = worth
        most = min(cap, most) if most else cap
    executors = max(settings.min, 1, useful) if settings.initial == "auto" else settings.initial
    if settings.max is not None and executors > settings.max:
        reasons.append(f"{executors} executors would have work; resources.executors.max allows {settings.max}")
        executors = settings.max
    hours = None
    if speed is not None:
        cost = Cost.of(
            sum(interval.input_bytes for interval in work) / speed.input_bytes_s / at_once,
            idle_s,
            pause_between(earlier) or START_S,
            len(work),
        )
        if budget_hours is not None:
            allowed = max(settings.min, 1, cost.affordable(budget_hours))
            if allowed < max(executors, most):
                reasons.append(f"max_executor_hours {budget_hours:g} allows {plural(allowed, 'executor')}")
                executors, most = min(executors, allowed), min(most, allowed)
        hours = round(cost.hours(max(1, executors)), 4)
        reasons.append(f"estimated cost: {hours:.2f} executor-hours")
    elif budget_hours is not None:
        reasons.append(f"the cost is unknown before the first run; the run stops at {budget_hours:g} executor-hours")
    return ResourcePlan(
        executors=executors,
        slots=executors * at_once,
        max_executors=max(most, executors) if most else 0,
        idle_timeout_s=idle_s,
        executor_hours=hours,
        max_executor_hours=budget_hours,
    )


def _shuffle(
    logical: LogicalPlan, configuration: Mapping[str, str], largest: IntervalPlan, slots: int, reasons: list[str]
) -> int:
    if not any(stage.exchanges for stage in logical.stages):
        return 0
    given = configuration.get("spark.sql.shuffle.partitions")
    if given is not None and given.isdigit():
        reasons.append(f"configuration sets {given} shuffle partitions")
        return int(given)
    if not slots:  # the number of cores is unknown, and too few partitions would leave some idle
        return 0
    partitions = max(slots, math.ceil(largest.input_bytes * SHUFFLE_EXPANSION / EXCHANGED_BYTES), 1)
    reasons.append(f"{plural(partitions, 'shuffle partition')} of at most {byte_size(EXCHANGED_BYTES)}")
    return partitions


def _joins(logical: LogicalPlan, configuration: Mapping[str, str], largest: IntervalPlan) -> list[str]:
    """Return how Spark will execute each join with a source on its right side, by Spark's threshold."""
    sizes = {source.source: sum(file.length for file in source.files) for source in largest.inputs}
    threshold = _threshold(configuration.get("spark.sql.autoBroadcastJoinThreshold"))
    descriptions = []
    for step, needs in logical.analysis.needs.items():
        for join in needs.joins:
            if len(join.right) != 1 or join.right[0] not in sizes:
                continue
            size = sizes[join.right[0]]
            small = size <= threshold and "FULL" not in join.kind and "RIGHT" not in join.kind
            how = "broadcast" if small else "shuffle both sides"
            descriptions.append(f"{step} joins {join.right[0]} ({byte_size(size)}): {how}")
    return descriptions


def _threshold(text: str | None) -> int:
    units = {"": 1, "b": 1, "k": 1 << 10, "kb": 1 << 10, "m": 1 << 20, "mb": 1 << 20, "g": 1 << 30, "gb": 1 << 30}
    match = re.fullmatch(r"(-?\d+)\s*([kmg]?b?)", (text or "").strip().lower())
    return int(match[1]) * units[match[2]] if match else BROADCAST_BYTES
