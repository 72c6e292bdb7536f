"""When executors come and go: what a plan tells Spark, what it costs, and what contradicts itself."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from firesteel.conf.errors import SpecError, SpecErrors, Where
from firesteel.pipelines.analysis import analyze
from firesteel.pipelines.plan.model import InputFile, IntervalPlan, SinkOutput, SourceInput
from firesteel.pipelines.planner.allocation import START_S, idle_timeout, min_slot_work
from firesteel.pipelines.planner.cost import Cost, check_executor_hours
from firesteel.pipelines.planner.resources import Speed, propose, spark_conf
from firesteel.pipelines.publish.records import LedgerRecord
from firesteel.pipelines.result import Counts
from firesteel.pipelines.rules import first_logical_plan, optimize
from firesteel.pipelines.spec.load import load_spec
from firesteel.pipelines.spec.model import Executors
from support.specs import example_with

MIB = 1 << 20
LOCAL, CONFIGURED = 'resources: {master: "local[2]"}', 'configuration: {spark.sql.shuffle.partitions: "4"}'
DYNAMIC = "spark.dynamicAllocation"


def load(folder, executors, configuration=None, *, master="yarn", **resources):
    asked = {"master": master, "executors": executors, **resources}
    text = {
        LOCAL: f"resources: {json.dumps(asked)}",
        CONFIGURED: f"configuration: {json.dumps(configuration or {})}",
    }
    return load_spec(example_with(folder, text), params={"root": "file:///tmp/none"})


def proposal(folder, executors, intervals, earlier=(), **resources):
    loaded = load(folder, executors, **resources)
    logical = optimize(first_logical_plan(loaded.spec, analyze(loaded), {}))[0]
    made = propose(logical, {}, intervals, earlier)
    return made, dict(spark_conf(loaded.spec.resources, {}, made))


def interval(size, name="2013-06-01"):
    inputs = (SourceInput("flights", ("dt=x",), (InputFile("a", size, 0),)),)
    return IntervalPlan(name, "", "", "score", "", "", inputs, (SinkOutput("scores", ("dt=x",)),))


def record(input_bytes, work_s, *, slots=1, whole_s=0):
    return LedgerRecord(
        "p", "d", "s", "i", 1, "r", "h", "published", "2026-01-01T00:00:00+00:00",
        f"2026-01-01T00:{int(whole_s or work_s) // 60:02d}:{int(whole_s or work_s) % 60:02d}+00:00",
        Counts(1000, 1000), input_bytes=input_bytes, slots=slots, work_seconds=work_s,
    )  # fmt: skip


def errors_of(folder, executors, configuration=None, **resources):
    return [error.what for error in load(folder, executors, configuration, **resources).errors]


def test_sort_is_one_consistent_set(tmp_path):
    made, conf = proposal(tmp_path, {"min": 1, "max": 40, "cores": 4, "python_memory": "4g"}, [interval(MIB)])
    assert {key: value for key, value in conf.items() if "sql" not in key} == {
        "spark.decommission.enabled": "true",
        f"{DYNAMIC}.enabled": "true",
        f"{DYNAMIC}.executorIdleTimeout": "10s",
        f"{DYNAMIC}.initialExecutors": "1",
        f"{DYNAMIC}.maxExecutors": "40",
        f"{DYNAMIC}.minExecutors": "1",
        f"{DYNAMIC}.schedulerBacklogTimeout": "1s",
        f"{DYNAMIC}.shuffleTracking.enabled": "true",
        f"{DYNAMIC}.shuffleTracking.timeout": "20s",
        f"{DYNAMIC}.sustainedSchedulerBacklogTimeout": "1s",
        "spark.executor.cores": "4",
        "spark.executor.memory": "1g",
        "spark.executor.pyspark.memory": "4g",
        "spark.storage.decommission.enabled": "true",
    }
    assert "an executor is released after 10 s without work: a new one takes about as long to start" in made.reasons


def test_executors_that_are_not_decommissioned_stay_while_they_hold_something(tmp_path):
    _, conf = proposal(tmp_path, {"max": 4, "decommission": False, "idle_timeout": "2m"}, [interval(MIB)])
    assert conf[f"{DYNAMIC}.executorIdleTimeout"] == "120s"
    assert not {key for key in conf if "decommission" in key or key.endswith("shuffleTracking.timeout")}


def test_spark_counts_these_times_in_whole_seconds(tmp_path):
    with pytest.raises(SpecErrors, match=r"0\.5 s: Spark needs whole seconds"):
        raise SpecErrors.of(list(load(tmp_path, {"idle_timeout": 0.5}).errors))


def test_reliable_storage_tracks_no_shuffles(tmp_path):
    _, conf = proposal(tmp_path, {"max": 4}, [interval(MIB)], shuffle={"manager": "rdma"})
    assert not {key for key in conf if "shuffleTracking" in key}
    assert conf["spark.decommission.enabled"] == "true"


def test_speculation_waits_for_the_first_model_to_load(tmp_path):
    _, conf = proposal(tmp_path, {"max": 4}, [interval(MIB)], speculation={"quantile": 0.75})
    assert {key: value for key, value in conf.items() if "speculation" in key} == {
        "spark.speculation": "true",
        "spark.speculation.minTaskRuntime": "30s",
        "spark.speculation.multiplier": "3",
        "spark.speculation.quantile": "0.75",
    }


def test_on_one_machine_there_is_nothing_to_allocate(tmp_path):
    _, conf = proposal(tmp_path, {"max": 4}, [interval(MIB)], master="local[2]", speculation={})
    assert not {key for key in conf if "dynamicAllocation" in key or "speculation" in key}


def test_a_known_pause_between_intervals_is_bridged():
    executors = Executors()
    slow = [record(MIB, 20.0, whole_s=32)] * 3
    assert idle_timeout(executors, slow, 7) == (18.0, "the pause between two intervals is about 12 s")
    assert idle_timeout(executors, slow, 1)[0] == START_S  # nothing comes after it
    assert idle_timeout(executors, [record(MIB, 20.0, whole_s=140)], 7)[0] == START_S  # a new one is cheaper
    assert idle_timeout(executors, [record(MIB, 20.0, whole_s=22)], 7)[0] == START_S
    assert idle_timeout(Executors(idle_timeout=3.0), slow, 7) == (3.0, "")


def test_history_limits_how_far_it_scales_out(tmp_path):
    slow = [record(100 * MIB, 100.0)]  # 1 MiB/s a core
    made, conf = proposal(tmp_path, {"max": 40}, [interval(100 * MIB)] * 2, slow)
    assert (made.executors, made.max_executors) == (5, 10)  # 20 s each
    assert conf[f"{DYNAMIC}.maxExecutors"] == "10"
    made, _ = proposal(tmp_path / "b", {"max": 4}, [interval(100 * MIB)], slow)
    assert made.max_executors == 4
    made, conf = proposal(tmp_path / "c", {}, [interval(100 * MIB)])
    assert made.max_executors == 0
    assert f"{DYNAMIC}.maxExecutors" not in conf


def test_heavy_work_is_cut_into_more_tasks_than_its_bytes_are(tmp_path):
    slow = [record(100 * MIB, 100.0)]
    made, conf = proposal(tmp_path, {"max": 40}, [interval(100 * MIB)], slow)
    assert (made.tasks, conf["spark.sql.files.minPartitionNum"]) == (20, "20")  # 5 s each
    assert "100 s of work in 1 task: split into 20" in made.reasons
    made, _ = proposal(tmp_path / "b", {"max": 2}, [interval(100 * MIB)], slow)
    assert made.tasks == 6  # three waves
    made, conf = proposal(tmp_path / "c", {"max": 40}, [interval(8 * MIB)], [record(8 * MIB, 1000.0)])
    assert made.tasks == 3  # Spark reads no less than 4 MiB in a task
    made, conf = proposal(tmp_path / "d", {"max": 40}, [interval(100 * MIB)], [record(100 * MIB, 9.0)])
    assert (made.tasks, "spark.sql.files.minPartitionNum" in conf) == (1, False)


def test_a_higher_utilisation_asks_for_fewer(tmp_path):
    assert min_slot_work(Executors(utilisation=0.5), 10.0) == 20.0
    assert min_slot_work(Executors(utilisation=0.8), 10.0) == pytest.approx(80.0)
    earlier = [record(1280 * MIB, 400.0)]
    made, _ = proposal(tmp_path, {"max": 40, "utilisation": 0.8}, [interval(1280 * MIB)], earlier)
    assert made.executors == 5
    assert "with more than 5 executors, a core would have less than 80 s of work" in made.reasons


def test_initial_is_what_the_spec_says(tmp_path):
    made, conf = proposal(tmp_path, {"max": 40, "initial": 0}, [interval(1280 * MIB)])
    assert conf[f"{DYNAMIC}.initialExecutors"] == "0"
    assert made.executors == 0


def test_a_budget_limits_executors_and_refuses_what_one_cannot_do(tmp_path):
    earlier = [record(1280 * MIB, 1000.0)]
    many = [interval(1280 * MIB)]
    free, _ = proposal(tmp_path / "free", {"max": 40}, many, earlier)
    assert free.executors == 40
    made, conf = proposal(tmp_path / "less", {"max": 40, "max_executor_hours": 0.3}, many, earlier)
    assert made.executors == 4
    assert conf[f"{DYNAMIC}.maxExecutors"] == "4"
    assert made.executor_hours == pytest.approx((1000 + 4 * 20) / 3600, rel=0.01)
    assert "max_executor_hours 0.3 allows 4 executors" in made.reasons
    check_executor_hours(made, Where("pipeline.yaml", 1))
    made, _ = proposal(tmp_path / "none", {"max": 40, "max_executor_hours": 0.2}, many, earlier)
    with pytest.raises(SpecError, match=r"^FS1018 pipeline.yaml:1  the plan would need 0\.28 executor-hours"):
        check_executor_hours(made, Where("pipeline.yaml", 1))
    made, _ = proposal(tmp_path / "first", {"max": 40, "max_executor_hours": 0.2}, many)
    check_executor_hours(made, Where("pipeline.yaml", 1))
    assert any("the run stops at 0.2 executor-hours" in reason for reason in made.reasons)


def test_pauses_cost_each_executor():
    assert Cost.of(3600.0, 10.0, 5.0, 11).hours(10) == pytest.approx(1 + 10 * (20 + 50) / 3600)
    assert Cost.of(3600.0, 10.0, 500.0, 2).each_s == 40.0  # it goes, and another one comes


@pytest.mark.parametrize(
    ("executors", "configuration", "expected"),
    [
        ({"min": 3, "max": 2}, {}, "resources.executors.min 3 is more than max 2."),
        ({"max": 2, "initial": 3}, {}, "resources.executors.initial 3 is above max 2."),
        ({"min": 2, "initial": 1}, {}, "resources.executors.initial 1 is below min 2."),
        (
            {"cores": 4, "python_memory": "1g"},
            {},
            "resources.executors.python_memory 1g for 4 cores leaves 256 MiB for each Python worker; the imports of "
            "pyarrow, pandas and MLflow need 512 MiB.",
        ),
        (
            {"memory": "8g"},
            {"spark.executor.memory": "4g"},
            "configuration.spark.executor.memory is 4g, but resources.executors.memory is 8g; `configuration` is applied "
            "last, so resources.executors.memory would have no effect.",
        ),
        (
            {"idle_timeout": "30s"},
            {f"{DYNAMIC}.executorIdleTimeout": "1min"},
            "configuration.spark.dynamicAllocation.executorIdleTimeout is 1min, but resources.executors.idle_timeout is 30s; "
            "`configuration` is applied last, so resources.executors.idle_timeout would have no effect.",
        ),
        (
            {"max": 3},
            {f"{DYNAMIC}.enabled": "false"},
            "configuration.spark.dynamicAllocation.enabled is false, but resources.executors uses dynamic "
            "allocation.",
        ),
        (
            {"max": 3},
            {"spark.executor.instances": "3"},
            "configuration.spark.executor.instances is 3, but under dynamic allocation it is only the initial number.",
        ),
        (
            {"max": 10, "cores": 4},
            {"spark.cores.max": "8"},
            "configuration.spark.cores.max is 8, but it allows 2 executors with 4 cores, fewer than "
            "resources.executors.max 10.",
        ),
        (
            {"min": 2},
            {f"{DYNAMIC}.maxExecutors": "1"},
            "configuration.spark.dynamicAllocation.maxExecutors is 1, but the minimum of 2 executors is above the maximum of 1.",
        ),
        (
            {"cores": 2},
            {"spark.task.cpus": "4"},
            "configuration.spark.task.cpus is 4, but an executor has only 2 cores, so no task would run.",
        ),
        (
            {"max": 2, "decommission": False},
            {f"{DYNAMIC}.shuffleTracking.enabled": "false"},
            "configuration.spark.dynamicAllocation.shuffleTracking.enabled is false, but Spark needs shuffle tracking, an external "
            "shuffle service or decommissioning to keep map outputs, and does not start.",
        ),
    ],
)  # fmt: skip
def test_a_contradiction_is_an_error_with_the_reason(tmp_path, executors, configuration, expected):
    found = load(tmp_path, executors, configuration).errors
    assert [(each.code, each.what) for each in found] == [("FS1017", expected)]
    assert found[0].where.line > 60


def test_rdma_contradicts_what_would_keep_outputs_elsewhere(tmp_path):
    configuration = {f"{DYNAMIC}.shuffleTracking.enabled": "true", "spark.shuffle.service.enabled": "true"}
    found = errors_of(tmp_path, {"max": 2}, configuration, shuffle={"manager": "rdma"})
    assert len(found) == 2
    assert all("with shuffle.manager rdma, " in each for each in found)


@pytest.mark.parametrize(
    ("executors", "configuration"),
    [
        ({"memory": "8g"}, {"spark.executor.memory": "8192m"}),
        ({"idle_timeout": 60}, {f"{DYNAMIC}.executorIdleTimeout": "1min"}),
        ({"max": 3}, {f"{DYNAMIC}.executorIdleTimeout": "5s", "spark.executor.memory": "2g", "spark.cores.max": "3"}),
        ({"max": 3}, {f"{DYNAMIC}.initialExecutors": "2", f"{DYNAMIC}.cachedExecutorIdleTimeout": "1h"}),
        ({"max": 3}, {f"{DYNAMIC}.shuffleTracking.enabled": "false"}),  # outputs move
    ],
)
def test_what_resources_leaves_open_may_stand_in_configuration(tmp_path, executors, configuration):
    assert errors_of(tmp_path, executors, configuration) == []


def test_all_contradictions_are_shown_at_once(tmp_path):
    loaded = load(
        tmp_path, {"min": 3, "max": 2, "cores": 2}, {"spark.executor.cores": "1", f"{DYNAMIC}.enabled": "false"}
    )
    with pytest.raises(SpecErrors) as caught:
        raise SpecErrors.of(list(loaded.errors))
    assert [error.code for error in caught.value.errors] == ["FS1017"] * 3


def test_intervals_at_once_share_fairly_and_ask_for_as_many_times_the_executors(tmp_path):
    text = {
        LOCAL: "resources: {master: yarn, executors: {max: 40}}",
        "unit: day,": "unit: day, batch_concurrency: 3,",
    }
    loaded = load_spec(example_with(tmp_path, text), params={"root": "file:///tmp/none"})
    logical = optimize(first_logical_plan(loaded.spec, analyze(loaded), {}))[0]
    made = propose(logical, {}, [interval(512 * MIB), interval(512 * MIB)], ())
    assert (made.tasks, made.executors) == (5, 10)  # two are left to do
    assert "2 concurrent intervals" in made.reasons
    conf = dict(spark_conf(loaded.spec.resources, {}, made, at_once=3))
    assert conf["spark.scheduler.mode"] == "FAIR"


def test_fair_pools_contradict_a_scheduler_by_age(tmp_path):
    text = {
        "unit: day,": "unit: day, batch_concurrency: 3,",
        CONFIGURED: 'configuration: {spark.scheduler.mode: "FIFO"}',
    }
    (found,) = load_spec(example_with(tmp_path, text), params={"root": "file:///tmp/none"}).errors
    assert found.what.startswith("configuration.spark.scheduler.mode is FIFO, but interval.batch_concurrency is FAIR")


def test_history_goes_by_the_time_of_tasks_where_it_is_known():
    timed = [replace(record(100 * MIB, 10.0, slots=2), task_seconds=50.0)]
    assert Speed.of(timed).input_bytes_s == 2 * MIB
    assert Speed.of([record(100 * MIB, 10.0, slots=2)]).input_bytes_s == 5 * MIB
