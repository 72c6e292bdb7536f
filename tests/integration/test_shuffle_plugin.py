"""The shuffle plugin in real applications: the same digests as Spark's sort shuffle, read from the service alone.

Netty is forbidden where nothing is said of it, so that a right digest shows that the service gave every remote block.
"""

from __future__ import annotations

import json

import pytest

from support.scripted_service import END, FETCH, REGISTER, RELEASE, Script, ScriptedService
from support.shuffle import LOCAL_CLUSTER, Application, plugin_conf, worker_on
from support.waiting import wait_for

JOBS = ["group_by", "sort", "join", "many_maps", "many_reduces", "one_value", "skew_join", "rdd"]
SLAB = 256 << 20
SPILLS = {
    "spark.shuffle.spill.numElementsForceSpillThreshold": "300",
    "spark.shuffle.sort.bypassMergeThreshold": "1",
}
"""Rows go through the writers that sort: each map merges many spills."""
MANAGER = "firesteel.shuffle.FiresteelShuffleManager"


@pytest.fixture(scope="module", params=["files", "slab"])
def served(request, tmp_path_factory):
    """An application whose blocks come as extents of files, or lent in shared memory."""
    folder = tmp_path_factory.mktemp(request.param)
    script = Script(slab_bytes=SLAB if request.param == "slab" else 0)
    with ScriptedService(folder, script) as service:
        conf = plugin_conf(service.socket, nettyFallback="false")
        with Application(folder / "app", LOCAL_CLUSTER, conf) as application:
            yield service, application


@pytest.mark.long
def test_the_golden_digests_are_those_of_sparks_sort_shuffle(tmp_path, golden):
    with Application(tmp_path / "app", LOCAL_CLUSTER, {}) as application:
        assert application.about["manager"] == "sort"
        digests = {job: application.run(job) for job in [*JOBS, "rdd_4000"]}
        application.run("first_stage")
        digests["second_stage"] = application.run("second_stage")
    golden("shuffle_digests.json", json.dumps(digests, indent=1) + "\n")


@pytest.mark.parametrize("job", JOBS)
def test_same_digest_as_the_sort_shuffle(served, shuffle_digests, job):
    service, application = served
    before = service.blocks
    assert application.about["manager"] == MANAGER
    assert application.run(job) == shuffle_digests[job]
    assert service.blocks > before


def test_a_cancelled_task_keeps_nothing(served):
    service, application = served
    assert application.run("cancelled") == "cancelled"
    wait_for(lambda: not service.leases, "all lent memory is given back")
    if service.script.slab_bytes:
        assert service.frames[RELEASE] == service.leased > 0


def test_the_end_of_the_application_empties_the_service(served):
    service, application = served
    assert service.outputs
    assert service.wrong == 0
    application.stop()
    assert service.frames[END] == 1
    assert not service.outputs
    (secret,) = service.secrets.values()
    for path in (application.folder / "log", *(application.folder / "events").iterdir()):
        assert secret.hex() not in path.read_text(), path
    assert all(count == 1 for count in application.map_tasks().values())
    reads = [
        event["Task Metrics"]["Shuffle Read Metrics"]
        for event in application.events()
        if event["Event"] == "SparkListenerTaskEnd" and "Task Metrics" in event
    ]
    (environment,) = [each for each in application.events() if each["Event"] == "SparkListenerEnvironmentUpdate"]
    assert environment["Spark Properties"]["spark.shuffle.checksum.algorithm"] == "CRC32C"
    assert sum(read["Remote Blocks Fetched"] for read in reads) > 0
    assert sum(read["Remote Bytes Read"] for read in reads) > 0


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("disk", {"spark.maxRemoteBlockSizeFetchToMem": "1k"}),
        ("encrypted", SPILLS | {"spark.io.encryption.enabled": "true"}),
        ("single", {"spark.sql.adaptive.fetchShuffleBlocksInBatch": "false", "spark.shuffle.compress": "false"}),
        ("spills", SPILLS),
        (
            "merged again",
            SPILLS | {"spark.shuffle.unsafe.fastMergeEnabled": "false", "spark.io.compression.codec": "zstd"},
        ),
        ("other checksums", {"spark.shuffle.checksum.algorithm": "ADLER32"}),
    ],
)
def test_same_digest_with_other_settings(tmp_path, shuffle_digests, name, settings):
    with ScriptedService(tmp_path, Script(slab_bytes=SLAB)) as service:
        conf = plugin_conf(service.socket, nettyFallback="false") | settings
        with Application(tmp_path / name, LOCAL_CLUSTER, conf) as application:
            for job in ("group_by", "sort", "rdd"):
                assert application.run(job) == shuffle_digests[job]
            wait_for(lambda: not service.leases, "all lent memory is given back")
            application.stop()
        assert service.blocks > 0
        assert service.wrong == 0
    ends = [event for event in application.events() if event["Event"] == "SparkListenerTaskEnd"]
    if settings.items() >= SPILLS.items():
        assert sum(end["Task Metrics"]["Disk Bytes Spilled"] for end in ends) > 0
    if name == "disk":
        assert sum(end["Task Metrics"]["Shuffle Read Metrics"]["Remote Bytes Read To Disk"] for end in ends) > 0


def test_metrics_stand_in_sparks_own_system(tmp_path, shuffle_digests):
    sink = "spark.metrics.conf.executor.sink.csv."
    (tmp_path / "csv").mkdir()
    settings = {
        f"{sink}class": "org.apache.spark.metrics.sink.CsvSink",
        f"{sink}directory": str(tmp_path / "csv"),
        f"{sink}period": "1",
        f"{sink}unit": "seconds",
    }

    def total(metric: str) -> int:
        """The last value of each executor's file: its lines are `seconds,value`."""
        files = (tmp_path / "csv").glob(f"*.plugin.firesteel.shuffle.ShufflePlugin.{metric}.csv")
        lines = [path.read_text().splitlines() for path in files]
        return sum(int(line[-1].split(",")[1]) for line in lines if len(line) > 1)

    with ScriptedService(tmp_path) as service:
        conf = plugin_conf(service.socket, nettyFallback="false") | settings
        with Application(tmp_path / "app", LOCAL_CLUSTER, conf) as application:
            assert application.run("rdd") == shuffle_digests["rdd"]
            wait_for(lambda: total("blocksByService") == service.blocks, "the sink has the blocks that were served")
            wait_for(lambda: total("outputsHandedOver") == service.frames[REGISTER] == 4, "and the outputs")
            assert total("blocksByNetty") == total("blocksFailed") == 0


def test_both_attempts_of_a_speculated_task_commit(tmp_path, standalone, shuffle_digests):
    """Spark gives the second attempt to another host only; each attempt's hand-over waits for the other's."""
    settings = {
        "spark.cores.max": "3",
        "spark.speculation": "true",
        "spark.speculation.quantile": "0.75",
        "spark.speculation.interval": "100ms",
        "spark.speculation.multiplier": "1.1",
        "spark.speculation.minTaskRuntime": "100ms",
    }
    marks, handed_over = tmp_path / "app" / "marks", set()

    def wait_for_both(_shuffle: int, map_id: int) -> int:
        if (marks / f"meet-{map_id}").exists():
            handed_over.add(map_id)
            wait_for(lambda: len(handed_over) == 2, "both attempts hand over", 30)
        return 0

    with (
        ScriptedService(tmp_path, Script(on_register=wait_for_both)) as service,
        worker_on("127.0.0.2", standalone, tmp_path),
    ):
        conf = plugin_conf(service.socket, nettyFallback="false") | settings
        with Application(tmp_path / "app", standalone.master, conf) as application:
            assert application.run("speculation") == shuffle_digests["rdd_4000"]
            assert len(handed_over) == 2
            assert service.frames[REGISTER] == 5


def test_executors_killed_between_stages_run_no_map_again(tmp_path, standalone, shuffle_digests):
    with ScriptedService(tmp_path) as service:
        conf = plugin_conf(service.socket, nettyFallback="false") | {"spark.cores.max": "2"}
        with Application(tmp_path / "app", standalone.master, conf) as application:
            application.run("first_stage")
            application.kill_executors()
            fetched = service.frames[FETCH]
            assert application.run("second_stage") == shuffle_digests["second_stage"]
            assert service.frames[FETCH] > fetched
            application.stop()
        assert application.map_tasks() == dict.fromkeys(application.map_tasks(), 1)
        assert len(application.map_tasks()) == 4
        removed = [event for event in application.events() if event["Event"] == "SparkListenerExecutorRemoved"]
        assert len(removed) >= 2


def test_dynamic_allocation_scales_to_zero_between_stages(tmp_path, standalone, shuffle_digests):
    settings = {
        "spark.cores.max": "2",
        "spark.dynamicAllocation.enabled": "true",
        "spark.dynamicAllocation.initialExecutors": "2",
        "spark.dynamicAllocation.minExecutors": "0",
        "spark.dynamicAllocation.executorIdleTimeout": "1s",
    }
    with ScriptedService(tmp_path) as service:
        conf = plugin_conf(service.socket, nettyFallback="false") | settings
        with Application(tmp_path / "app", standalone.master, conf) as application:
            application.run("first_stage")
            assert application.run("wait_for_no_executors") == 0
            wait_for(lambda: not application.executors(), "no executor runs")
            assert application.run("second_stage") == shuffle_digests["second_stage"]
            application.stop()
        assert len(application.map_tasks()) == 4
        assert set(application.map_tasks().values()) == {1}
