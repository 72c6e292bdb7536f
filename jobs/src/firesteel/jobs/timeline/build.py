"""Compute the executor use of a run from Spark events.

A backlog starts when there are more tasks than slots. It ends when no task waits, or when a new executor starts its first task. The
duration is the scale-out time.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from firesteel.pipelines.result import ExecutorLife, ExecutorUse, StageSpan

MAX_SPANS = 200
"""Maximum busy spans per executor. The shortest pauses are merged until the limit is met, because a chart shows no more."""
MAX_EXECUTORS = 2000
MAX_STAGES = 2000
"""Maximum executors and stages in the record of a run. The sums include all."""
_GROUP = re.compile(r"firesteel (\S+) [0-9a-f]+")
INTERVAL = "firesteel.interval"
"""Spark local property that names the interval of a job."""


@dataclass(slots=True)
class _Executor:
    id: str
    host: str
    cores: int
    added: int
    removed: int | None = None
    reason: str = ""
    tasks: int = 0
    task_ms: int = 0
    spans: list[tuple[int, int]] = field(default_factory=list)
    running: int = 0


@dataclass(slots=True)
class _Backlog:
    """Tracks waiting tasks. Each backlog gives at most one scale-out time: until the first task on the first new executor."""

    task_cpus: int
    slots: int = 0
    running: int = 0
    waiting: int = 0
    pending: dict[tuple[int, int], int] = field(default_factory=dict)
    since_ms: int | None = None
    awaited: set[str] = field(default_factory=set)
    served: bool = False
    scale_out_ms: list[int] = field(default_factory=list)

    def submitted(self, stage: tuple[int, int], tasks: int) -> None:
        """Add the tasks of a stage."""
        self.completed(stage)
        self.pending[stage] = tasks
        self.waiting += tasks

    def completed(self, stage: tuple[int, int]) -> None:
        """Remove the waiting tasks of a stage."""
        self.waiting -= self.pending.pop(stage, 0)

    def change(self, stage: tuple[int, int], tasks: int) -> None:
        """Change the number of waiting tasks of a stage by `tasks`."""
        if stage in self.pending and self.pending[stage] + tasks >= 0:
            self.pending[stage] += tasks
            self.waiting += tasks

    def executor_added(self, executor: _Executor) -> None:
        """Add the slots of an executor."""
        self.slots += executor.cores // self.task_cpus
        if self.since_ms is not None and not self.served:
            self.awaited.add(executor.id)

    def executor_removed(self, executor: _Executor) -> None:
        """Remove the slots of an executor."""
        self.slots -= executor.cores // self.task_cpus
        self.running -= executor.running

    def task_started(self, time_ms: int, executor: str) -> None:
        """Record the scale-out time if the task is the first one on a new executor."""
        if self.since_ms is not None and executor in self.awaited:
            self.scale_out_ms.append(time_ms - self.since_ms)
            self.served = True
            self.awaited.clear()

    def update(self, time_ms: int) -> None:
        """Start or end the backlog."""
        enough = self.running + self.waiting <= self.slots
        if not self.waiting or (enough and not self.awaited):
            self.since_ms, self.served = None, False
            self.awaited.clear()
        elif self.since_ms is None:
            self.since_ms = time_ms


def executor_use(
    events: Iterable[dict[str, Any]], *, task_cpus: int = 1, since_ms: int | None = None, until_ms: int | None = None
) -> ExecutorUse | None:
    """Return the executor use, or None if the events have no executors.

    Parameters
    ----------
    since_ms, until_ms
        Milliseconds since the epoch. Events outside belong to other runs in the same session.
    """
    executors: dict[str, _Executor] = {}
    removed: list[_Executor] = []
    stages: list[StageSpan] = []
    intervals: dict[int, str] = {}
    backlog = _Backlog(task_cpus)
    begin, end = since_ms, 0
    for event in events:
        kind = event["Event"].removeprefix("SparkListener")
        time_ms = _time(kind, event)
        if time_ms is not None:
            if until_ms is not None and time_ms > until_ms:
                break
            begin = time_ms if begin is None else begin
            end = max(end, time_ms)
        if kind == "ExecutorAdded":
            info = event["Executor Info"]
            added = _Executor(event["Executor ID"], info["Host"], info["Total Cores"], event["Timestamp"])
            executors[added.id] = added
            backlog.executor_added(added)
        elif kind == "ExecutorRemoved":
            executor = executors.pop(event["Executor ID"], None)
            if executor is not None:
                executor.removed, executor.reason = event["Timestamp"], event["Removed Reason"]
                removed.append(executor)
                backlog.executor_removed(executor)
        elif kind == "JobStart":
            interval = _interval(event.get("Properties") or {})
            intervals |= dict.fromkeys(event["Stage IDs"], interval)
        elif since_ms is not None and time_ms is not None and time_ms < since_ms:
            continue
        elif kind == "StageSubmitted":
            info = event["Stage Info"]
            backlog.submitted((info["Stage ID"], info["Stage Attempt ID"]), info["Number of Tasks"])
        elif kind == "TaskStart":
            _task_started(event, executors, backlog)
        elif kind == "TaskEnd":
            _task_ended(event, executors, removed, backlog)
        elif kind == "StageCompleted":
            info = event["Stage Info"]
            backlog.completed((info["Stage ID"], info["Stage Attempt ID"]))
            if info.get("Submission Time") and info.get("Completion Time"):
                stages.append(_stage(info, intervals, begin or 0))
        if time_ms is not None:
            backlog.update(time_ms)
    all_executors = [*removed, *executors.values()]
    if begin is None or not all_executors:
        return None
    return _summary(all_executors, stages, backlog.scale_out_ms, begin, max(end, begin), task_cpus)


def _task_started(event: dict[str, Any], executors: dict[str, _Executor], backlog: _Backlog) -> None:
    info, stage = event["Task Info"], (event["Stage ID"], event["Stage Attempt ID"])
    if not info.get("Speculative"):
        backlog.change(stage, -1)
    executor = executors.get(info["Executor ID"])
    if executor is not None:
        executor.running += 1
        backlog.running += 1
        backlog.task_started(info["Launch Time"], executor.id)


def _task_ended(
    event: dict[str, Any], executors: dict[str, _Executor], removed: Sequence[_Executor], backlog: _Backlog
) -> None:
    info = event["Task Info"]
    if info["Failed"]:
        backlog.change((event["Stage ID"], event["Stage Attempt ID"]), 1)
    executor = executors.get(info["Executor ID"])
    if executor is None:
        executor = next((candidate for candidate in reversed(removed) if candidate.id == info["Executor ID"]), None)
    elif executor.running:
        executor.running -= 1
        backlog.running -= 1
    if executor is not None and info["Finish Time"] > 0:
        executor.tasks += 1
        executor.task_ms += info["Finish Time"] - info["Launch Time"]
        executor.spans.append((info["Launch Time"], info["Finish Time"]))


def _time(kind: str, event: dict[str, Any]) -> int | None:
    if "Timestamp" in event:
        return int(event["Timestamp"])
    if kind == "JobStart":
        return int(event["Submission Time"])
    if kind in ("TaskStart", "TaskEnd"):
        time_ms = event["Task Info"]["Launch Time" if kind == "TaskStart" else "Finish Time"]
    elif "Stage Info" not in event:
        return None
    else:
        time_ms = event["Stage Info"].get("Submission Time" if kind == "StageSubmitted" else "Completion Time")
    return int(time_ms) if time_ms else None


def _interval(properties: dict[str, str]) -> str:
    name = properties.get(INTERVAL, "")
    group = _GROUP.fullmatch(properties.get("spark.jobGroup.id", ""))
    return name or (group[1] if group else "")


def _stage(info: dict[str, Any], intervals: dict[int, str], begin: int) -> StageSpan:
    return StageSpan(
        info["Stage ID"],
        info["Stage Attempt ID"],
        info["Stage Name"],
        intervals.get(info["Stage ID"], ""),
        _seconds(info["Submission Time"] - begin),
        _seconds(info["Completion Time"] - begin),
        info["Number of Tasks"],
        bool(info.get("Failure Reason")),
    )


def _summary(
    all_executors: list[_Executor], stages: list[StageSpan], scale_out: list[int], begin: int, end: int, task_cpus: int
) -> ExecutorUse:
    executors = sorted(
        (executor for executor in all_executors if executor.removed is None or executor.removed > begin),
        key=lambda executor: (executor.added, len(executor.id), executor.id),
    )
    lives = [_life(executor, begin, end) for executor in executors]
    lifetimes = [min(life.removed_s or _seconds(end - begin), _seconds(end - begin)) - life.added_s for life in lives]
    core_seconds = sum(life.cores * seconds for life, seconds in zip(lives, lifetimes, strict=True))
    busy_core_seconds = sum(life.task_s for life in lives) * task_cpus
    return ExecutorUse(
        seconds=_seconds(end - begin),
        executor_seconds=round(sum(lifetimes), 3),
        utilisation=round(min(1.0, busy_core_seconds / core_seconds), 4) if core_seconds else 0.0,
        peak=_peak(lives),
        tasks=sum(life.tasks for life in lives),
        scale_out_s=tuple(_seconds(wait_ms) for wait_ms in scale_out),
        scale_in_s=tuple(life.idle_s for life in lives if life.why == "idle"),
        lost=sum(life.why == "lost" for life in lives),
        executors=tuple(lives[:MAX_EXECUTORS]),
        stages=tuple(sorted(stages, key=lambda stage: (stage.begin_s, stage.id)))[:MAX_STAGES],
    )


def _life(executor: _Executor, begin: int, end: int) -> ExecutorLife:
    merged = _merged(executor.spans)
    why = "" if executor.removed is None else _why(executor.reason)
    last = merged[-1][1] if merged else executor.added
    return ExecutorLife(
        id=executor.id,
        host=executor.host,
        cores=executor.cores,
        added_s=_seconds(max(0, executor.added - begin)),
        removed_s=None if executor.removed is None else _seconds(min(executor.removed, end) - begin),
        why=why,
        reason=executor.reason.splitlines()[0][:200] if executor.reason else "",
        tasks=executor.tasks,
        task_s=_seconds(executor.task_ms),
        idle_s=_seconds(max(0, (executor.removed or end) - last)),
        busy=tuple((_seconds(first - begin), _seconds(stop - begin)) for first, stop in merged),
    )


def _merged(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Merge overlapping spans, then the spans with the shortest pauses until `MAX_SPANS` are left."""
    merged: list[tuple[int, int]] = []
    for first, stop in sorted(spans):
        if merged and first <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(stop, merged[-1][1])
        else:
            merged.append((first, stop))
    if len(merged) <= MAX_SPANS:
        return merged
    pauses = sorted(following[0] - preceding[1] for preceding, following in pairwise(merged))
    longest = pauses[len(merged) - MAX_SPANS]
    reduced = merged[:1]
    for first, stop in merged[1:]:
        if first - reduced[-1][1] <= longest:
            reduced[-1] = reduced[-1][0], stop
        else:
            reduced.append((first, stop))
    return reduced


def _why(reason: str) -> str:
    """Classify Spark's removal message. Dynamic allocation kills or decommissions executors; other removals are losses."""
    text = reason.lower()
    if "decommission" in text or "idle" in text or "killed by driver" in text:
        return "idle"
    return "end" if "shutting down" in text or "stopped" in text else "lost"


def _peak(lives: Sequence[ExecutorLife]) -> int:
    steps = [(life.added_s, 1) for life in lives]
    steps += [(life.removed_s, -1) for life in lives if life.removed_s is not None]
    peak = current = 0
    for _, step in sorted(steps):
        current += step
        peak = max(peak, current)
    return peak


def _seconds(ms: float) -> float:
    return round(ms / 1000, 3)
