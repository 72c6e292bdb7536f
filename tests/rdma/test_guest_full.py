"""What takes minutes in a guest: services that are harmed, a Spark application, two machines on a link. `make test-rdma` runs it."""

from __future__ import annotations

import json
import sys

import pytest

from firesteel.rdma_shuffle.jar import build_or_find
from guest.boot import Guest, pair
from support.guests import FULL, ROOT, VARIABLES, guest_kernel, many_mappings, pytest_in

pytestmark = [
    pytest.mark.skipif(not FULL, reason="minutes in a guest: make test-rdma runs it"),
    pytest.mark.timeout(2700),
]


def test_services_lose_peers_memory_and_time_over_verbs_as_over_tcp(tmp_path) -> None:
    """The fault tests of the services, as they are; with devices there, `auto` takes verbs."""
    args = [
        "tests/rdma/inside/test_services.py",
        "tests/fault/test_shuffle_node.py",
        "tests/fault/test_shuffle_security.py",
    ]
    with Guest(guest_kernel(), tmp_path / "share", memory_mib=3072) as guest:
        found = pytest_in(guest, ["--timeout=600", *args], 1800)
    assert len(found) > 50


def test_a_spark_application_over_verbs_gives_the_bytes_of_the_sort_shuffle(tmp_path) -> None:
    build_or_find()  # into the cache, before a slow guest has to
    with Guest(guest_kernel(), tmp_path / "share", memory_mib=5120) as guest:
        found = pytest_in(guest, ["tests/rdma/inside/test_spark.py", "--timeout=1500"], 1500)
    assert len(found) == 7


def test_a_pipeline_over_verbs_publishes_the_rows_of_the_sort_shuffle_while_executors_and_a_service_die(
    tmp_path,
) -> None:
    """The test of ordinary CI, as it is, where nodes have devices: under dynamic allocation, with a model, to the published files."""
    build_or_find()
    args = ["tests/integration/test_shuffle_pipeline.py", "-k", "same_rows", "--timeout=2400"]
    with many_mappings(), Guest(guest_kernel(), tmp_path / "share", memory_mib=7168) as guest:
        found = pytest_in(guest, args, 2400)
    assert len(found) == 1


def test_two_machines_on_a_link_of_which_one_loses_its_power_in_mid_read(tmp_path) -> None:
    command = [sys.executable, str(ROOT / "tests" / "support" / "two_machines.py")]
    variables = {**VARIABLES, "PYTHONPATH": str(ROOT / "tests")}
    with pair(guest_kernel(), tmp_path) as (reader, owner):
        owner.start([*command, "owner"], variables)
        owner.wait_for("ready", 120)
        reader.start([*command, "reader"], variables)
        whole = json.loads(reader.wait_for("whole", 180))
        assert whole["right"]
        assert whole["status"]["verbs"]["fallbacks"] == {}
        assert whole["status"]["gauges"]["verbs_bytes"] == whole["status"]["counters"]["remote_bytes"] > 24 << 20
        reader.wait_for("reading", 120)
        owner.kill()
        lost = json.loads(reader.wait_for("lost", 240))
        assert set(lost["reasons"]) <= {"UNREACHABLE", "TIMEOUT"}
        assert lost["took"] < 60
        gauges = lost["status"]["gauges"]
        assert [gauges[name] for name in ("fenced_bytes", "channel_requests", "lent_bytes", "in_flight_bytes")] == [
            0
        ] * 4
        assert json.loads(reader.wait_for("ended", 120)) == 0
        assert reader.wait(60).check() == ""
