"""What a plan proposes to ask for, and what of it the spec can override."""

from __future__ import annotations

import pytest

from firesteel.conf.errors import SpecErrors
from firesteel.pipelines.analysis import analyze
from firesteel.pipelines.plan.model import InputFile, IntervalPlan, ResourcePlan, SinkOutput, SourceInput
from firesteel.pipelines.planner.resources import Speed, propose, spark_conf
from firesteel.pipelines.publish.records import LedgerRecord, PublishedFile
from firesteel.pipelines.result import Counts
from firesteel.pipelines.rules import first_logical_plan, optimize
from firesteel.pipelines.spec.load import load_spec
from support.specs import example_with

MIB = 1 << 20
LOCAL, BATCH = 'resources: {master: "local[2]"}', "batch: {rows: 8192, bytes: 32MiB}"
CLUSTER = "resources: {master: yarn, executors: {min: 1, max: 40, cores: 4}}"


def _draft(folder, resources='resources: {master: "local[2]"}', configuration="configuration: {}"):
    path = example_with(
        folder,
        {
            'resources: {master: "local[2]"}': resources,
            'configuration: {spark.sql.shuffle.partitions: "4"}': configuration,
        },
    )
    loaded = load_spec(path, params={"root": "file:///tmp/none"})
    return optimize(first_logical_plan(loaded.spec, analyze(loaded), {}))[0]


def _interval(name="2013-06-01", flights=1 * MIB, weather=1000, action="score"):
    inputs = (
        SourceInput("flights", ("dt=x",), (InputFile("a", flights, 0),)),
        SourceInput("weather", ("dt=x",), (InputFile("b", weather, 0),)),
    )
    outputs = (SinkOutput("scores", ("dt=x/origin=JFK", "dt=x/origin=LGA")),)
    return IntervalPlan(name, "", "", action, "", "", inputs, outputs)


def _record(input_bytes, seconds, slots=1, rows=1000, published=100):
    return LedgerRecord(
        "p",
        "d",
        "s",
        "i",
        1,
        "r",
        "h",
        "published",
        "",
        "",
        Counts(rows, rows),
        (),
        (PublishedFile("f", published),),
        input_bytes=input_bytes,
        slots=slots,
        work_seconds=seconds,
    )


def test_without_history_a_task_reads_at_most_128_mib(tmp_path):
    made = propose(_draft(tmp_path, CLUSTER), {}, [_interval(flights=1280 * MIB), _interval("2013-06-02")], ())
    assert (made.tasks, made.executors, made.slots, made.seconds) == (11, 3, 12, None)
    assert made.reasons[0] == "the largest interval reads 1.3 GiB in 2 files: 11 scan tasks"


def test_history_says_how_long_it_takes_and_how_many_executors_are_worth_it(tmp_path):
    earlier = [_record(64 * MIB, 4.0, slots=2), _record(100, 1.0), _record(64 * MIB, 4.0, slots=2)]
    speed = Speed.of(earlier)
    assert (speed.runs, speed.input_bytes_s) == (3, 8 * MIB)
    made = propose(_draft(tmp_path, CLUSTER), {}, [_interval(flights=1280 * MIB)], earlier)
    assert made.executors == 3
    slow = [_record(1280 * MIB, 100.0)]
    made = propose(_draft(tmp_path / "slow", CLUSTER), {}, [_interval(flights=1280 * MIB)], slow)
    assert made.executors == 2
    assert "with more than 2 executors, a core would have less than 20 s of work" in made.reasons
    assert made.seconds == pytest.approx(100 / 8, rel=0.01)


def test_the_spec_has_the_last_word(tmp_path):
    logical = _draft(tmp_path, CLUSTER.replace("max: 40", "max: 2"))
    configuration = {"spark.sql.shuffle.partitions": "7", "spark.dynamicAllocation.initialExecutors": "1"}
    made = propose(logical, configuration, [_interval(flights=1280 * MIB)], ())
    assert (made.executors, made.shuffle_partitions) == (2, 7)
    assert "3 executors would have work; resources.executors.max allows 2" in made.reasons
    conf = dict(spark_conf(logical.spec.resources, configuration, made))
    assert conf["spark.sql.shuffle.partitions"] == "7"
    assert conf["spark.dynamicAllocation.initialExecutors"] == "1"
    assert conf["spark.dynamicAllocation.maxExecutors"] == "2"


def test_shuffle_partitions_follow_the_bytes(tmp_path):
    logical = _draft(tmp_path, CLUSTER)
    made = propose(logical, {}, [_interval(flights=12800 * MIB)], ())
    assert made.shuffle_partitions == 801
    assert dict(spark_conf(logical.spec.resources, {}, made))["spark.sql.shuffle.partitions"] == "801"


@pytest.mark.parametrize(
    ("size", "configuration", "how"),
    [
        (1000, {}, "features joins weather (1,000 B): broadcast"),
        (11 * MIB, {}, "features joins weather (11.0 MiB): shuffle both sides"),
        (11 * MIB, {"spark.sql.autoBroadcastJoinThreshold": "20m"}, "features joins weather (11.0 MiB): broadcast"),
        (1000, {"spark.sql.autoBroadcastJoinThreshold": "-1"}, "features joins weather (1,000 B): shuffle both sides"),
    ],
)
def test_how_a_join_is_done_goes_by_the_planned_bytes(tmp_path, size, configuration, how):
    assert how in propose(_draft(tmp_path), configuration, [_interval(weather=size)], ()).reasons


def test_a_local_master_asks_for_no_executors(tmp_path):
    made = propose(_draft(tmp_path), {}, [_interval()], ())
    assert (made.executors, made.slots) == (0, 2)


def test_files_are_expected_by_what_was_published_before(tmp_path):
    assert propose(_draft(tmp_path), {}, [_interval()], ()).files == 2
    assert propose(_draft(tmp_path), {}, [_interval()], [_record(MIB, 1.0, published=300 * MIB)]).files == 3


def test_a_file_has_the_rows_that_earlier_runs_say_make_its_size(tmp_path):
    path = example_with(tmp_path, {"mode: replace_partitions": "files: {target_size: 64MiB}"})
    loaded = load_spec(path, params={"root": "file:///tmp/none"})
    logical = optimize(first_logical_plan(loaded.spec, analyze(loaded), {}))[0]
    first = propose(logical, {}, [_interval()], ())
    assert (first.file_rows, first.file_input_bytes) == (0, 0)
    assert any("nothing is published yet" in reason for reason in first.reasons)
    conf = dict(spark_conf(logical.spec.resources, {}, first, file_bytes=64 * MIB))
    assert conf["spark.sql.adaptive.advisoryPartitionSizeInBytes"] == str(256 * MIB)
    # 1 KiB a row, half as many bytes as were read; a run that published nothing says nothing.
    earlier = [_record(2 * MIB, 1.0, rows=1024, published=MIB)] * 2 + [_record(MIB, 1.0, rows=0, published=0)]
    made = propose(logical, {}, [_interval(flights=512 * MIB)], earlier)
    assert (made.file_rows, made.file_input_bytes, made.files) == (64 * 1024, 128 * MIB, 5)
    assert "files of about 64.0 MiB: 65,536 rows of 1,024.0 bytes, as in earlier runs" in made.reasons


def test_nothing_to_do_asks_for_nothing(tmp_path):
    made = propose(_draft(tmp_path), {}, [_interval(action="skip")], ())
    assert made.reasons == ("nothing to do",)


def test_records_without_times_are_no_history():
    assert Speed.of([_record(0, 1.0), _record(100, 0.0), _record(100, 1.0, slots=0)]) is None


RDMA = "resources: {master: yarn, executors: {min: 0, max: 40}, shuffle: {manager: rdma, fallback: fail}}"
PLUGIN = "firesteel.shuffle.ShufflePlugin"


@pytest.mark.parametrize(
    ("configuration", "plugins"), [({}, PLUGIN), ({"spark.plugins": "org.example.Mine"}, f"org.example.Mine,{PLUGIN}")]
)
def test_rdma_asks_for_the_plugin_beside_those_of_the_user(tmp_path, configuration, plugins):
    logical = _draft(tmp_path, RDMA)
    made = propose(logical, configuration, [_interval()], ())
    conf = dict(spark_conf(logical.spec.resources, configuration, made))
    assert conf["spark.plugins"] == plugins
    assert conf["spark.firesteel.shuffle.fallback"] == "fail"
    assert "spark.dynamicAllocation.shuffleTracking.enabled" not in conf  # the plugin decides, once it knows
    assert (
        "shuffles through the nodes' shuffle services, which outlive executors; without them the run fails"
        in made.reasons
    )


def test_sort_tracks_shuffles_and_has_no_plugin(tmp_path):
    logical = _draft(tmp_path, CLUSTER)
    conf = dict(spark_conf(logical.spec.resources, {}, propose(logical, {}, [_interval()], ())))
    assert conf["spark.dynamicAllocation.shuffleTracking.enabled"] == "true"
    assert "spark.plugins" not in conf


def test_workers_compile_to_what_spark_counts(tmp_path):
    wide = CLUSTER.replace("cores: 4", "cores: 2")
    spec = _score(tmp_path, "workers: {cpus: 2, gpus: 1}", wide)
    conf = dict(spark_conf(spec.resources, {}, ResourcePlan(), spec.workers))
    assert conf["spark.task.cpus"] == "2"
    assert conf["spark.executor.resource.gpu.amount"] == conf["spark.task.resource.gpu.amount"] == "1"


def test_tasks_of_two_cpus_need_twice_the_executors(tmp_path):
    one = propose(_draft(tmp_path / "one", CLUSTER), {}, [_interval(flights=1280 * MIB)], ())
    path = example_with(tmp_path / "two", {LOCAL: CLUSTER, BATCH: "workers: {cpus: 2}"})
    loaded = load_spec(path, params={"root": "file:///tmp/none"})
    two = propose(
        optimize(first_logical_plan(loaded.spec, analyze(loaded), {}))[0], {}, [_interval(flights=1280 * MIB)], ()
    )
    assert (two.executors, two.slots) == (6, 12)
    assert (one.executors, one.slots) == (3, 12)


def test_gpus_that_would_leave_cores_idle_are_refused_with_the_remedy(tmp_path):
    path = example_with(tmp_path, {LOCAL: CLUSTER, BATCH: "workers: {gpus: 1}"})
    with pytest.raises(SpecErrors, match=r"3 of its 4 cores would be idle\. Set `cpus: 4`"):
        analyze(load_spec(path, params={"root": "file:///tmp/none"}))


def _score(folder, workers, resources):
    path = example_with(folder, {LOCAL: resources, BATCH: workers})
    return load_spec(path, params={"root": "file:///tmp/none"}).spec
