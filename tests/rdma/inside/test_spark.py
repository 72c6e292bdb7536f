"""A real Spark application on two nodes whose services read from each other by verbs: the same digests as on the sort shuffle.

One session for all of it, since starting one takes a minute in a guest. Dynamic allocation is on, Netty is forbidden, and no
read may fall down to TCP: a right digest shows that every remote block came by RDMA.
"""

from __future__ import annotations

import pytest

from firesteel.jobs.embedded.standalone import EmbeddedStandalone
from support.rdma import VERBS
from support.shuffle import Application, plugin_conf, worker_on
from support.shuffle_services import NODES, Services
from support.waiting import wait_for

pytestmark = pytest.mark.timeout(1500)
HERE, THERE = NODES
CONF = {
    "spark.cores.max": "2",
    "spark.dynamicAllocation.enabled": "true",
    "spark.dynamicAllocation.initialExecutors": "2",
    "spark.dynamicAllocation.minExecutors": "0",
    "spark.dynamicAllocation.executorIdleTimeout": "20s",
    "spark.executor.memory": "512m",
    "spark.driver.memory": "768m",
    "spark.network.timeout": "600s",
}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("verbs")
    with (
        Services(folder / "services", NODES, *VERBS) as services,
        EmbeddedStandalone(folder / "spark", workers=1) as standalone,
        worker_on(THERE, standalone, folder),
    ):
        conf = plugin_conf(services.socket, nettyFallback="false", fetchTimeout="120s") | CONF
        with Application(folder / "app", standalone.master, conf) as application:
            yield services, application


@pytest.mark.parametrize("job", ["group_by", "sort", "join", "many_maps", "rdd"])
def test_same_digest_as_the_sort_shuffle_and_every_remote_byte_by_verbs(served, shuffle_digests, job: str) -> None:
    services, application = served
    before = services.gauge("verbs_bytes")
    assert application.run(job) == shuffle_digests[job]
    assert services.gauge("verbs_bytes") > before
    assert services.gauge("verbs_bytes") == services.total("remote_bytes")
    assert [services.status(node)["verbs"]["fallbacks"] for node in NODES] == [{}, {}]


def test_executors_and_a_service_killed_between_stages_cost_no_map_task(served, shuffle_digests) -> None:
    services, application = served
    application.run("first_stage")
    application.kill_executors()
    services.kill(THERE)
    services.start(THERE)
    assert application.run("second_stage") == shuffle_digests["second_stage"]
    wait_for(lambda: services.gauge("leases") == 0, "all lent memory is given back", 120)


def test_the_end_of_the_application_takes_channels_and_memory_with_it(served) -> None:
    services, application = served
    application.stop()
    wait_for(lambda: services.gauge("applications") == 0, "both nodes heard of the end", 120)
    for name in ("channels", "registrations", "pinned_bytes", "channel_requests", "staged_bytes", "leases"):
        assert services.gauge(name) == 0, name
    assert set(application.map_tasks().values()) == {1}, "no map task ran twice"
