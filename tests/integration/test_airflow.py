"""The operator in a real Airflow 3: scheduler, DAG processor, triggerer and API server, on SQLite, in an environment of their own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from firesteel.conf.errors import InputNotReady
from firesteel.jobs.tracking.connect import connect
from firesteel.pipelines.publish.heartbeat import runs
from firesteel.pipelines.publish.lease import read_states
from firesteel.pipelines.publish.ledger import Ledger
from firesteel.pipelines.publish.state_store import SinkInterval
from support.airflow_home import HERE, ROOT, AirflowHome, airflow_environment, with_provider
from support.documents import blocks, documents
from support.held import holding
from support.runs import firesteel
from support.scoring_project import DAY, ScoringProject, rows_of
from support.waiting import wait_for as wait_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

CASES = ("deferred", "killed", "ended", "not_ready", "two_days")
DONE = {"success", "failed", "skipped", "upstream_failed"}
NO_SUCH_SCORE = """
gates:
  output_ok:
    on: sink:scores
    expect: [{type: expect_column_values_to_be_between, column: p, min_value: 2}]
"""
PATIENCE_S = 300.0


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Every half second: a look through the API costs the API server as much as a task does."""
    wait_until(condition, what, PATIENCE_S, every_s=0.5)


@pytest.fixture(scope="module")
def specs(tmp_path_factory) -> Path:
    """A small project for each case, with data and a model of its own."""
    folder = tmp_path_factory.mktemp("specs")
    database = folder / "mlflow.db"
    connect(f"sqlite:///{database}")  # made once: MLflow takes seconds to, and two at once harm each other

    def made(name: str, kind: str = "logistic") -> ScoringProject:
        (folder / name).mkdir()
        if kind == "logistic" and name != "plain":
            shutil.copytree(folder / "plain" / "model-logistic", folder / name / "model-logistic")
        shutil.copy(database, folder / name / "mlflow.db")
        return ScoringProject(folder / name, f"file://{folder / name}/data", kind)

    plain = made("plain")
    plain.write_points(rows=30, files=1)
    plain.plan("direct")
    refused = made("refused")
    refused.write_points(rows=30, files=1)
    refused.plan("direct", gates=NO_SUCH_SCORE)
    two_days = made("two_days")
    two_days.write_points(rows=30, files=1)
    two_days.plan("direct")
    points = folder / "two_days" / "data" / "points"
    shutil.copytree(points / f"dt={DAY}", points / "dt=2024-01-02")
    with pytest.raises(InputNotReady):
        made("not_ready").plan("direct")
    for name in ("killed", "ended"):
        held = made(name, "held")
        held.write_points(rows=100, files=1)  # the second batch of a worker is the one that waits
        held.plan("direct")
    return folder


@pytest.fixture(scope="module")
def home(specs, airflow_wheel, tmp_path_factory) -> AirflowHome:
    """An Airflow that is not running yet."""
    folder = tmp_path_factory.mktemp("airflow")
    environment = with_provider(airflow_environment(), airflow_wheel, folder / "environment")
    connection = {"conn_type": "spark", "host": "local[1]", "extra": {"deploy-mode": "client"}}
    more = {"FIRESTEEL_TEST_SPECS": str(specs), "AIRFLOW_CONN_SPARK_SMALL": json.dumps(connection)}
    return AirflowHome.make(environment, folder / "home", HERE / "dags", more)


@pytest.fixture(scope="module")
def airflow(home, specs) -> Iterator[SimpleNamespace]:
    """An Airflow that runs."""
    with home.running():
        wait_for(lambda: set(CASES) <= {each["dag_id"] for each in home.call("GET", "dags")["dags"]}, "the DAGs")
        yield SimpleNamespace(home=home, runs={}, specs=specs)


def begun(airflow, dag: str) -> str:
    """The id of a DAG's run. The next case is begun as well: it gets ready while this one is waited for."""
    at = CASES.index(dag)
    for name in CASES[at : at + 2]:
        if name not in airflow.runs:
            airflow.runs[name] = airflow.home.trigger(name, DAY)
    return airflow.runs[dag]


def ended(airflow, dag: str) -> dict:
    """The tasks of a DAG's run once all have ended."""
    run = begun(airflow, dag)
    wait_for(lambda: all(task["state"] in DONE for task in airflow.home.tasks(dag, run).values()), f"{dag} ends")
    return airflow.home.tasks(dag, run)


def project_of(specs: Path, name: str) -> ScoringProject:
    return ScoringProject(specs / name, f"file://{specs / name}/data")


def published(specs: Path, name: str) -> int:
    return project_of(specs, name).published().num_rows


def session_of(pid: int) -> list[int]:
    """Processes of the session that a driver leads: itself, its JVM, its Python workers."""
    done = subprocess.run(["ps", "-o", "pid=", "-s", str(pid)], capture_output=True, text=True, check=False)
    return [int(word) for word in done.stdout.split()]


def test_airflow_knows_the_provider_and_reads_every_dag_without_our_packages(home):
    """Airflow's environment has no pyspark, MLflow or Great Expectations."""
    code = f"""
import json
from importlib.metadata import distributions
names = {{found.metadata["Name"] for found in distributions()}}
assert "firesteel-airflow" in names and "apache-airflow" in names
assert not names & {{"firesteel", "pyspark", "mlflow", "great-expectations"}}, names
from airflow.providers_manager import ProvidersManager
from airflow.dag_processing.dagbag import DagBag
from airflow.configuration import conf
found = {{}}
for folder in ({str(HERE / "dags")!r}, {str(ROOT / "examples" / "airflow")!r}):
    bag = DagBag(folder)
    found.update({{dag: sorted(bag.dags[dag].task_ids) for dag in bag.dags}})
    assert not bag.import_errors, bag.import_errors
assert "firesteel-airflow" in ProvidersManager().providers
assert conf.get("firesteel", "command").endswith("/firesteel")
print(json.dumps(found))
"""
    done = subprocess.run(
        [str(home.environment / "bin" / "python"), "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env=dict(home.variables),
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["flight_delay_scores"] == ["score"]
    assert found["flight_delay_backfill"][:3] == ["scores_2013.2013-01", "scores_2013.2013-02", "scores_2013.2013-03"]
    assert {"scores_2013.pin", "scores_2013.finish"} < set(found["flight_delay_backfill"])


def test_the_dags_of_the_documents_are_built_in_airflows_environment(home):
    shown = [block for document in documents() for block in blocks(document) if "from airflow.sdk" in block.text]
    assert len(shown) >= 2
    for block in shown:
        words = [str(home.environment / "bin" / "python"), "-c", block.text]
        done = subprocess.run(
            words, env=dict(home.variables), cwd=home.folder, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{block}: {done.stderr}"


def test_data_that_a_gate_refuses_are_not_scored_again(home, specs):
    """By `dag.test()`, as an author tries a DAG; the task has three retries."""
    said = home.airflow("dags", "test", "refused", DAY, code=1)
    assert "a gate failed; nothing was published: FS7001" in said
    assert "DagRun failed" in said
    (record,) = Ledger(project_of(specs, "refused").store).history("scores")
    assert record.state == "failed"
    assert not (specs / "refused" / "data" / "scores").exists()


def test_a_deferred_task_publishes_and_returns_what_the_next_one_finds_done(airflow):
    tasks = ended(airflow, "deferred")
    assert {name: each["state"] for name, each in tasks.items()} == {"score": "success", "again": "success"}
    run = airflow.runs["deferred"]
    log = airflow.home.log("deferred", run, "score")
    assert "deferred" in log.lower()
    assert "PUBLISHED" in log
    first, again = (airflow.home.xcom("deferred", run, name) for name in ("score", "again"))
    assert (first["state"], first["contract"], first["exit_code"], first["error"]) == ("published", 1, 0, "")
    assert first["rows"]["scored"] == published(airflow.specs, "plain") > 0
    assert first["rows"]["in"] == first["rows"]["scored"] + first["rows"]["dead_letter"]
    assert first["intervals"][0]["interval"] == DAY
    assert first["intervals"][0]["partitions_total"] == 2
    assert first["run_id"] == airflow.home.xcom("deferred", run, "score", "firesteel_run_id")
    assert Path(first["report"]).is_file()
    assert first["mlflow_run_id"]
    assert again["state"] == "skipped"
    assert again["intervals"][0]["published_by"] == first["run_id"]
    assert again["intervals"][0]["partitions"] == first["intervals"][0]["partitions"]
    assert len(Ledger(project_of(airflow.specs, "plain").store).history("scores")) == 1


def test_each_published_partition_is_an_event_of_an_asset(airflow):
    ended(airflow, "deferred")
    events = airflow.home.call("GET", "assets/events", params={"limit": 100})["asset_events"]
    found = {event["uri"]: event["extra"] for event in events}
    result = airflow.home.xcom("deferred", airflow.runs["deferred"], "score")
    sink = f"file://{airflow.specs}/plain/data/scores"
    partitions = result["intervals"][0]["partitions"]
    assert {f"{sink}/{partition}" for partition in partitions} < set(found)
    assert found[f"{sink}/{partitions[0]}"]["interval"] == DAY
    assert found["file:///scores"]["partitions"] == partitions


def test_a_retry_after_the_workers_death_waits_for_the_driver_and_publishes_once(airflow):
    marks, run = airflow.specs / "killed" / "marks", begun(airflow, "killed")
    wait_for(lambda: bool(holding(marks)), "the driver is in the middle of a batch")
    first = airflow.home.xcom("killed", run, "score", "firesteel_run_id")
    (state,) = runs(project_of(airflow.specs, "killed").store, first)
    task = _parent(state.started.pid)
    for pid in (_parent(task), task):  # the worker that supervises, and the task
        os.kill(pid, signal.SIGKILL)
    wait_for(
        lambda: "waiting for it" in airflow.home.log("killed", run, "score", 2),
        "the retry has found the driver",
    )
    (marks / "go").touch()
    task = ended(airflow, "killed")["score"]
    assert (task["state"], task["try_number"]) == ("success", 2)
    assert airflow.home.xcom("killed", run, "score")["run_id"] == first
    (record,) = Ledger(project_of(airflow.specs, "killed").store).history("scores")
    assert (record.run_id, record.state) == (first, "published")
    assert published(airflow.specs, "killed") == record.counts.scored
    after_harm = rows_of(project_of(airflow.specs, "killed").published())
    quiet = firesteel("run", "--start", DAY, "--force", folder=airflow.specs / "killed")
    assert quiet.returncode == 0, quiet.stdout + quiet.stderr
    assert rows_of(project_of(airflow.specs, "killed").published()) == after_harm


def test_a_task_that_is_marked_failed_ends_its_driver_and_releases_the_lease(airflow):
    marks, run = airflow.specs / "ended" / "marks", begun(airflow, "ended")
    wait_for(lambda: bool(holding(marks)), "the driver is in the middle of a batch")
    name = airflow.home.xcom("ended", run, "score", "firesteel_run_id")
    found = project_of(airflow.specs, "ended").store
    driver = runs(found, name)[0].started.pid
    assert len(session_of(driver)) >= 2
    airflow.home.call("PATCH", f"dags/ended/dagRuns/{run}/taskInstances/score", json={"new_state": "failed"})
    wait_for(lambda: not session_of(driver), "the driver and all that it started are gone")
    assert all(state.released for state in read_states(SinkInterval(found, "scores", DAY)))
    assert runs(found, name)[0].ended.exit_code == 130
    assert not list(found.storage.walk(f"{found.base}/staging"))
    assert not (airflow.specs / "ended" / "data" / "scores").exists()
    (marks / "go").touch()


@pytest.mark.long
def test_an_input_that_is_late_is_waited_for_by_retries_or_by_rescheduling(airflow):
    run = begun(airflow, "not_ready")
    wait_for(lambda: airflow.home.tasks("not_ready", run)["score"]["try_number"] > 1, "a second try")
    assert "an input is not ready; nothing was read: FS4002" in airflow.home.log("not_ready", run, "score")
    folder = airflow.specs / "not_ready"
    ScoringProject(folder, f"file://{folder}/data").write_points(rows=30, files=1)
    wait_for(lambda: airflow.home.tasks("not_ready", run)["score"]["state"] in DONE, "the input is there")
    tasks = airflow.home.tasks("not_ready", run)
    assert tasks["score"]["state"] == "success"
    assert (tasks["later"]["state"], tasks["later"]["try_number"]) == ("up_for_reschedule", 1)
    assert published(airflow.specs, "not_ready") == airflow.home.xcom("not_ready", run, "score")["rows"]["scored"]


@pytest.mark.long
def test_a_backfill_is_pinned_once_and_scored_part_by_part(airflow):
    tasks = ended(airflow, "two_days")
    assert {name: each["state"] for name, each in tasks.items()} == dict.fromkeys(
        ("scores.pin", "scores.2024-01-01", "scores.2024-01-02", "scores.finish"), "success"
    )
    made = {name: airflow.home.xcom("two_days", airflow.runs["two_days"], name) for name in tasks}
    assert made["scores.pin"]["intervals"][0]["reason"] == "planned: not published yet"
    assert [each["interval"] for each in made["scores.2024-01-02"]["intervals"]] == ["2024-01-02"]
    (state,) = {each["published_by"] for each in made["scores.finish"]["intervals"][1:]}
    assert state == made["scores.2024-01-02"]["run_id"]
    assert made["scores.finish"]["state"] == "skipped"
    found = project_of(airflow.specs, "two_days").store
    assert len(Ledger(found).history("scores")) == 2
    assert not list(found.storage.walk(f"{found.base}/backfill"))


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
