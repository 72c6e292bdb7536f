"""Several intervals at once: how many, in which order, and what happens when one fails or somebody interrupts."""

from __future__ import annotations

import threading
from contextlib import closing
from dataclasses import replace

import pytest

from firesteel.conf.errors import RuntimeFault
from firesteel.jobs.run.ceiling import Ceiling
from firesteel.jobs.run.schedule import Lanes, has_room, in_order
from firesteel.pipelines.plan.model import Expectation, GatePlan, InputFile, ResourcePlan, SourceInput
from support.sample_run import sample_plan
from support.waiting import wait_for


def sized(plan, *sizes):
    """Intervals that read so many bytes."""
    return [
        replace(interval, inputs=(SourceInput("flights", (), (InputFile("a", size, 0),)),))
        for interval, size in zip(plan.intervals, sizes, strict=True)
    ]


def test_alone_in_times_order_and_together_the_largest_first():
    plan = sample_plan(3)
    work = sized(plan, 5, 9, 7)
    assert [each.input_bytes for each in in_order(plan, work, 1)] == [5, 9, 7]
    assert [each.input_bytes for each in in_order(plan, work, 2)] == [9, 7, 5]
    compared = replace(plan, gates=(GatePlan("g", "sink:scores", (Expectation("drift", ()),)),))
    assert [each.input_bytes for each in in_order(compared, work, 2)] == [5, 9, 7]


class Held:
    """Work that goes on until a test says so; what runs, and in which lanes."""

    def __init__(self):
        self.running, self.most, self.lanes = set(), 0, set()
        self.go = {}
        self._lock = threading.Lock()

    def do(self, lane, interval):
        with self._lock:
            assert lane not in self.lanes
            self.lanes.add(lane)
            self.running.add(interval.id)
            self.most = max(self.most, len(self.running))
            go = self.go.setdefault(interval.id, threading.Event())
        assert go.wait(30)
        with self._lock:
            self.lanes.discard(lane)
            self.running.discard(interval.id)
        return interval.id

    def let(self, *names):
        for name in names:
            with self._lock:
                event = self.go.setdefault(name, threading.Event())
            event.set()


def nothing():
    raise AssertionError("nobody was interrupted")


def test_no_more_run_than_there_are_lanes_and_each_has_one_to_itself():
    work, held = sample_plan(5).intervals, Held()
    held.let(*(each.id for each in work))
    found = [name for _, name in Lanes(["a", "b"], lambda: True, nothing).run(work, lambda _: True, held.do)]
    assert sorted(found) == [each.id for each in work]
    assert held.most <= 2


def test_where_the_cluster_is_full_the_next_one_waits():
    work, held, room = sample_plan(3).intervals, Held(), threading.Event()
    lanes = Lanes(["a", "b", "c"], room.is_set, nothing)
    found = []
    run = threading.Thread(
        target=lambda: found.extend(name for _, name in lanes.run(work, lambda _: True, held.do)), daemon=True
    )
    run.start()
    wait_for(lambda: held.running == {"2013-06-01"}, "the first one runs")
    room.set()
    wait_for(lambda: len(held.running) == 3, "the others begin when there is room")
    held.let(*(each.id for each in work))
    run.join(30)
    assert sorted(found) == [each.id for each in work]


def test_after_a_refusal_nothing_more_begins_and_what_runs_is_waited_for():
    work, held = sample_plan(4).intervals, Held()
    held.let(*(each.id for each in work))
    begun = []

    def begin(interval):
        begun.append(interval.id)
        return len(begun) < 3

    found = [name for _, name in Lanes(["a", "b"], lambda: True, nothing).run(work, begin, held.do)]
    assert sorted(found) == ["2013-06-01", "2013-06-02"]
    assert begun == ["2013-06-01", "2013-06-02", "2013-06-03"]


def test_whoever_interrupts_waits_until_all_that_runs_has_been_stopped():
    work, held = sample_plan(3).intervals, Held()
    stopped = []

    def stop():
        stopped.append(sorted(held.running))
        held.let(*(each.id for each in work))

    held.let("2013-06-01")
    with pytest.raises(KeyboardInterrupt):  # noqa: SIM117 - as the caller does
        with closing(Lanes(["a", "b"], lambda: True, stop).run(work, lambda _: True, held.do)) as results:
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


def test_there_is_room_while_fewer_tasks_wait_than_all_slots_that_can_be():
    plan = replace(sample_plan(1), resources=ResourcePlan(max_executors=3), spark_conf=(("spark.executor.cores", "2"),))
    assert has_room(Context([(10, 2, 3)]), plan)  # 5 wait, 6 slots can be
    assert not has_room(Context([(10, 2, 3), (1, 0, 0)]), plan)
    assert not has_room(Context([(10, 2, 6)]), sample_plan(1))
    assert has_room(Context([(10, 2, 7)]), sample_plan(1))


def test_a_ceiling_counts_executors_and_cancels_the_runs_own_jobs():
    context = Context(executors=4)  # three, and the driver
    with Ceiling(context, 0.05 / 3600, "firesteel-x", every_s=0.01) as ceiling:
        wait_for(lambda: context.cancelled, "it is reached")
        assert ceiling.reached
        with pytest.raises(
            RuntimeFault, match=r"FS9011 2013-06-01 was stopped: the run has cost .* max_executor_hours is"
        ):
            ceiling.check("2013-06-01", 0)
    assert set(context.cancelled) == {"firesteel-x"}


def test_an_interval_that_would_not_fit_does_not_begin():
    context = Context(executors=2)
    with Ceiling(context, 1000.0, "t", every_s=0.01) as ceiling:
        ceiling.check("a", 10**9)  # nobody knows yet
        wait_for(lambda: ceiling._cost_s > 0, "it has cost something")
        ceiling.did(10)
        ceiling.check("b", 10)
        with pytest.raises(RuntimeFault, match=r"FS9011 c was not begun: .* the interval would cost"):
            ceiling.check("c", 10**18)
    assert not context.cancelled


def test_without_a_ceiling_nobody_counts():
    with Ceiling(Context(), None, "t") as ceiling:
        ceiling.check("a", 10**18)
    assert not ceiling.reached
