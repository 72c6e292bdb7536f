"""The MLflow run says what the ledger says: after a fault at any call to MLflow, and after kill -9 at any boundary."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow.entities import ViewType

from firesteel.conf.errors import RuntimeFault
from firesteel.jobs.run.plan_runner import run_plan
from firesteel.jobs.tracking import RunTracker, spool
from firesteel.jobs.tracking.connect import connect
from firesteel.jobs.tracking.settle import Settled
from firesteel.pipelines.plan.model import Plan
from firesteel.pipelines.publish.heartbeat import RunHeartbeat
from firesteel.pipelines.publish.ledger import Ledger
from firesteel.pipelines.publish.recover import leftovers, recover
from firesteel.pipelines.result import RunResult
from support.fault_proxy import DROP, LATE, STATUSES, FaultProxy, fault_proxy
from support.mlflow_server import MlflowServer
from support.mlflow_store import new_store
from support.runs import kill_driver_at
from support.scoring_project import ScoringProject
from support.tracked import EXPERIMENT, FAILS, killed_at, run, settled, store_of, tracked_plan
from support.waiting import wait_for

pytestmark = pytest.mark.fault

ENDS = {"published": "FINISHED", "cancelled": "KILLED"}
RUN = "20130604T101112-7f3a"
DAY = "2013-06-01"


def mlflow_runs(uri: str, run_id: str):
    client = connect(uri)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is None:
        return []
    return client.search_runs([experiment.experiment_id], f"tags.`firesteel.run_id` = '{run_id}'")


def assert_says_what_the_ledger_says(plan: Plan, uri: str, run_id: str = RUN, *, started: bool = True) -> None:
    """One parent for the run, one child for each interval, each with the state of the ledger.

    A run that could not start may have no error: MLflow may have rejected that, too.
    """
    found = mlflow_runs(uri, run_id)
    ledger, sink = Ledger(store_of(plan)), plan.sinks[0].name
    records = [record for record in ledger.history(sink) if record.run_id == run_id]
    children = {run.data.tags["firesteel.interval"]: run for run in found if "firesteel.interval" in run.data.tags}
    parents = [run for run in found if "firesteel.interval" not in run.data.tags]
    assert len(found) == len(children) + len(parents)
    for record in records:
        child = children[record.interval]
        assert child.info.status == ENDS.get(record.state, "FAILED")
        if record.state == "published":
            assert child.data.metrics["rows_in"] == record.counts.rows_in
            assert record.partitions[0] in child.data.tags["firesteel.published"]
            assert not child.data.tags.get("firesteel.error")
    for interval in children.keys() - {record.interval for record in records}:
        assert children[interval].info.status == "FAILED"
    if not parents:
        assert not records, "a run without a record in MLflow has published nothing"
        return
    (parent,) = parents
    published = {record.interval for record in records if record.state == "published"}
    complete = published == {interval.id for interval in plan.intervals}
    assert parent.info.status == ("FINISHED" if complete else "FAILED"), parent.data.tags
    assert complete or not started or parent.data.tags["firesteel.error"]
    if published:
        assert "firesteel.published" in parent.data.tags
    if complete:
        assert parent.data.metrics["rows_in"] == sum(record.counts.rows_in for record in records)
        assert not parent.data.tags.get("firesteel.error")


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[MlflowServer, FaultProxy]]:
    with MlflowServer(tmp_path_factory.mktemp("server")) as server, fault_proxy(server.uri) as proxy:
        yield server, proxy


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_JITTER", "0")
    monkeypatch.setattr("firesteel.jobs.tracking.create._PAUSES_S", (0.0, 0.0))


def calls_of_a_run(proxy: FaultProxy, folder: Path) -> list[str]:
    for run_id in ("first", "second"):  # the first run also creates the experiment
        proxy.arm()
        run(tracked_plan(f"file://{folder}", proxy.uri), f"{run_id}-{folder.parent.name}")
    return proxy.calls


FAULTS = [(LATE, 1), *((fault, times) for fault in (DROP, *STATUSES) for times in (1, 4))]


def harm_every_call(server: MlflowServer, proxy: FaultProxy, folder: Path, faults_at) -> Counter[str]:
    """Run a plan for each call, with a fault at that call; then the next command, and the comparison."""
    total = len(calls_of_a_run(proxy, folder / "counted"))
    assert total > 8
    outcomes: Counter[str] = Counter()
    for number in range(total):
        for fault, times in faults_at(number):
            run_id = f"r-{number}-{fault}-{times}-{folder.name}"
            plan = tracked_plan(f"file://{folder}/{run_id}", proxy.uri)
            proxy.arm(fault, number, times)
            try:
                state = run(plan, run_id).state
            except RuntimeFault as error:
                assert error.code in {"FS9003", "FS9034", "FS9035"}, error
                state = "refused"
            outcomes[state] += 1
            assert len(proxy.calls) > number
            proxy.arm()
            settled(plan, limit_s=None)
            assert_says_what_the_ledger_says(plan, server.uri, run_id, started=state != "refused")
    return outcomes


def test_a_fault_at_every_call(proxy, tmp_path):
    outcomes = harm_every_call(*proxy, tmp_path, lambda number: [FAULTS[number % len(FAULTS)]])
    assert outcomes["published"] > outcomes["refused"] > 0


def test_a_request_to_create_a_run_that_arrives_late_makes_no_copy(proxy, tmp_path):
    server, between = proxy
    calls = calls_of_a_run(between, tmp_path / "creates" / "counted")
    creates = [number for number, call in enumerate(calls) if call.endswith("runs/create")]
    assert len(creates) == 2
    assert harm_every_call(*proxy, tmp_path, lambda number: [(LATE, 1)] if number in creates else []) == {
        "published": 2
    }
    client = connect(server.uri)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    copies = client.search_runs([experiment.experiment_id], run_view_type=ViewType.DELETED_ONLY)
    assert {copy.data.tags.get("firesteel.interval") for copy in copies} >= {None, DAY}


@pytest.mark.long
def test_each_fault_at_every_call(proxy, tmp_path):
    outcomes = harm_every_call(*proxy, tmp_path, lambda number: FAULTS)
    assert outcomes["published"] > outcomes["refused"] > 0


BOUNDARIES = (
    *("opened", "started", "leased", "journaled", "partition_published", "ledgered", "cleaned", "left", "finished"),
    "ended",
)


def next_commands(root: str, uri: str) -> dict[str, object]:
    """Return each kind of command that may follow: a skip, `recover`, a run of the same day, and a run of another day."""
    plan = tracked_plan(root, uri)
    two = tracked_plan(root, uri, 2)
    store, sink = store_of(plan), plan.sinks[0]

    def recover_all() -> None:
        for interval in leftovers(store, sink.name):
            recover(store, sink.name, sink.path, interval)
        settled(plan, limit_s=None)

    def again() -> None:
        run(plan, "again")
        settled(plan)  # as `run_plan` does when it has completed the publish of a dead run

    return {
        "skip": lambda: settled(plan),
        "recover": recover_all,
        "same day": again,
        "another day": lambda: run(replace(two, intervals=two.intervals[1:]), "other"),
    }


COMMANDS = ("skip", "recover", "same day", "another day")


@pytest.mark.parametrize(
    ("boundary", "command"),
    [
        pytest.param(
            boundary, command, marks=[] if number % len(COMMANDS) == place % len(COMMANDS) else pytest.mark.long
        )
        for place, boundary in enumerate(BOUNDARIES)
        for number, command in enumerate(COMMANDS)
    ],
)
def test_kill_at_a_boundary_then_the_next_command(tmp_path, boundary, command):
    root = f"file://{tmp_path}/data"
    uri = new_store(tmp_path / "mlflow.db")
    killed_at(root, uri, RUN, boundary)
    plan = tracked_plan(root, uri)
    assert "RUNNING" in {found.info.status for found in mlflow_runs(uri, RUN)} or boundary == "ended"
    commands = next_commands(root, uri)
    commands[command]()
    undecided = {"journaled", "partition_published"} & {boundary}
    if undecided and Ledger(store_of(plan)).latest("scores", plan.intervals[0].id) is None:
        # The ledger does not say yet what the run has published.
        assert {found.info.status for found in mlflow_runs(uri, RUN)} == {"RUNNING"}
        commands["recover"]()
    assert_says_what_the_ledger_says(plan, uri)
    records = [record for record in Ledger(store_of(plan)).history("scores") if record.run_id == RUN]
    decided = BOUNDARIES.index(boundary) >= BOUNDARIES.index("journaled")
    assert any(record.state == "published" for record in records) == decided


OTHER_HOST = "worker-7 00000000-0000-0000-0000-000000000000 pid:[1]"


def started(
    plan: Plan, run_id: str, monkeypatch: pytest.MonkeyPatch, ttl_s: float = 60.0, *, beats: bool = True
) -> str:
    """Start a run on another host, whose driver dies without a word. Return MLflow's ID."""
    with monkeypatch.context() as patch:
        for module in ("jobs.tracking.driver", "pipelines.publish.heartbeat"):
            patch.setattr(f"firesteel.{module}.machine_id", lambda: OTHER_HOST)
        heartbeat = RunHeartbeat(store_of(plan), run_id, ttl_s=ttl_s)
        if beats:
            heartbeat.__enter__()
        tracker = RunTracker.open(plan, run_id)
        for interval in plan.intervals:
            tracker.interval_started(interval.id)
        tracker.in_background(int).result()
        heartbeat.close()
    return tracker.run_id


def status_of(uri: str, mlflow_run_id: str) -> str:
    return connect(uri).get_run(mlflow_run_id).info.status


def test_a_driver_of_another_host_is_judged_by_its_heartbeat(tmp_path, monkeypatch):
    uri = new_store(tmp_path / "mlflow.db")
    plan = tracked_plan(f"file://{tmp_path}/data", uri)
    alive = started(plan, "alive", monkeypatch)
    foreign = started(plan, "of-another-storage", monkeypatch, beats=False)
    dead = started(plan, "dead", monkeypatch, ttl_s=0.01)
    wait_for(lambda: settled(plan).ended == ("dead",), "the heartbeat has expired")
    assert_says_what_the_ledger_says(plan, uri, "dead")
    assert [status_of(uri, run_id) for run_id in (alive, foreign, dead)] == ["RUNNING", "RUNNING", "FAILED"]
    month = 31 * 86_400
    monkeypatch.setattr("firesteel.jobs.tracking.driver.time.time", lambda: time_of(foreign, uri) + month)
    assert settled(plan).ended == ("of-another-storage",)


def time_of(mlflow_run_id: str, uri: str) -> float:
    return connect(uri).get_run(mlflow_run_id).info.start_time / 1000


def test_more_running_runs_than_a_page_holds(tmp_path, monkeypatch):
    monkeypatch.setattr("firesteel.jobs.tracking.create._PAGE", 3)
    uri = new_store(tmp_path / "mlflow.db")
    plan = tracked_plan(f"file://{tmp_path}/data", uri)
    names = {f"dead-{number}" for number in range(5)}
    runs = [started(plan, name, monkeypatch, ttl_s=0.01) for name in sorted(names)]
    ended: set[str] = set()

    def all_ended() -> bool:
        ended.update(settled(plan).ended)
        return ended == names

    wait_for(all_ended, "all runs are ended")
    assert {status_of(uri, run_id) for run_id in runs} == {"FAILED"}


def test_a_run_with_a_failed_interval_and_a_published_one_is_failed_with_the_reason(tmp_path):
    root, uri = f"file://{tmp_path}/data", new_store(tmp_path / "mlflow.db")
    killed_at(root, uri, RUN, "left-3", days=3)
    plan = tracked_plan(root, uri, 3)
    settled(plan)
    assert_says_what_the_ledger_says(plan, uri)
    (parent,) = [run for run in mlflow_runs(uri, RUN) if "firesteel.interval" not in run.data.tags]
    assert parent.data.tags["firesteel.error"] == "FS7001 the gate failed (2 of 3 intervals published)"
    assert [record.state for record in Ledger(store_of(plan)).history("scores", FAILS)] == ["failed"]


@pytest.mark.parametrize(("boundary", "error"), [("left", KeyboardInterrupt), ("finished", ValueError)])
def test_an_error_after_the_publish_leaves_the_run_as_the_ledger_says(tmp_path, boundary, error):
    uri = new_store(tmp_path / "mlflow.db")
    plan = tracked_plan(f"file://{tmp_path}/data", uri)

    def harm(event) -> None:
        if event.kind == boundary:
            raise error("stopped")

    with pytest.raises(error):
        run(plan, RUN, harm)
    (parent,) = [found for found in mlflow_runs(uri, RUN) if "firesteel.interval" not in found.data.tags]
    assert parent.data.tags["firesteel.error"] == "stopped"
    assert {found.info.status for found in mlflow_runs(uri, RUN)} == {"FINISHED"}


def test_a_copy_that_a_late_request_created_is_deleted(tmp_path):
    uri = new_store(tmp_path / "mlflow.db")
    plan = tracked_plan(f"file://{tmp_path}/data", uri)
    run(plan, RUN)
    client = connect(uri)
    for found in mlflow_runs(uri, RUN):
        client.create_run(found.info.experiment_id, tags=found.data.tags)
    assert len(mlflow_runs(uri, RUN)) == 4
    settled(plan)
    assert len(mlflow_runs(uri, RUN)) == 2
    assert_says_what_the_ledger_says(plan, uri)


def kept_record(plan: Plan, run_id: str) -> dict[str, object]:
    store = store_of(plan)
    return json.loads(store.storage.read(f"{store.base}/tracking/{plan.profile}/{run_id}.json"))


def test_a_record_that_mlflow_rejects_blocks_no_other_and_waits(tmp_path, caplog):
    uri = new_store(tmp_path / "mlflow.db")
    plan = tracked_plan(f"file://{tmp_path}/data", uri)
    deleted = replace(plan, tracking=replace(plan.tracking, experiment="deleted"))
    client = connect(uri)
    client.delete_experiment(client.create_experiment("deleted"))
    result = run(plan, "a-first")
    spool.keep(store_of(plan), deleted, replace(result, run_id="b-rejected"), ["lost"])
    spool.keep(store_of(plan), plan, replace(result, run_id="c-accepted"), ["lost"])
    assert settled(plan).delivered == ("c-accepted",)
    record = kept_record(plan, "b-rejected")
    assert (record["attempts"], record["problems"]) == (1, [record["problems"][0]])
    assert "the MLflow experiment deleted is deleted" in record["problems"][0]
    assert record["problems"][0] in caplog.text
    assert settled(plan).delivered == ()
    assert kept_record(plan, "b-rejected")["attempts"] == 1, "a run waits before it sends a rejected record again"
    settled(plan, limit_s=None)
    assert kept_record(plan, "b-rejected")["attempts"] == 2, "`recover` does not wait"
    client.restore_experiment(client.get_experiment_by_name("deleted").experiment_id)
    assert settled(plan, limit_s=None).delivered == ("b-rejected",)


def test_without_mlflow_there_is_one_probe_and_one_warning(tmp_path, caplog):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        plan = tracked_plan(f"file://{tmp_path}/data", f"http://127.0.0.1:{listening.getsockname()[1]}")
    probes: list[object] = []
    for run_id in ("one", "two"):
        spool.keep(
            store_of(plan), plan, RunResult(run_id, plan.pipeline, plan.profile, "skipped", (), "", 0.0), ["lost"]
        )
    caplog.clear()
    with pytest.MonkeyPatch.context() as patch:
        connected = socket.create_connection
        patch.setattr(socket, "create_connection", lambda *words: probes.append(words) or connected(*words))
        assert settled(plan) == Settled()
    assert len(probes) == len(caplog.records) == 1
    assert "cannot connect" in caplog.text
    missing = tracked_plan(f"file://{tmp_path}/data", f"sqlite:///{tmp_path}/none/mlflow.db")
    assert settled(missing) == Settled()
    assert not (tmp_path / "none").exists()


def test_scoring_waits_for_few_calls_to_mlflow(proxy, tmp_path):
    """Two days cost 50 serial calls before they were batched."""
    _, between = proxy
    plan = tracked_plan(f"file://{tmp_path}", between.uri, 2)
    run(plan, "waits-1")  # creates the experiment
    between.arm()
    waited: list[int] = []
    run(plan, "waits-2", lambda event: waited.append(len(between.calls)) if event.kind == "opened" else None)
    assert waited[0] <= 8
    assert len(between.calls) <= 30


def test_a_server_that_does_not_answer_is_asked_once(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("firesteel.jobs.tracking.settle.ANSWER_S", 1)
    with socket.create_server(("127.0.0.1", 0)) as listening:  # the kernel accepts, and nobody answers
        plan = tracked_plan(f"file://{tmp_path}/data", f"http://127.0.0.1:{listening.getsockname()[1]}")
        assert settled(plan) == Settled()
        listening.setblocking(False)
        connections = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                listening.accept()[0].close()
                connections += 1
    assert connections == 2, "a probe and a request"
    assert "could not be updated" in caplog.text


def test_an_interrupted_run_does_not_wait_for_all_calls_to_a_slow_server(tmp_path, monkeypatch):
    monkeypatch.setattr("firesteel.jobs.tracking.runs._ERROR_WAIT_S", 0.05)
    uri = new_store(tmp_path / "mlflow.db")
    plan = tracked_plan(f"file://{tmp_path}/data", uri)
    answers, called = threading.Event(), []

    def answer_when_the_rest_is_discarded() -> None:
        wait_for(last.cancelled, "the calls that have not started are discarded")
        answers.set()

    with pytest.raises(KeyboardInterrupt), RunTracker.open(plan, RUN) as tracker:
        tracker.in_background(answers.wait)
        for number in range(50):
            last = tracker.in_background(lambda number=number: called.append(number))
        server = threading.Thread(target=answer_when_the_rest_is_discarded)
        server.start()
        raise KeyboardInterrupt
    server.join()
    assert called == []
    assert [found.info.status for found in mlflow_runs(uri, RUN)] == ["KILLED"]


@pytest.mark.integration
@pytest.mark.parametrize("boundary", ["ledgered", pytest.param("journaled", marks=pytest.mark.long)])
def test_a_killed_driver_with_spark_then_the_next_run(spark, tmp_path, runs, boundary):
    project = ScoringProject(tmp_path, f"file://{tmp_path}/data")
    project.write_points(rows=60)
    plan_file = tmp_path / "plan.json"
    plan_file.write_text(project.plan("direct").to_json(), encoding="utf-8")
    killed = kill_driver_at(plan_file, boundary)
    assert killed.returncode == -9, killed.stderr
    plan = project.plan("direct")
    client = connect(plan.tracking.uri)
    (experiment,) = client.search_experiments(filter_string="name = 'firesteel/points'")
    before = client.search_runs([experiment.experiment_id])
    assert {run.info.status for run in before} == {"RUNNING"}
    assert run_plan(plan, spark=spark, runs=runs).state == "skipped", "if need be after it has completed the publish"
    (parent,) = [run for run in before if "firesteel.interval" not in run.data.tags]
    after = client.search_runs(
        [experiment.experiment_id], f"tags.`firesteel.run_id` = '{parent.data.tags['firesteel.run_id']}'"
    )
    assert [run.info.status for run in after] == ["FINISHED", "FINISHED"]
    record = Ledger(project.store).history("scores", project.plan("direct").intervals[0].id)[-1]
    assert {run.data.metrics["rows_in"] for run in after} == {record.counts.rows_in}
