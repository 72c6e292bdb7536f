"""The plugin on real services of two nodes: two addresses of this machine, with a Worker each.

Netty is forbidden unless a test is about it, so that a right digest shows that the services gave every remote block.
"""

from __future__ import annotations

import pytest

from support.shuffle import Application, plugin_conf, worker_on
from support.shuffle_services import NODES, Services
from support.waiting import wait_for

JOBS = ["group_by", "sort", "join", "many_maps", "many_reduces", "one_value", "skew_join", "rdd"]
THREE = {"spark.cores.max": "3"}
HERE, THERE = NODES


@pytest.fixture(scope="module")
def cluster(tmp_path_factory, standalone):
    """Workers on two hosts, and the services of both."""
    folder = tmp_path_factory.mktemp("nodes")
    with Services(folder) as services, worker_on(THERE, standalone, folder):
        yield services, standalone.master


@pytest.fixture(scope="module")
def served(cluster, tmp_path_factory):
    services, master = cluster
    conf = plugin_conf(services.socket, nettyFallback="false") | THREE
    with Application(tmp_path_factory.mktemp("served") / "app", master, conf) as application:
        yield services, application


@pytest.mark.parametrize("job", JOBS)
def test_same_digest_as_the_sort_shuffle(served, shuffle_digests, job):
    services, application = served
    before = services.total("local_blocks") + services.total("remote_blocks")
    assert application.run(job) == shuffle_digests[job]
    assert services.total("local_blocks") + services.total("remote_blocks") > before


def test_a_cancelled_task_keeps_nothing(served):
    services, application = served
    assert application.run("cancelled") == "cancelled"
    wait_for(lambda: services.gauge("leases") == 0, "all lent memory is given back")
    assert services.gauge("lent_bytes") == 0


def test_the_end_of_the_application_empties_both_services(served):
    services, application = served
    assert services.total("remote_blocks") > 0
    assert services.gauge("outputs") > 0
    application.stop()
    wait_for(lambda: services.gauge("applications") == 0, "both nodes heard of the end")
    assert services.gauge("outputs") == 0
    assert services.gauge("leases") == 0
    assert not [path for node in NODES for path in (services.folder / f"outputs-{node}").glob("*/.service/outputs/*/*")]
    assert set(application.map_tasks().values()) == {1}


def test_executors_and_a_service_killed_between_stages_run_no_map_again(cluster, tmp_path, shuffle_digests):
    """The restarted service takes up what it had: outputs are on its disk."""
    services, master = cluster
    conf = plugin_conf(services.socket, nettyFallback="false") | THREE
    with Application(tmp_path / "app", master, conf) as application:
        application.run("first_stage")
        services.kill(THERE)
        services.start(THERE)
        application.kill_executors()
        assert application.run("second_stage") == shuffle_digests["second_stage"]
        application.stop()
    assert len(application.map_tasks()) == 4
    assert set(application.map_tasks().values()) == {1}


@pytest.mark.long
def test_dynamic_allocation_to_zero_and_a_killed_service(cluster, tmp_path, shuffle_digests):
    services, master = cluster
    settings = {
        "spark.dynamicAllocation.enabled": "true",
        "spark.dynamicAllocation.initialExecutors": "3",
        "spark.dynamicAllocation.minExecutors": "0",
        "spark.dynamicAllocation.executorIdleTimeout": "1s",
    }
    conf = plugin_conf(services.socket, nettyFallback="false") | THREE | settings
    with Application(tmp_path / "app", master, conf) as application:
        application.run("first_stage")
        assert application.run("wait_for_no_executors") == 0
        services.kill(HERE)
        services.start(HERE)
        assert application.run("second_stage") == shuffle_digests["second_stage"]
        application.stop()
    assert len(application.map_tasks()) == 4
    assert set(application.map_tasks().values()) == {1}


@pytest.mark.long
def test_a_service_that_stays_dead_is_not_missed_while_executors_live(cluster, tmp_path, shuffle_digests):
    services, master = cluster
    conf = plugin_conf(services.socket, fetchTimeout="5s", retryWait="20ms") | THREE
    with Application(tmp_path / "app", master, conf) as application:
        application.run("first_stage")
        services.kill(THERE)
        try:
            assert application.run("second_stage") == shuffle_digests["second_stage"]
        finally:
            services.start(THERE)
        application.stop()
    assert len(application.map_tasks()) == 4


def test_a_node_that_dies_costs_its_maps_once(cluster, tmp_path, standalone, shuffle_digests):
    """Service and executors of a node are gone for good: its outputs are dropped in one step and made elsewhere."""
    services, master = cluster
    conf = plugin_conf(services.socket, fetchTimeout="5s", retryWait="20ms") | {"spark.cores.max": "4"}
    with worker_on(THERE, standalone, tmp_path), Application(tmp_path / "app", master, conf) as application:
        application.run("first_stage")
        services.kill(THERE)
        try:
            application.kill_executors(THERE)
            assert application.run("second_stage") == shuffle_digests["second_stage"]
        finally:
            services.start(THERE)
        application.stop()
    made = application.map_tasks()
    assert 4 < sum(made.values()) <= 8
    ends = [event for event in application.events() if event["Event"] == "SparkListenerTaskEnd"]
    failures = [end for end in ends if end["Task End Reason"]["Reason"] == "FetchFailed"]
    assert {end["Task End Reason"]["Block Manager Address"]["Host"] for end in failures} == {THERE}
    assert f"the map outputs of host {THERE} are lost" in application.log
