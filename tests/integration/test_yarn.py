"""Plans on a real YARN and a highly available HDFS: in cluster mode, and with harm done in the middle of a batch.

One file, since each process that runs tests has clusters of its own. The published bytes after harm are those of a quiet run. How
long each recovery took is in the test's record (`--junitxml`) and printed (`-s`); no test asserts a time.
"""

from __future__ import annotations

import datetime
import io
import json
import os
import re
import shutil
import sys
import time
import venv
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from firesteel.conf.hadoop import HadoopConf
from firesteel.conf.yarn import resourcemanager_urls
from firesteel.jobs.demo.flights import load_flights
from firesteel.jobs.doctor.machine import machine_checks
from firesteel.jobs.embedded.cluster import ask, state_of
from firesteel.jobs.embedded.yarn import EmbeddedYarn
from firesteel.jobs.run.plan_runner import run_plan
from firesteel.jobs.submit.application import ResourceManagers
from firesteel.jobs.submit.environment import pack
from firesteel.pipelines.plan.model import Plan
from support import leaks
from support.bursty import Bursty, there
from support.held import holding, in_mid_batch
from support.listening import LOOPBACK, listening
from support.runs import Project, firesteel
from support.scoring_project import DAY, ScoringProject, rows_of
from support.waiting import runs, wait_for
from support.yarn_runs import attempts, leftovers, made, on_yarn, published_bytes, submitted

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

PATIENCE_S = 240.0
"""A machine with two cores and much else to do needs a minute for what takes it ten seconds alone."""
DATABASE = "db-91f7c2e4d05b"
KEY = "Kx7 q\"1'&<\\€:=#!%+ä-Zt9vQ"
SMALL = """{master: yarn, executors: {min: 1, max: 2, cores: 1, memory: 512m}}
configuration:
  spark.sql.shuffle.partitions: "2"
  spark.executor.memoryOverhead: 512m
  spark.driver.memory: 768m
  spark.hadoop.demo.store: "${secret:store/key}\""""
GATE = """
gates:
  output_ok:
    on: sink:scores
    expect: [{type: expect_column_values_to_be_between, column: p, min_value: 2, max_value: 3}]
"""


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
    found = {check.subject: check for check in machine_checks(None, "", {})}
    assert found["hadoop"].state == found["yarn"].state == "ok"
    assert re.fullmatch(r"2 nodes; free: \d of 6 cores, .* of 8\.0 GiB", found["yarn"].found)


@pytest.fixture
def archive(tmp_path) -> Path:
    """An environment of an interpreter and one line that says where the packages are; firesteel is not among them."""
    made = tmp_path / "made"
    venv.EnvBuilder(with_pip=False, symlinks=True).create(made)
    own = next((made / "lib").glob("python*")) / "site-packages"
    # A .pth file is read for folders of the environment only: not the one that points to this checkout.
    own.joinpath("packages.pth").write_text(f"{Path(sys.prefix, own.relative_to(made))}\n")
    pack(tmp_path / "environment.tar.gz", made)
    shutil.rmtree(made)
    return tmp_path / "environment.tar.gz"


@pytest.fixture
def flights(yarn_env, flight_model, tmp_path) -> Project:
    """Real flights of a day in the highly available HDFS, tracked in a database whose name is a secret."""
    known = Path(flight_model.removeprefix("sqlite:///"))
    shutil.copy(known, known.with_name(f"{DATABASE}.db"))
    root = f"{yarn_env.hdfs.uri}/flights"
    day = datetime.date(2013, 6, 1)
    load_flights(root, days=(day, day))
    return Project(tmp_path / "flights", root, f"sqlite:///{known.parent}/${{secret:mlflow/database}}.db")


def test_flights_are_scored_by_a_driver_on_the_cluster_that_had_nothing_but_what_was_sent(
    flights, yarn, archive, wheel
):
    flights.pipeline({'{master: "local[2]"}': SMALL, 'configuration: {spark.sql.shuffle.partitions: "4"}\n': ""})
    words = [sys.executable, "-m", "firesteel.jobs.cli.main", "submit", "--start", "2013-06-01", "--run"]
    words += ["--param", f"root={flights.root}", "--deploy-mode", "cluster"]
    words += ["--archive", str(archive), "--py-files", str(wheel)]
    secrets = {"FIRESTEEL_SECRET_MLFLOW_DATABASE": DATABASE, "FIRESTEEL_SECRET_STORE_KEY": KEY}
    done, lines = leaks.run(words, flights.folder, {**os.environ, **secrets}, timeout_s=560)
    assert done.returncode == 0, done.stdout + done.stderr
    printed = done.stdout.splitlines()[0]
    assert "--deploy-mode cluster" in printed
    assert "spark.pyspark.python=./environment/bin/python" in printed
    assert "'spark.hadoop.demo.store=${secret:store/key}'" in printed
    assert "FINISHED SUCCEEDED" in done.stderr
    assert "PUBLISHED" in done.stdout
    assert flights.rows() == 754
    report = next((flights.folder / ".firesteel" / "runs").rglob("report.html"))
    assert "flight_delay_scores" in report.read_text()
    assert flights.leftovers() == []
    assert leaks.in_text(done.stdout + done.stderr + "\n".join(lines), DATABASE, KEY) == []
    assert leaks.in_files(flights.folder, DATABASE, KEY, but=Path("/nothing")) == []
    logs = [path for path in yarn.folder.glob("container-logs-*/*/*/*") if path.is_file()]
    assert any(path.name == "stderr" for path in logs)
    assert [path for path in logs if leaks.in_text(path.read_bytes(), DATABASE, KEY)] == []


@pytest.mark.long
def test_flights_in_high_availability_are_scored_the_same_from_yarn_and_from_standalone(
    flights, knows_both, runs, standalone, monkeypatch
):
    """The driver is here. A run on one machine in the same HDFS is what both are compared with."""
    monkeypatch.setenv("FIRESTEEL_SECRET_MLFLOW_DATABASE", DATABASE)
    assert (
        run_plan(flights.pipeline({}).plan("2013-06-01", force=True), spark=knows_both, runs=runs).state == "published"
    )
    # Other numbers of tasks make other batches, and BLAS rounds those otherwise in the last bit.
    expected = [{**row, "p_delay": pytest.approx(row["p_delay"], rel=1e-12)} for row in rows_of_flights(flights)]
    without_secret = "".join(f"{line}\n" for line in SMALL.splitlines() if "demo.store" not in line).rstrip()
    for master in ("yarn", standalone.master):
        resources = without_secret.replace("master: yarn", f'master: "{master}"')
        spec = {'{master: "local[2]"}': resources, 'configuration: {spark.sql.shuffle.partitions: "4"}\n': ""}
        flights.pipeline(spec)
        words = ["submit", "--start", "2013-06-01", "--run", "--force", "--param", f"root={flights.root}"]
        done = firesteel(*words, folder=flights.folder, timeout_s=560)
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"--master {master}" in done.stdout
        assert rows_of_flights(flights) == expected
        assert flights.leftovers() == []


def rows_of_flights(flights: Project) -> list[dict]:
    """What is published, without the columns that name the run."""
    tables = [pq.read_table(io.BytesIO(data)) for path, data in sorted(flights.published().items()) if "dt=" in path]
    table = pa.concat_tables(tables).drop_columns(["_run_id", "_plan_hash"])
    assert table.num_rows == 754
    return table.sort_by("flight_id").to_pylist()


@pytest.mark.long
def test_one_executor_becomes_three_and_one_again_on_yarn(yarn_env, tmp_path):
    """As on standalone (test_elastic.py), from the highly available HDFS; executors that go leave no service behind."""
    days, wanted = (
        {"2024-01-01": 1, "2024-01-02": 12, "2024-01-03": 1},
        {"2024-01-01": 1, "2024-01-02": 3, "2024-01-03": 1},
    )
    project = Bursty(tmp_path, crowd=True, root=f"{yarn_env.hdfs.uri}/burst")
    project.write(days, wanted)
    executors = {"min": 1, "max": 3, "initial": 1, "cores": 1, "memory": "512m", "idle_timeout": "2s"}
    settings = {
        "spark.default.parallelism": "6",
        "spark.driver.memory": "768m",
        "spark.executor.memoryOverhead": "512m",
    }
    project.plan("2024-01-01", "2024-01-03", {"master": "yarn", "executors": executors}, settings)
    done = firesteel("run", "--start", "2024-01-01", "--end", "2024-01-03", folder=project.folder, timeout_s=560)
    assert done.returncode == 0, done.stdout + done.stderr
    assert project.rows() == {day: files * 20 for day, files in days.items()}
    (path,) = project.folder.glob(".firesteel/runs/*/result.json")
    use = json.loads(path.read_text())["executors"]
    assert (use["peak"], use["lost"]) == (3, 0)
    assert [life["why"] for life in use["executors"] if life["removed_s"] is not None] == ["idle"] * 2
    assert [there(use, stage["end_s"] - 0.001) for stage in use["stages"]] == [1, 3, 1]


@pytest.mark.long
def test_a_gate_that_fails_on_the_cluster_gives_its_exit_code_and_no_second_driver_scores_again(yarn_env, tmp_path):
    project = made(tmp_path, f"{yarn_env.hdfs.uri}/refused", "logistic")
    on_yarn(project, GATE)
    done = submitted(project, "--deploy-mode", "cluster")
    assert done.returncode == 3, done.stdout + done.stderr
    assert "FS7001" in done.stderr
    assert "FAILED  points" in done.stdout
    assert "driver 2" in done.stderr  # YARN starts one after every bad end
    assert [attempt.state for attempt in attempts(project)] == ["failed"]
    assert not published_bytes(project)
    assert leftovers(project) == []


@pytest.fixture(scope="module")
def quiet(spark, tmp_path_factory):
    """What a run publishes that nobody disturbs, on one machine and local files."""
    folder = tmp_path_factory.mktemp("quiet")
    project = made(folder, f"file://{folder}/data", "held")
    on_yarn(project)
    (folder / "marks" / "go").touch()
    from firesteel.pipelines import Pipeline

    plan: Plan = Pipeline.load(folder / "pipeline.yaml").plan(DAY, DAY)
    assert run_plan(plan, spark=spark, runs=folder / "runs").state == "published"
    return published_bytes(project)


@pytest.fixture
def project(yarn_env, tmp_path) -> ScoringProject:
    project = made(tmp_path, f"{yarn_env.hdfs.uri}/harmed/{tmp_path.name}", "held")
    on_yarn(project)
    return project


@pytest.fixture
def recovery(record_property) -> Callable[[str, float], None]:
    """Say how long something took, from `began`."""

    def said(what: str, began: float) -> None:
        seconds = time.monotonic() - began
        record_property(f"{what}_seconds", round(seconds, 2))
        sys.stdout.write(f"\nrecovery: {what} {seconds:.1f} s\n")

    return said


def published_once(project: ScoringProject, quiet) -> None:
    assert published_bytes(project) == quiet
    assert [attempt.state for attempt in attempts(project)].count("published") == 1
    assert leftovers(project) == []


def another_waits(project: ScoringProject, before: list[int]) -> None:
    """Until a worker that was not there before is in the middle of a batch: the lost work is done again."""
    wait_for(lambda: bool(set(holding(project.folder / "marks")) - set(before)), "the lost task runs again", PATIENCE_S)


@pytest.mark.fault
def test_a_run_goes_on_when_the_active_namenode_is_killed_and_the_other_one_takes_over(
    yarn_env: EmbeddedYarn, project, quiet, recovery
):
    """Automatic failover, in the middle of a scan by direct tasks on YARN: both read and write HDFS by themselves."""

    def harm(_: list[int]) -> None:
        hdfs = yarn_env.hdfs
        began = time.monotonic()
        killed = hdfs.kill_active()
        wait_for(lambda: hdfs.active() == 1 - killed, "the other NameNode is active")
        recovery("namenode_failover", began)
        hdfs.start_namenode(killed)

    with in_mid_batch(project.folder / "marks", harm, PATIENCE_S):
        done = submitted(project)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "application_" in done.stderr
    yarn_env.hdfs.wait_for_namenodes()
    published_once(project, quiet)


@pytest.fixture
def knows_both(spark, yarn_env):
    """The session of all tests, with the NameNodes of this HDFS."""
    conf = spark.sparkContext._jsc.hadoopConfiguration()
    names = ("dfs.nameservices", "dfs.ha.", "dfs.namenode.rpc-address.", "dfs.client.failover.")
    settings = {key: value for key, value in HadoopConf.load().values.items() if key.startswith(names)}
    for key, value in settings.items():
        conf.set(key, value)
    yield spark
    for key in settings:
        conf.unset(key)


@pytest.mark.fault
def test_sparks_own_reader_and_writer_go_on_when_the_active_namenode_is_killed(
    yarn_env: EmbeddedYarn, knows_both, tmp_path, runs
):
    project = made(tmp_path, f"{yarn_env.hdfs.uri}/harmed/{tmp_path.name}", "held", "arrow")
    plan = project.plan("arrow")

    def harm(_: list[int]) -> None:
        hdfs = yarn_env.hdfs
        hdfs.start_namenode(hdfs.kill_active())

    with in_mid_batch(project.folder / "marks", harm, PATIENCE_S):
        result = run_plan(plan, spark=knows_both, runs=runs)
    assert result.state == "published", result.error
    yarn_env.hdfs.wait_for_namenodes()
    assert project.published().num_rows == result.counts.rows_in == result.counts.scored > 0
    assert leftovers(project) == []
    after_harm = rows_of(project.published())
    assert run_plan(project.plan("arrow", force=True), spark=knows_both, runs=runs).state == "published"
    assert rows_of(project.published()) == after_harm


@pytest.mark.long
@pytest.mark.fault
def test_a_node_that_dies_with_its_executor_in_mid_stage_costs_no_row(yarn_env: EmbeddedYarn, project, quiet, recovery):
    """A task that died is tried again with a process for each batch (ADR 8): none of these waits, and the run ends by itself."""
    lost: list[tuple[int, float]] = []

    def harm(waiting: list[int]) -> None:
        number = yarn_env.node_of(waiting[0])
        assert number is not None
        lost.append((number, time.monotonic()))
        yarn_env.kill_node(number)

    try:
        with in_mid_batch(project.folder / "marks", harm, PATIENCE_S):
            done = submitted(project)
        assert done.returncode == 0, done.stdout + done.stderr
        recovery("lost_node_until_published", lost[0][1])
        published_once(project, quiet)
    finally:
        for number, _ in lost:
            yarn_env.start_node(number)
        yarn_env.wait_for_nodes(2)


@pytest.mark.long
@pytest.mark.fault
def test_a_resourcemanager_that_restarts_in_mid_run_finds_the_application_running(
    yarn_env: EmbeddedYarn, project, quiet, recovery
):
    attempt: list[int] = []

    def harm(_: list[int]) -> None:
        managers = ResourceManagers(resourcemanager_urls())
        began = time.monotonic()
        yarn_env.kill_resourcemanager()
        yarn_env.start_resourcemanager()
        yarn_env.wait_for_nodes(2)

        def running() -> bool:
            found = managers.find("")
            return found is not None and found.state == "RUNNING"

        wait_for(running, "the application is running again")
        recovery("resourcemanager_restart", began)
        found = managers.find("")
        attempt.append(found.attempt if found else 0)

    with in_mid_batch(project.folder / "marks", harm, PATIENCE_S):
        done = submitted(project, "--deploy-mode", "cluster")
    assert done.returncode == 0, done.stdout + done.stderr
    assert attempt == [1]
    assert "FINISHED SUCCEEDED" in done.stderr
    published_once(project, quiet)


@pytest.mark.long
@pytest.mark.fault
def test_a_driver_that_dies_on_the_cluster_is_followed_by_one_that_goes_on(
    yarn_env: EmbeddedYarn, project, quiet, recovery
):
    def harm(waiting: list[int]) -> None:
        began = time.monotonic()
        assert yarn_env.kill_driver()
        another_waits(project, waiting)
        recovery("lost_driver", began)

    with in_mid_batch(project.folder / "marks", harm, PATIENCE_S):
        done = submitted(project, "--deploy-mode", "cluster")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "driver 2" in done.stderr
    assert [attempt.state for attempt in attempts(project)] == ["died", "published"]
    published_once(project, quiet)
