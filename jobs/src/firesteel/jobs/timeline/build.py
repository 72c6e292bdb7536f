"""Events -> what the executors did.

Tasks wait from the moment when more are known than all slots can run. That ends when none waits any more, or when an executor
that was not there yet has begun its first task: what lies between is how long it took to scale out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from firesteel.pipelines.result import ExecutorLife, ExecutorUse, StageSpan

MAX_SPANS = 200
"""Of an executor: shorter pauses are closed until as many are left. A page is not wider."""
MAX_EXECUTORS = 2000
MAX_STAGES = 2000
"""Kept one by one in the record of a run; the sums are over all."""
_GROUP = re.compile(r"firesteel (\S+) [0-9a-f]+")
INTERVAL = "firesteel.interval"
"""Local property of the jobs of an interval."""


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
    """Tasks that wait, over time. A wait counts once: from its beginning to the first task on the first new executor."""

    task_cpus: int
    slots: int = 0
    running: int = 0
    waiting: int = 0
    pending: dict[tuple[int, int], int] = field(default_factory=dict)
    since: int | None = None
    awaited: set[str] = field(default_factory=set)
    answered: bool = False
    found: list[int] = field(default_factory=list)

    def submitted(self, stage: tuple[int, int], tasks: int) -> None:
        """A stage has so many tasks."""
        self.completed(stage)
        self.pending[stage] = tasks
        self.waiting += tasks

    def completed(self, stage: tuple[int, int]) -> None:
        """Nothing of a stage waits any more."""
        self.waiting -= self.pending.pop(stage, 0)

    def again(self, stage: tuple[int, int], tasks: int) -> None:
        """So many more tasks of a stage wait, or less."""
        if stage in self.pending and self.pending[stage] + tasks >= 0:
            self.pending[stage] += tasks
            self.waiting += tasks

    def came(self, executor: _Executor) -> None:
        """An executor is there."""
        self.slots += executor.cores // self.task_cpus
        if self.since is not None and not self.answered:
            self.awaited.add(executor.id)

    def went(self, executor: _Executor) -> None:
        """An executor is gone."""
        self.slots -= executor.cores // self.task_cpus
        self.running -= executor.running

    def served(self, at: int, executor: str) -> None:
        """Note that a task began: perhaps the first of an executor that tasks waited for."""
        if self.since is not None and executor in self.awaited:
            self.found.append(at - self.since)
            self.answered = True
            self.awaited.clear()

    def look(self, at: int) -> None:
        """Note whether tasks wait now."""
        enough = self.running + self.waiting <= self.slots
        if not self.waiting or (enough and not self.awaited):
            self.since, self.answered = None, False
            self.awaited.clear()
        elif self.since is None:
            self.since = at


def executor_use(
    events: Iterable[dict[str, Any]], *, task_cpus: int = 1, since_ms: int | None = None, until_ms: int | None = None
) -> ExecutorUse | None:
    """What the events say; None when they say nothing of executors.

    Parameters
    ----------
    since_ms, until_ms
        Milliseconds since the epoch: what lies outside belongs to others, whose session it is as well.
    """
    executors: dict[str, _Executor] = {}
    gone: list[_Executor] = []
    stages: list[StageSpan] = []
    intervals: dict[int, str] = {}
    backlog = _Backlog(task_cpus)
    begin, end = since_ms, 0
    for event in events:
        kind = event["Event"].removeprefix("SparkListener")
        at = _time(kind, event)
        if at is not None:
            if until_ms is not None and at > until_ms:
                break
            begin = at if begin is None else begin
            end = max(end, at)
        if kind == "ExecutorAdded":
            info = event["Executor Info"]
            added = _Executor(event["Executor ID"], info["Host"], info["Total Cores"], event["Timestamp"])
            executors[added.id] = added
            backlog.came(added)
        elif kind == "ExecutorRemoved":
            left = executors.pop(event["Executor ID"], None)
            if left is not None:
                left.removed, left.reason = event["Timestamp"], event["Removed Reason"]
                gone.append(left)
                backlog.went(left)
        elif kind == "JobStart":
            interval = _interval(event.get("Properties") or {})
            intervals |= dict.fromkeys(event["Stage IDs"], interval)
        elif since_ms is not None and at is not None and at < since_ms:
            continue
        elif kind == "StageSubmitted":
            info = event["Stage Info"]
            backlog.submitted((info["Stage ID"], info["Stage Attempt ID"]), info["Number of Tasks"])
        elif kind == "TaskStart":
            _started(event, executors, backlog)
        elif kind == "TaskEnd":
            _ended(event, executors, gone, backlog)
        elif kind == "StageCompleted":
            info = event["Stage Info"]
            backlog.completed((info["Stage ID"], info["Stage Attempt ID"]))
            if info.get("Submission Time") and info.get("Completion Time"):
                stages.append(_stage(info, intervals, begin or 0))
        if at is not None:
            backlog.look(at)
    everyone = [*gone, *executors.values()]
    if begin is None or not everyone:
        return None
    return _summary(everyone, stages, backlog.found, begin, max(end, begin), task_cpus)


def _started(event: dict[str, Any], executors: dict[str, _Executor], backlog: _Backlog) -> None:
    info, stage = event["Task Info"], (event["Stage ID"], event["Stage Attempt ID"])
    if not info.get("Speculative"):
        backlog.again(stage, -1)
    executor = executors.get(info["Executor ID"])
    if executor is not None:
        executor.running += 1
        backlog.running += 1
        backlog.served(info["Launch Time"], executor.id)


def _ended(
    event: dict[str, Any], executors: dict[str, _Executor], gone: Sequence[_Executor], backlog: _Backlog
) -> None:
    info = event["Task Info"]
    if info["Failed"]:
        backlog.again((event["Stage ID"], event["Stage Attempt ID"]), 1)
    executor = executors.get(info["Executor ID"])
    if executor is None:
        executor = next((each for each in reversed(gone) if each.id == info["Executor ID"]), None)
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
        found = event["Task Info"]["Launch Time" if kind == "TaskStart" else "Finish Time"]
    elif "Stage Info" not in event:
        return None
    else:
        found = event["Stage Info"].get("Submission Time" if kind == "StageSubmitted" else "Completion Time")
    return int(found) if found else None


def _interval(properties: dict[str, str]) -> str:
    named = properties.get(INTERVAL, "")
    group = _GROUP.fullmatch(properties.get("spark.jobGroup.id", ""))
    return named or (group[1] if group else "")


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
    everyone: list[_Executor], stages: list[StageSpan], scale_out: list[int], begin: int, end: int, task_cpus: int
) -> ExecutorUse:
    there = sorted(
        (each for each in everyone if each.removed is None or each.removed > begin),
        key=lambda each: (each.added, len(each.id), each.id),
    )
    lives = [_life(each, begin, end) for each in there]
    held = [min(life.removed_s or _seconds(end - begin), _seconds(end - begin)) - life.added_s for life in lives]
    core_seconds = sum(life.cores * seconds for life, seconds in zip(lives, held, strict=True))
    worked = sum(life.task_s for life in lives) * task_cpus
    return ExecutorUse(
        seconds=_seconds(end - begin),
        executor_seconds=round(sum(held), 3),
        utilisation=round(min(1.0, worked / core_seconds), 4) if core_seconds else 0.0,
        peak=_peak(lives),
        tasks=sum(life.tasks for life in lives),
        scale_out_s=tuple(_seconds(each) for each in scale_out),
        scale_in_s=tuple(life.idle_s for life in lives if life.why == "idle"),
        lost=sum(life.why == "lost" for life in lives),
        executors=tuple(lives[:MAX_EXECUTORS]),
        stages=tuple(sorted(stages, key=lambda each: (each.begin_s, each.id)))[:MAX_STAGES],
    )


def _life(each: _Executor, begin: int, end: int) -> ExecutorLife:
    merged = _merged(each.spans)
    why = "" if each.removed is None else _why(each.reason)
    last = merged[-1][1] if merged else each.added
    return ExecutorLife(
        id=each.id,
        host=each.host,
        cores=each.cores,
        added_s=_seconds(max(0, each.added - begin)),
        removed_s=None if each.removed is None else _seconds(min(each.removed, end) - begin),
        why=why,
        reason=each.reason.splitlines()[0][:200] if each.reason else "",
        tasks=each.tasks,
        task_s=_seconds(each.task_ms),
        idle_s=_seconds(max(0, (each.removed or end) - last)),
        busy=tuple((_seconds(first - begin), _seconds(stop - begin)) for first, stop in merged),
    )


def _merged(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Spans that touch are one; of too many, those with the shortest pauses between them become one."""
    whole: list[tuple[int, int]] = []
    for first, stop in sorted(spans):
        if whole and first <= whole[-1][1]:
            whole[-1] = whole[-1][0], max(stop, whole[-1][1])
        else:
            whole.append((first, stop))
    if len(whole) <= MAX_SPANS:
        return whole
    pauses = sorted(after[0] - before[1] for before, after in pairwise(whole))
    longest = pauses[len(whole) - MAX_SPANS]
    closed = whole[:1]
    for first, stop in whole[1:]:
        if first - closed[-1][1] <= longest:
            closed[-1] = closed[-1][0], stop
        else:
            closed.append((first, stop))
    return closed


def _why(reason: str) -> str:
    """Spark says it in sentences only. Dynamic allocation kills or decommissions; all else is a loss."""
    text = reason.lower()
    if "decommission" in text or "idle" in text or "killed by driver" in text:
        return "idle"
    return "end" if "shutting down" in text or "stopped" in text else "lost"


def _peak(lives: Sequence[ExecutorLife]) -> int:
    steps = [(life.added_s, 1) for life in lives]
    steps += [(life.removed_s, -1) for life in lives if life.removed_s is not None]
    most = now = 0
    for _, step in sorted(steps):
        now += step
        most = max(most, now)
    return most


def _seconds(ms: float) -> float:
    return round(ms / 1000, 3)
