"""Simulate Spark's allocation: the same tasks with another number of executors, or another policy.

The rules are those of Spark's ExecutorAllocationManager: it requests 1, 2, 4, 8 ... executors while tasks wait, at most as many as
there are tasks, lowers its target as tasks run out, and releases an executor that was idle for long enough while there are more
than the target and the minimum. A task goes to a random executor with a free slot, as Spark's offers do. A requested executor
starts after `start_s`, and its first task takes `first_s` longer.

Not simulated: locality, speculation, failures, shuffles that keep executors, a cluster manager that is slow under load.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Policy:
    """The settings of dynamic allocation. Times are in seconds; `most` is None without a limit."""

    name: str
    initial: int = 0
    least: int = 0
    most: int | None = None
    backlog_s: float = 1.0
    sustained_s: float = 1.0
    idle_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Cluster:
    """The cost of an executor before it works, its slots, and the capacity of the cluster."""

    start_s: float
    first_s: float = 0.0
    slots: int = 1
    room: int | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """Tasks by their seconds, known at `at_s`, and not before `pause_s` after the previous job."""

    tasks: tuple[float, ...]
    at_s: float = 0.0
    pause_s: float | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result. `steps` are (moment, executors from then on)."""

    makespan_s: float
    executor_seconds: float
    busy_seconds: float
    peak: int
    started: int
    steps: tuple[tuple[float, int], ...]

    @property
    def utilisation(self) -> float:
        """Return the fraction of the slots' time in which tasks ran; an executor has one slot."""
        return self.busy_seconds / self.executor_seconds if self.executor_seconds else 0.0


@dataclass(slots=True)
class _Executor:
    free: int
    fresh: bool = True
    turn: int = 0
    """How often it fell idle: an expiry that was set before its last task is void."""


@dataclass(slots=True)
class _Run:
    policy: Policy
    cluster: Cluster
    random: random.Random
    events: list[tuple[float, int, str, object]] = field(default_factory=list)
    count: int = 0
    waiting: deque[float] = field(default_factory=deque)
    running: int = 0
    executors: dict[int, _Executor] = field(default_factory=dict)
    offers: list[int] = field(default_factory=list)
    overdue: list[tuple[int, int]] = field(default_factory=list)
    launching: int = 0
    started: int = 0
    target: int = 0
    step: int = 1
    ask_at: float | None = None
    settled: bool = False
    cost_s: float = 0.0
    since: float = 0.0
    steps: list[tuple[float, int]] = field(default_factory=list)
    peak: int = 0

    def at(self, moment: float, kind: str, what: object = None) -> None:
        """Schedule an event."""
        self.count += 1
        heapq.heappush(self.events, (moment, self.count, kind, what))

    def count_cost(self, now: float) -> None:
        """Add the cost of the executors until now."""
        self.cost_s += (now - self.since) * len(self.executors)
        self.since = now

    def changed(self, now: float) -> None:
        """Record a change in the number of executors."""
        self.peak = max(self.peak, len(self.executors))
        if self.steps and self.steps[-1][0] == now:
            self.steps[-1] = now, len(self.executors)
        else:
            self.steps.append((now, len(self.executors)))

    def request(self, now: float) -> None:
        """Request the executors that are missing to the target."""
        room = self.cluster.room if self.cluster.room is not None else math.inf
        wanted = min(self.target, room) - len(self.executors) - self.launching
        for _ in range(max(0, int(wanted))):
            self.launching += 1
            self.at(now + self.cluster.start_s, "came")

    def allocate(self, now: float) -> None:
        """Run one step of the allocation manager."""
        if not self.settled:  # it holds its initial number until there is a first job
            return
        needed = math.ceil((self.running + len(self.waiting)) / self.cluster.slots)
        most = self.policy.most if self.policy.most is not None else math.inf
        if not self.waiting:
            self.ask_at, self.step = None, 1
        elif self.ask_at is None:
            self.ask_at = now + self.policy.backlog_s
            self.at(self.ask_at, "look")
        if needed < self.target:
            self.target, self.step = max(needed, self.policy.least), 1
        elif self.ask_at is not None and now >= self.ask_at:
            before = self.target
            wanted = min(max(before, len(self.executors)) + self.step, needed)
            self.target = int(max(min(wanted, most), self.policy.least))
            self.step = self.step * 2 if self.target - before == self.step else 1
            self.ask_at = now + self.policy.sustained_s
            self.at(self.ask_at, "look")
            self.request(now)
        self.release(now)

    def follow(self, left: deque[Job], now: float) -> bool:
        """Make the next job known when its time has come and the previous one is done. Return False after the last."""
        if not left:
            return False
        job = left.popleft()
        self.at(max(job.at_s, now + (job.pause_s or 0.0)), "job", job)
        return True

    def came(self, now: float) -> None:
        """Add a requested executor."""
        self.count_cost(now)
        self.launching -= 1
        self.started += 1
        self.executors[self.started] = _Executor(self.cluster.slots)
        self.changed(now)
        self.offers.append(self.started)
        self.rest(now, self.started)

    def done(self, now: float, name: int) -> None:
        """End a task of an executor."""
        self.running -= 1
        executor = self.executors[name]
        executor.free += 1
        if executor.free == 1:
            self.offers.append(name)
        self.rest(now, name)

    def rest(self, now: float, name: int) -> None:
        """Record whether an executor is idle from now on."""
        executor = self.executors[name]
        if executor.free == self.cluster.slots:
            executor.turn += 1
            self.at(now + self.policy.idle_s, "idle", (name, executor.turn))

    def idle(self, name: int, turn: int) -> None:
        """Check whether an executor was idle for long enough."""
        executor = self.executors.get(name)
        if executor is not None and executor.turn == turn:
            self.overdue.append((name, turn))
            self.settled = True

    def release(self, now: float) -> None:
        """Release the executors that were idle for long enough, while there are more than needed."""
        kept = max(self.policy.least, self.target)
        while self.overdue and len(self.executors) > kept:
            name, turn = self.overdue.pop()
            executor = self.executors.get(name)
            if executor is None or executor.turn != turn or executor.free < self.cluster.slots:
                continue
            self.count_cost(now)
            del self.executors[name]
            self.changed(now)

    def serve(self, now: float) -> None:
        """Assign waiting tasks to free slots."""
        while self.waiting and self.offers:
            place = self.random.randrange(len(self.offers))
            self.offers[place], self.offers[-1] = self.offers[-1], self.offers[place]
            name = self.offers[-1]
            executor = self.executors.get(name)
            if executor is None or not executor.free:
                self.offers.pop()
                continue
            executor.free -= 1
            executor.turn += 1
            if not executor.free:
                self.offers.pop()
            seconds = self.waiting.popleft() + (self.cluster.first_s if executor.fresh else 0.0)
            executor.fresh = False
            self.running += 1
            self.at(now + seconds, "done", name)


def simulate(jobs: Sequence[Job], policy: Policy, cluster: Cluster, *, seed: int = 1) -> Outcome:
    """Run jobs one after the other, or at their times, from the start of the application to the end of the last task.

    Examples
    --------
    >>> fixed = Policy("fixed", initial=2, least=2, most=2)
    >>> found = simulate([Job((10.0,) * 4)], fixed, Cluster(start_s=5.0))
    >>> found.makespan_s, found.executor_seconds
    (25.0, 40.0)
    """
    run = _Run(policy, cluster, random.Random(seed))
    run.target = max(policy.initial, policy.least)
    run.request(0.0)
    left, in_job, end = deque(jobs), 0, 0.0
    run.follow(left, 0.0)
    while run.events:
        now, _, kind, what = heapq.heappop(run.events)
        if isinstance(what, Job):
            in_job = len(what.tasks)
            run.waiting.extend(what.tasks)
            run.settled = True
        elif kind == "came":
            run.came(now)
        elif isinstance(what, int):
            run.done(now, what)
            in_job -= 1
            end = now
            if not in_job and not run.follow(left, now):
                break
        elif isinstance(what, tuple):
            run.idle(*what)
        run.serve(now)
        run.allocate(now)
    run.count_cost(end)
    busy = sum(sum(job.tasks) for job in jobs)
    return Outcome(end, round(run.cost_s, 3), busy, run.peak, run.started, tuple(run.steps))


def ideal_makespan(jobs: Sequence[Job], slots: int) -> float:
    """Return a lower bound of the makespan of any schedule with so many slots from the start."""
    now = 0.0
    for job in jobs:
        now = max(job.at_s, now + (job.pause_s or 0.0))
        now += max(max(job.tasks, default=0.0), sum(job.tasks) / slots)
    return now
