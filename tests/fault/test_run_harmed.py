"""Harm done to HDFS, to executors and to the clock in the middle of a batch: the published rows are those of a quiet run."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from firesteel.conf.errors import LeaseConflict, StorageError
from firesteel.jobs.embedded.hdfs import EmbeddedHdfs
from firesteel.jobs.embedded.standalone import EmbeddedStandalone
from firesteel.jobs.run.plan_runner import run_plan
from firesteel.pipelines.publish.transaction import Transaction
from firesteel.pipelines.storage.base import Storage
from firesteel.pipelines.storage.open import locate
from support.held import in_mid_batch
from support.publishing import COUNTS, INTERVAL, NEW, SINK, area_of, attempt_of, edit, publish, sink_of, stage, visible
from support.runs import firesteel
from support.scoring_project import DAY, ScoringProject, rows_of
from support.waiting import wait_for

pytestmark = [pytest.mark.integration, pytest.mark.fault]


def staged(project: ScoringProject) -> list[str]:
    storage, base = locate(f"{project.root}/_firesteel/points/staging")
    return [file.path for file in storage.walk(base)]


@pytest.fixture
def quiet(spark, tmp_path):
    """The rows that a run publishes which nobody disturbs."""
    folder = tmp_path / "quiet"
    folder.mkdir()
    project = ScoringProject(folder, f"file://{folder}/data", "held")
    project.write_points(rows=120)
    plan = project.plan("arrow")
    (folder / "marks" / "go").touch()
    assert run_plan(plan, spark=spark, runs=folder / "runs").state == "published"
    return rows_of(project.published())


@pytest.fixture
def project(hdfs_env, tmp_path):
    made = ScoringProject(tmp_path, f"{hdfs_env.uri}/harmed/{tmp_path.name}", "held")
    made.write_points(rows=120)
    return made


@pytest.mark.parametrize("operator", ["direct", pytest.param("arrow", marks=pytest.mark.long)])
def test_a_datanode_that_dies_while_rows_are_read_and_written_costs_none(
    spark, hdfs_env, project, quiet, runs, operator
):
    plan = project.plan(operator)
    try:
        with in_mid_batch(project.folder / "marks", lambda _: hdfs_env.kill_datanode(1)):
            result = run_plan(plan, spark=spark, runs=runs)
        assert result.state == "published", result.error
        assert rows_of(project.published()) == quiet
        assert staged(project) == []
    finally:
        hdfs_env.start_datanode(1)
        hdfs_env.wait_for_datanodes(2)


@pytest.mark.parametrize("operator", ["direct", pytest.param("arrow", marks=pytest.mark.long)])
def test_a_namenode_that_restarts_meanwhile_is_waited_for(hdfs_env, project, quiet, operator):
    """In a session of firesteel's own: whether HDFS's client waits is said when a session starts."""
    project.plan(operator)

    def harm(_: list[int]) -> None:
        hdfs_env.kill_namenode()
        hdfs_env.start_namenode()

    with in_mid_batch(project.folder / "marks", harm):
        done = firesteel("run", "--start", DAY, folder=project.folder)
    assert done.returncode == 0, done.stdout + done.stderr
    hdfs_env.wait_for_datanodes(2)
    assert rows_of(project.published()) == quiet
    assert staged(project) == []


@pytest.mark.parametrize("victim", ["python worker", pytest.param("executor", marks=pytest.mark.long), "node"])
def test_a_worker_or_an_executor_or_a_node_that_is_killed_in_mid_batch_costs_no_row(standalone, project, quiet, victim):
    """A node is Spark's Worker with its executors, gone at once; it is back when the run is over."""
    lost: list[int] = []
    project.plan("direct")
    path = project.folder / "pipeline.yaml"
    path.write_text(path.read_text().replace("local[2]", standalone.master))

    def harm(waiting: list[int]) -> None:
        pid = waiting[0]
        if victim == "node":
            executor = executor_of(pid)
            number = worker_of(executor, standalone)
            lost.append(number)
            standalone.kill_worker(number)
            with contextlib.suppress(ProcessLookupError):  # it ends itself when its Worker is gone
                os.kill(executor, signal.SIGKILL)
            return
        os.kill(pid if victim == "python worker" else executor_of(pid), signal.SIGKILL)

    try:
        with in_mid_batch(project.folder / "marks", harm):
            done = firesteel("run", "--start", DAY, "--json", folder=project.folder)
    finally:
        for number in lost:
            standalone.start_worker(number)
        wait_for(lambda: standalone.alive_workers() == 2, "both Workers are there")
    assert done.returncode == 0, done.stdout + done.stderr
    counts = json.loads(done.stdout)["counts"]
    assert (counts["dead_letter"], counts["rows_in"]) == (0, counts["scored"])
    assert rows_of(project.published()) == quiet
    assert staged(project) == []


def worker_of(executor: int, standalone: EmbeddedStandalone) -> int:
    """The number of the Worker that started an executor."""
    parent = int(Path(f"/proc/{executor}/stat").read_text().rpartition(")")[2].split()[1])
    (name,) = [process.name for process in standalone.processes if process.pid == parent]
    return int(name.removeprefix("worker-"))


def executor_of(worker: int) -> int:
    """The JVM above a Python worker: pyspark's daemon stands between them."""
    pid = worker
    while b"CoarseGrainedExecutorBackend" not in Path(f"/proc/{pid}/cmdline").read_bytes():
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        assert pid > 1
    return pid


def test_a_second_driver_in_the_middle_of_the_first_exits_7_and_changes_nothing(spark, project, quiet, runs):
    plan = project.plan("arrow")
    second: list[subprocess.CompletedProcess[str]] = []

    def harm(_: list[int]) -> None:
        second.append(firesteel("run", "--start", DAY, folder=project.folder))

    with in_mid_batch(project.folder / "marks", harm):
        result = run_plan(plan, spark=spark, runs=runs)
    assert result.state == "published", result.error
    assert second[0].returncode == 7, second[0].stdout + second[0].stderr
    assert "FS7501" in second[0].stderr
    assert result.run_id in second[0].stderr
    assert rows_of(project.published()) == quiet


@pytest.fixture
def small_hdfs(tmp_path, monkeypatch):
    """An HDFS whose one DataNode has a small disk of its own; HDFS wants room for a block and a GiB before it uses one."""
    disk = tmp_path / "hdfs" / "data-0"
    disk.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=1500m,mode=700", "none", str(disk)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"a small file system cannot be mounted: {done.stderr.strip()}")
    try:
        with EmbeddedHdfs(tmp_path / "hdfs", datanodes=1) as hdfs:
            monkeypatch.setenv("HADOOP_CONF_DIR", str(hdfs.conf_dir))
            yield hdfs, disk
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def takes_files(storage: Storage, root: str) -> bool:
    try:
        storage.create(f"{locate(root)[1]}/room", b"x")
    except StorageError:
        return False
    return True


def test_a_full_disk_publishes_nothing_and_the_next_run_with_room_all(spark, small_hdfs, quiet, tmp_path, runs):
    hdfs, disk = small_hdfs
    project = ScoringProject(tmp_path, f"{hdfs.uri}/full", "held")
    project.write_points(rows=120)
    ballast = disk / "ballast"

    def fill(_: list[int]) -> None:
        with ballast.open("wb") as file:
            room = os.statvfs(disk)
            os.posix_fallocate(file.fileno(), 0, room.f_bavail * room.f_frsize)

    plan = project.plan("arrow")
    with in_mid_batch(project.folder / "marks", fill):
        result = run_plan(plan, spark=spark, runs=runs)
    assert (result.state, result.exit_code) == ("failed", 1)
    assert "FS9002" in result.error
    storage, sink = locate(f"{project.root}/scores")
    assert storage.status(sink) is None
    ballast.unlink()
    wait_for(lambda: takes_files(storage, project.root), "the NameNode knows that there is room again")
    again = run_plan(project.plan("arrow"), spark=spark, runs=runs)
    assert again.state == "published", again.error
    assert rows_of(project.published()) == quiet
    assert staged(project) == []


def test_a_clock_that_jumps_ahead_makes_a_live_lease_look_dead_and_costs_only_its_holder(tmp_path):
    """The storage's clock is the one that counts; here it is the local one, which jumped by a day."""
    root = f"file://{tmp_path}"
    store = area_of(root)
    with (
        pytest.raises(LeaseConflict, match="FS7502"),
        Transaction.begin(store, SINK, sink_of(root), INTERVAL, attempt_of("slow")) as slow,
    ):
        stage(slow, store.storage, {"dt=2013-06-01/origin=EWR/part-s": "slow"})
        record = next(Path(tmp_path).rglob("lease/**/*.json"))
        edit(record, machine="another")  # its death cannot be seen from here
        yesterday = time.time() - 86_400
        for file in record.parent.iterdir():
            os.utime(file, (yesterday, yesterday))
        publish(root, "quick", NEW)
        slow.publish(tuple(NEW), COUNTS)
    assert visible(root) == NEW


def test_a_clock_that_jumps_back_lets_nobody_take_a_lease(tmp_path):
    root = f"file://{tmp_path}"
    store = area_of(root)
    with Transaction.begin(store, SINK, sink_of(root), INTERVAL, attempt_of("first")) as first:
        stage(first, store.storage, NEW)
        tomorrow = time.time() + 86_400
        for file in next(Path(tmp_path).rglob("lease/**/*.json")).parent.iterdir():
            os.utime(file, (tomorrow, tomorrow))
        with pytest.raises(LeaseConflict, match="FS7501"):
            publish(root, "second", NEW)
        first.publish(("dt=2013-06-01/origin=EWR", "dt=2013-06-01/origin=LGA", "dt=2013-05-31"), COUNTS)
    assert visible(root) == NEW
