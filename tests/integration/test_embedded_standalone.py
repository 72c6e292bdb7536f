"""A real Spark standalone cluster as processes, and the command behind `make cluster-up`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from firesteel.jobs.embedded.cluster import owner_of, state_of
from support.waiting import runs, wait_for

APPLICATION = """
import json, os, sys
from pyspark.sql import SparkSession

settings = {
    "spark.driver.bindAddress": "127.0.0.1", "spark.driver.host": "127.0.0.1", "spark.ui.enabled": "false",
    "spark.executor.memory": "512m", "spark.cores.max": "2", "spark.sql.shuffle.partitions": "2",
    "spark.scheduler.minRegisteredResourcesRatio": "1.0", "spark.scheduler.maxRegisteredResourcesWaitingTime": "60s",
}
builder = SparkSession.builder.master(sys.argv[1]).appName("embedded")
for key, value in settings.items():
    builder = builder.config(key, value)
spark = builder.getOrCreate()

def total(frames):
    import pandas as pd
    for frame in frames:
        yield pd.DataFrame({"pid": [os.getppid()], "total": [frame["id"].sum()]})

rows = spark.range(0, 1000, numPartitions=8).mapInPandas(total, "pid long, total long").collect()
print(json.dumps({"total": sum(row.total for row in rows), "workers": len({row.pid for row in rows})}))
spark.stop()
"""


def embedded(*words: str, folder) -> list[str]:
    return [sys.executable, "-m", "firesteel.jobs.embedded", *words, "--folder", str(folder)]


def say(*words: str, folder) -> tuple[int, str]:
    done = subprocess.run(embedded(*words, folder=folder), capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, done.stdout + done.stderr


def test_both_workers_run_a_job(standalone):
    assert standalone.alive_workers() == 2
    done = subprocess.run(
        [sys.executable, "-c", APPLICATION, standalone.master], capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"total": sum(range(1000)), "workers": 2}


def test_its_rest_server_is_off(standalone):
    assert sorted(process.name for process in standalone.processes) == ["master", "worker-0", "worker-1"]
    command = Path(f"/proc/{standalone.processes[0].pid}/cmdline").read_bytes()
    assert b"spark.master.rest.enabled=false" in command
    assert "Started REST server" not in (standalone.folder / "logs" / "master.log").read_text()


@pytest.mark.parametrize(("target", "ending"), [("standalone", "down"), ("hdfs", "ctrl-c")])
def test_the_command_starts_a_cluster_and_ends_it(tmp_path, target, ending):
    assert say("status", "--target", target, folder=tmp_path) == (1, f"nothing runs in {tmp_path}\n")
    up = embedded("up", "--target", target, folder=tmp_path)
    with subprocess.Popen(up, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as owner:
        said = []
        for line in owner.stdout:
            said.append(line)
            if line == "Ctrl-C stops it.\n":
                break
        state = state_of(tmp_path)
        assert state is not None, said
        assert state.owner == owner.pid
        assert all(map(runs, state.processes.values()))
        code, status = say("status", "--target", target, folder=tmp_path)
        assert code == 0
        for name, address in state.addresses.items():
            assert f"{name}: {address}\n" in said
            assert f"{name}: {address}\n" in status
        code, refused = say("up", "--target", target, folder=tmp_path)
        assert (code, refused.startswith("FS9005")) == (1, True)
        assert f"is in use by process {owner.pid}" in refused
        if ending == "down":
            assert say("down", "--target", target, folder=tmp_path) == (0, "stopped\n")
        else:
            os.kill(owner.pid, signal.SIGINT)
        assert owner.wait(60) == 0
        assert owner.stdout.read() == "stopped\n"
    wait_for(lambda: not any(map(runs, state.processes.values())), "its processes are gone")
    assert owner_of(tmp_path) is None
    assert say("down", "--target", target, folder=tmp_path) == (0, f"nothing runs in {tmp_path}\n")
