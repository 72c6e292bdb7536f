"""The MLflow run says what the ledger says: after a fault at any call to MLflow, and after kill -9 at any boundary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from firesteel.conf.errors import RuntimeFault
from firesteel.jobs.tracking.connect import connect
from firesteel.pipelines.plan.model import Plan
from firesteel.pipelines.publish.ledger import Ledger
from firesteel.pipelines.publish.recover import leftovers, recover
from support.fault_proxy import DROP, STATUSES, FaultProxy, fault_proxy
from support.mlflow_server import MlflowServer
from support.mlflow_store import new_store
from support.tracked import EXPERIMENT, killed_at, run, settled, store_of, tracked_plan

pytestmark = pytest.mark.fault

ENDS = {"published": "FINISHED", "cancelled": "KILLED"}
RUN = "20130604T101112-7f3a"


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
        assert parent.data.metrics["rows_in"] == sum(
            record.counts.rows_in for record in records if record.interval in published
        )
    if complete:
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
        run(tracked_plan(f"file://{folder}", proxy.uri), run_id)
    return proxy.calls


FAULTS = [(fault, times) for fault in (DROP, *STATUSES) for times in (1, 4)]


def harm_every_call(server: MlflowServer, proxy: FaultProxy, folder: Path, faults_at) -> Counter[str]:
    """Run a plan for each call, with a fault at that call; then the next command, and the comparison."""
    total = len(calls_of_a_run(proxy, folder / "counted"))
    assert total > 8
    outcomes: Counter[str] = Counter()
    for number in range(total):
        for fault, times in faults_at(number):
            run_id = f"r-{number}-{fault}-{times}"
            plan = tracked_plan(f"file://{folder}/{run_id}", proxy.uri)
            proxy.arm(fault, number, times)
            try:
                state = run(plan, run_id).state
            except RuntimeFault as error:
                assert error.code == "FS9003", error
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


@pytest.mark.long
def test_each_fault_at_every_call(proxy, tmp_path):
    outcomes = harm_every_call(*proxy, tmp_path, lambda number: FAULTS)
    assert outcomes["published"] > outcomes["refused"] > 0


BOUNDARIES = (
    *("opened", "started", "leased", "journaled", "partition_published", "ledgered", "cleaned", "left", "finished"),
    "ended",
)
OTHER_DAY = "2013-06-02"


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
