"""Several intervals at once: how many, in which order, and the effect of a failure or an interrupt."""

from __future__ import annotations

import threading
from contextlib import closing
from dataclasses import replace

import pytest

from firesteel.conf.errors import RuntimeFault
from firesteel.jobs.run.executor_hours_budget import ExecutorHoursBudget
from firesteel.jobs.run.worker_slots import WorkerSlots, execution_order, has_capacity
from firesteel.pipelines.plan.model import Expectation, GatePlan, InputFile, ResourcePlan, SourceInput
from support.sample_run import sample_plan
from support.waiting import wait_for


def sized(plan, *sizes):
    """Intervals that read so many bytes."""
    return [
        replace(interval, inputs=(SourceInput("flights", (), (InputFile("a", size, 0),)),))
        for interval, size in zip(plan.intervals, sizes, strict=True)
    ]


def test_one_at_a_time_in_the_order_of_time_and_several_the_largest_first():
    plan = sample_plan(3)
    work = sized(plan, 5, 9, 7)
    assert [each.input_bytes for each in execution_order(plan, work, 1)] == [5, 9, 7]
    assert [each.input_bytes for each in execution_order(plan, work, 2)] == [9, 7, 5]
    compared = replace(plan, gates=(GatePlan("g", "sink:scores", (Expectation("drift", ()),)),))
    assert [each.input_bytes for each in execution_order(compared, work, 2)] == [5, 9, 7]


class Held:
    """Work that runs until a test releases it; the running intervals and their slots."""

    def __init__(self):
        self.running, self.most, self.slots = set(), 0, set()
        self.go = {}
        self._lock = threading.Lock()

    def do(self, slot, interval):
        with self._lock:
            assert slot not in self.slots
            self.slots.add(slot)
            self.running.add(interval.id)
            self.most = max(self.most, len(self.running))
            go = self.go.setdefault(interval.id, threading.Event())
        assert go.wait(30)
        with self._lock:
            self.slots.discard(slot)
            self.running.discard(interval.id)
        return interval.id

    def let(self, *names):
        for name in names:
            with self._lock:
                event = self.go.setdefault(name, threading.Event())
            event.set()


def nothing():
    raise AssertionError("nobody was interrupted")


def test_no_more_run_than_there_are_slots_and_each_has_its_own_slot():
    work, held = sample_plan(5).intervals, Held()
    held.let(*(each.id for each in work))
    found = [name for _, name in WorkerSlots(["a", "b"], lambda: True, nothing).run(work, lambda _: True, held.do)]
    assert sorted(found) == [each.id for each in work]
    assert held.most <= 2


def test_the_next_interval_waits_while_the_cluster_has_no_capacity():
    work, held, room = sample_plan(3).intervals, Held(), threading.Event()
    slots = WorkerSlots(["a", "b", "c"], room.is_set, nothing)
    found = []
    run = threading.Thread(
        target=lambda: found.extend(name for _, name in slots.run(work, lambda _: True, held.do)), daemon=True
    )
    run.start()
    wait_for(lambda: held.running == {"2013-06-01"}, "the first one runs")
    room.set()
    wait_for(lambda: len(held.running) == 3, "the others start when there is capacity")
    held.let(*(each.id for each in work))
    run.join(30)
    assert sorted(found) == [each.id for each in work]


def test_after_a_refusal_no_interval_starts_and_the_running_ones_end():
    work, held = sample_plan(4).intervals, Held()
    held.let(*(each.id for each in work))
    started = []

    def start(interval):
        started.append(interval.id)
        return len(started) < 3

    found = [name for _, name in WorkerSlots(["a", "b"], lambda: True, nothing).run(work, start, held.do)]
    assert sorted(found) == ["2013-06-01", "2013-06-02"]
    assert started == ["2013-06-01", "2013-06-02", "2013-06-03"]


def test_an_interrupt_waits_until_all_running_intervals_have_stopped():
    work, held = sample_plan(3).intervals, Held()
    stopped = []

    def stop():
        stopped.append(sorted(held.running))
        held.let(*(each.id for each in work))

    held.let("2013-06-01")
    with pytest.raises(KeyboardInterrupt):  # noqa: SIM117 - as the caller does
        with closing(WorkerSlots(["a", "b"], lambda: True, stop).run(work, lambda _: True, held.do)) as results:
            for _ in results:
                wait_for(lambda: "2013-06-02" in held.running, "the second runs")
                raise KeyboardInterrupt
    assert stopped
    assert not held.running
    assert "2013-06-03" not in held.go or held.go["2013-06-03"].is_set()


class Context:
    """As much of a SparkContext as is asked: active stages, slots, executors."""

    master = "spark://x"

    def __init__(self, stages=(), slots=2, executors=3):
        self.stages, self.defaultParallelism, self.executors = dict(enumerate(stages)), slots, executors
        self.cancelled = []

    def statusTracker(self):  # noqa: N802 - Spark's name
        return self

    def getActiveStageIds(self):  # noqa: N802
        return list(self.stages)

    def getStageInfo(self, stage):  # noqa: N802
        tasks, active, done = self.stages[stage]
        return type("Info", (), {"numTasks": tasks, "numActiveTasks": active, "numCompletedTasks": done})

    @property
    def sparkContext(self):  # noqa: N802
        return self

    @property
    def _jsc(self):
        return self

    def sc(self):
        return self

    def statusStore(self):  # noqa: N802
        return self

    def executorList(self, active):  # noqa: N802
        assert active
        return self

    def size(self):
        return self.executors

    def cancelJobsWithTag(self, tag):  # noqa: N802
        self.cancelled.append(tag)


def test_there_is_capacity_while_fewer_tasks_wait_than_the_cluster_can_run():
    plan = replace(sample_plan(1), resources=ResourcePlan(max_executors=3), spark_conf=(("spark.executor.cores", "2"),))
    assert has_capacity(Context([(10, 2, 3)]), plan)  # 5 wait, 6 slots can be
    assert not has_capacity(Context([(10, 2, 3), (1, 0, 0)]), plan)
    assert not has_capacity(Context([(10, 2, 6)]), sample_plan(1))
    assert has_capacity(Context([(10, 2, 7)]), sample_plan(1))


def test_a_budget_counts_executors_and_cancels_the_runs_own_jobs():
    context = Context(executors=4)  # three, and the driver
    with ExecutorHoursBudget(context, 0.05 / 3600, "firesteel-x", every_s=0.01) as budget:
        wait_for(lambda: context.cancelled, "it is reached")
        assert budget.reached
        with pytest.raises(
            RuntimeFault, match=r"FS9011 2013-06-01 was stopped: the run has cost .* max_executor_hours is"
        ):
            budget.check("2013-06-01", 0)
    assert set(context.cancelled) == {"firesteel-x"}


def test_an_interval_that_would_not_fit_does_not_start():
    context = Context(executors=2)
    with ExecutorHoursBudget(context, 1000.0, "t", every_s=0.01) as budget:
        budget.check("a", 10**9)  # nobody knows yet
        wait_for(lambda: budget._cost_s > 0, "it has cost something")
        budget.add_completed(10)
        budget.check("b", 10)
        with pytest.raises(RuntimeFault, match=r"FS9011 c was not started: .* the interval would cost"):
            budget.check("c", 10**18)
    assert not context.cancelled


def test_without_a_limit_nothing_is_counted():
    with ExecutorHoursBudget(Context(), None, "t") as budget:
        budget.check("a", 10**18)
    assert not budget.reached
