"""Resources: what a run asks for, proposed from the planned bytes and from how fast this pipeline was before. Never hashed."""

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
    pause_between,
    speculation_conf,
    worth_it,
    worth_of_a_slot,
)
from firesteel.pipelines.planner.cost import Cost
from firesteel.pipelines.publish.records import LedgerRecord
from firesteel.pipelines.rules.logical_plan import LogicalPlan
from firesteel.pipelines.spec.model import Resources, Spec, Workers

SPLIT_BYTES = 128 << 20
"""spark.sql.files.maxPartitionBytes: the most that one task of a scan reads."""
OPEN_BYTES = 4 << 20
"""spark.sql.files.openCostInBytes: what Spark counts for opening a file."""
EXCHANGED_BYTES = 64 << 20
"""Bytes a shuffle partition: spark.sql.adaptive.advisoryPartitionSizeInBytes, so that AQE has little to mend."""
SHUFFLE_EXPANSION = 4
"""Rows of a Parquet file weigh about this much more in a shuffle (zstd Parquet against LZ4 UnsafeRows)."""
BROADCAST_BYTES = 10 << 20
"""spark.sql.autoBroadcastJoinThreshold: the largest side that Spark sends to every executor."""
ONE_CORE = Workers()
WORTH_A_TASK_S = 5.0
"""Less work than this is not worth a task: starting one and closing its files takes some 0.1 s."""
WAVES = 3
"""Tasks for each slot, so that one that takes longer does not leave all others idle."""


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast this pipeline was: medians over its last runs."""

    runs: int
    input_bytes_s: float
    """Input bytes a second in one slot."""
    rows_s: float
    """Rows a second in one slot."""
    output_ratio: float
    """Published bytes for a byte of input."""

    @classmethod
    def of(cls, records: Sequence[LedgerRecord]) -> Speed | None:
        """From published records that hold their times; None when there are none."""
        timed = [each for each in records if each.state == "published" and each.work_seconds > 0 and each.slots > 0]
        timed = [each for each in timed if each.input_bytes > 0]
        if not timed:
            return None
        return cls(
            len(timed),
            statistics.median(each.input_bytes / _slot_seconds(each) for each in timed),
            statistics.median(each.counts.rows_in / _slot_seconds(each) for each in timed),
            statistics.median(sum(file.length for file in each.files) / each.input_bytes for each in timed),
        )


def _slot_seconds(record: LedgerRecord) -> float:
    """What the tasks took; where Spark did not say it, as if all slots had worked all the time."""
    return record.task_seconds or record.work_seconds * record.slots


def propose(
    logical: LogicalPlan,
    configuration: Mapping[str, str],
    intervals: Sequence[IntervalPlan],
    earlier: Sequence[LedgerRecord],
) -> ResourcePlan:
    """Executors, tasks, partitions and files for the intervals that have work.

    Parameters
    ----------
    earlier
        What was published last.
    """
    resources, speed = logical.spec.resources, Speed.of(earlier)
    work = [interval for interval in intervals if interval.action == "score"]
    if not work:
        return ResourcePlan(reasons=("nothing to do",))
    largest = max(work, key=lambda interval: interval.input_bytes)
    files = sum(len(each.files) for each in largest.inputs)
    tasks = max(1, math.ceil((largest.input_bytes + files * OPEN_BYTES) / SPLIT_BYTES))
    reasons = [
        f"the largest interval reads {byte_size(largest.input_bytes)} in {plural(files, 'file')}: {plural(tasks, 'task')} of a scan"
    ]
    by_bytes = tasks
    if speed is not None and logical.spec.resources.local_cores is None:
        tasks = _cut(logical.spec, tasks, files, largest.input_bytes, speed, reasons)
    asked = _executors(logical.spec, tasks, work, largest, speed, earlier, reasons)
    executors, slots = asked.executors, asked.slots
    if resources.shuffle.manager == "rdma":
        otherwise = "Spark's own without them" if resources.shuffle.fallback == "sort" else "fails without them"
        reasons.append(f"shuffles through the nodes' services, which outlive executors; {otherwise}")
    seconds = None
    if speed is not None:
        useful = max(1, min(slots or 1, tasks * _together(logical.spec, work)))
        seconds = round(sum(each.input_bytes for each in work) / speed.input_bytes_s / useful, 1)
        reasons.append(
            f"{plural(speed.runs, 'earlier run')} did {speed.rows_s:,.0f} rows/s a core: "
            f"about {seconds:,.0f} s of work for all intervals"
        )
    target = next((sink.files.target_size for sink in logical.spec.sinks.values()), None)
    rows, input_bytes = _file(target, earlier, reasons)
    published = largest.input_bytes * (speed.output_ratio if speed else 1.0)
    directories = max(1, sum(len(output.directories) for output in largest.outputs))
    return ResourcePlan(
        executors=executors,
        slots=slots,
        tasks=tasks,
        shuffle_partitions=_shuffle(
            logical, configuration, largest, -(-slots // _together(logical.spec, work)), reasons
        ),
        files=max(directories, math.ceil(published / (target or SPLIT_BYTES))),
        file_rows=rows,
        file_input_bytes=input_bytes,
        seconds=seconds,
        scan_partitions=tasks if tasks > by_bytes else 0,
        max_executors=asked.max_executors,
        idle_timeout_s=asked.idle_timeout_s,
        executor_hours=asked.executor_hours,
        max_executor_hours=asked.max_executor_hours,
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
    """Spark settings, sorted by key; `configuration` has the last word. `at_once` are the intervals in flight together."""
    conf: dict[str, str] = {}
    if at_once > 1:
        # Each interval's jobs in a pool of its own: in order of age, the gates of one would wait for the tasks of all.
        conf["spark.scheduler.mode"] = "FAIR"
    executors = resources.executors
    if workers.cpus > 1:
        conf["spark.task.cpus"] = str(workers.cpus)
    if workers.gpus:
        # As many for a task as for an executor: a worker that is used again has the devices it has looked at.
        conf |= dict.fromkeys(
            ("spark.executor.resource.gpu.amount", "spark.task.resource.gpu.amount"), str(workers.gpus)
        )
    if executors and resources.local_cores is None:
        conf |= allocation_conf(resources, executors, proposal) | speculation_conf(resources)
    if proposal.scan_partitions:
        conf["spark.sql.files.minPartitionNum"] = str(proposal.scan_partitions)
    if proposal.shuffle_partitions:
        conf["spark.sql.shuffle.partitions"] = str(proposal.shuffle_partitions)
    if file_bytes:  # of the exchange before the write; rows weigh more there
        conf["spark.sql.adaptive.advisoryPartitionSizeInBytes"] = str(file_bytes * SHUFFLE_EXPANSION)
    if resources.queue:
        conf["spark.yarn.queue"] = resources.queue
    if resources.shuffle.manager == "rdma":
        # The plugin decides on the driver whether it can be had, and sets the rest or says why not.
        conf[shuffle.FALLBACK] = resources.shuffle.fallback
        others = configuration.get("spark.plugins")
        configuration = {**configuration, "spark.plugins": f"{others},{shuffle.PLUGIN}" if others else shuffle.PLUGIN}
    return tuple(sorted({**conf, **configuration}.items()))


def _file(target: int | None, earlier: Sequence[LedgerRecord], reasons: list[str]) -> tuple[int, int]:
    """Rows of a file of `target` bytes, and the input bytes that make one, by what was published last."""
    if target is None:
        return 0, 0
    sizes = [(sum(file.length for file in each.files), each) for each in earlier]
    weights = [size / each.counts.scored for size, each in sizes if size and each.counts.scored]
    ratios = [size / each.input_bytes for size, each in sizes if size and each.input_bytes]
    if not weights:
        reasons.append(
            f"files of about {byte_size(target)}, by the weight of rows in a shuffle: none was published yet"
        )
        return 0, 0
    weight = statistics.median(weights)
    rows = max(1, round(target / weight))
    reasons.append(f"files of about {byte_size(target)}: {rows:,} rows of {weight:,.1f} bytes, as published before")
    return rows, max(1, round(target / statistics.median(ratios))) if ratios else 0


def _together(spec: Spec, work: Sequence[IntervalPlan]) -> int:
    """Intervals that are in flight at once."""
    return max(1, min(spec.interval.batch_concurrency, len(work)))


def _cut(spec: Spec, tasks: int, files: int, bytes_read: int, speed: Speed, reasons: list[str]) -> int:
    """Tasks of a scan, more than the bytes alone would make where the work is heavy.

    Spark cuts a scan for the cores that are there when it is planned. Under dynamic allocation those may be the few of the
    beginning, and tasks that are not there call for no executors.
    """
    asked = spec.resources.executors
    if asked is None:
        return tasks
    work_s = bytes_read / speed.input_bytes_s
    most = [int(work_s / WORTH_A_TASK_S), (bytes_read + files * OPEN_BYTES) // OPEN_BYTES]
    if asked.max is not None:
        most.append(WAVES * asked.max * max(1, asked.cores // spec.workers.cpus))
    if min(most) <= tasks:
        return tasks
    reasons.append(f"{work_s:,.0f} s of work in {plural(tasks, 'task')}: cut into {min(most):,}")
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
    """What of the proposal is about executors."""
    resources, cpus = spec.resources, spec.workers.cpus
    cores = resources.local_cores
    asked = resources.executors
    budget_hours = asked.max_executor_hours if asked else None
    if cores is not None:
        slots = cores // cpus
        reasons.append(f"{resources.master} runs {slots or 'as many tasks as there are cores'} at once")
        return ResourcePlan(slots=slots or 1, max_executor_hours=budget_hours)
    if asked is None:
        reasons.append("resources.executors is not set: the cluster's own settings decide")
        return ResourcePlan()
    at_once, together = max(1, asked.cores // cpus), _together(spec, work)
    if together > 1:
        reasons.append(f"{together} intervals at once")
    if spare := asked.cores % cpus:
        reasons.append(f"tasks of {cpus} CPUs leave {spare} of an executor's {asked.cores} cores idle")
    idle_s, why = idle_timeout(asked, earlier, len(work))
    if why:
        reasons.append(f"an executor goes after {idle_s:g} s without work: {why}")
    wanted, most = math.ceil(tasks * together / at_once), asked.max or 0
    if speed is not None:
        worth, cap = worth_it(asked, together * largest.input_bytes / speed.input_bytes_s, at_once, idle_s)
        if worth < wanted:
            slot_s = worth_of_a_slot(asked, idle_s)
            reasons.append(f"more than {worth} would have less than {slot_s:.3g} s of work a core")
            wanted = worth
        most = min(cap, most) if most else cap
    executors = max(asked.min, 1, wanted) if asked.initial == "auto" else asked.initial
    if asked.max is not None and executors > asked.max:
        reasons.append(f"{executors} executors would have work, resources.executors.max allows {asked.max}")
        executors = asked.max
    hours = None
    if speed is not None:
        cost = Cost.of(
            sum(each.input_bytes for each in work) / speed.input_bytes_s / at_once,
            idle_s,
            pause_between(earlier) or START_S,
            len(work),
        )
        if budget_hours is not None:
            allowed = max(asked.min, 1, cost.affordable(budget_hours))
            if allowed < max(executors, most):
                reasons.append(f"max_executor_hours {budget_hours:g} leaves room for {plural(allowed, 'executor')}")
                executors, most = min(executors, allowed), min(most, allowed)
        hours = round(cost.hours(max(1, executors)), 4)
        reasons.append(f"expected to cost {hours:.2f} executor-hours")
    elif budget_hours is not None:
        reasons.append(
            f"what it costs is not known before the first run; it is stopped at {budget_hours:g} executor-hours"
        )
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
    if not slots:  # too few partitions would leave cores idle that nobody knows of here
        return 0
    partitions = max(slots, math.ceil(largest.input_bytes * SHUFFLE_EXPANSION / EXCHANGED_BYTES), 1)
    reasons.append(f"{plural(partitions, 'shuffle partition')} of at most {byte_size(EXCHANGED_BYTES)}")
    return partitions


def _joins(logical: LogicalPlan, configuration: Mapping[str, str], largest: IntervalPlan) -> list[str]:
    """How each join with a source on its right side will be done, by Spark's own threshold."""
    sizes = {each.source: sum(file.length for file in each.files) for each in largest.inputs}
    threshold = _threshold(configuration.get("spark.sql.autoBroadcastJoinThreshold"))
    said = []
    for step, needs in logical.analysis.needs.items():
        for join in needs.joins:
            if len(join.right) != 1 or join.right[0] not in sizes:
                continue
            size = sizes[join.right[0]]
            small = size <= threshold and "FULL" not in join.kind and "RIGHT" not in join.kind
            how = "broadcast" if small else "shuffle both sides"
            said.append(f"{step} joins {join.right[0]} ({byte_size(size)}): {how}")
    return said


def _threshold(text: str | None) -> int:
    units = {"": 1, "b": 1, "k": 1 << 10, "kb": 1 << 10, "m": 1 << 20, "mb": 1 << 20, "g": 1 << 30, "gb": 1 << 30}
    match = re.fullmatch(r"(-?\d+)\s*([kmg]?b?)", (text or "").strip().lower())
    return int(match[1]) * units[match[2]] if match else BROADCAST_BYTES
