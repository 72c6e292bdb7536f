"""A real YARN on a highly available HDFS as processes; what it runs is in test_submit_yarn.py and fault/test_yarn_harmed.py."""

from __future__ import annotations

import re

from firesteel.jobs.doctor import examine
from firesteel.jobs.embedded.cluster import ask, state_of
from support.listening import LOOPBACK, listening
from support.waiting import runs


def test_its_daemons_are_up_and_listen_on_this_machine_only(yarn):
    assert yarn.live_nodes() == 2
    names = [process.name for process in yarn.processes]
    pairs = [f"{kind}-{number}" for kind in ("namenode", "zkfc", "datanode", "nodemanager") for number in (0, 1)]
    assert sorted(names) == sorted([*pairs, *(f"journalnode-{n}" for n in (0, 1, 2)), "zookeeper", "resourcemanager"])
    found = listening(process.pid for process in yarn.processes[-3:])
    assert len(found) == 5 + 2 * 3
    assert set(listening(process.pid for process in yarn.processes)) == {LOOPBACK}
    state = state_of(yarn.folder)
    assert state is not None
    assert all(runs(state.processes[name]) for name in names)


def test_its_version_is_that_of_the_client_of_pyspark(yarn):
    from firesteel.jobs.embedded.hadoop import SERVER

    info = ask(f"{yarn.web_url}/ws/v1/cluster/info")["clusterInfo"]
    assert (info["state"], info["hadoopVersion"]) == ("STARTED", SERVER.rpartition(":")[2])


def test_doctor_says_what_it_has(yarn_env):
    found = {each.subject: each for each in examine(None, "", {})}
    assert found["hadoop"].state == found["yarn"].state == "ok"
    assert re.fullmatch(r"2 nodes; free: \d of 6 cores, .* of 8\.0 GiB", found["yarn"].found)
