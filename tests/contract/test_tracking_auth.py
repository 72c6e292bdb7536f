"""What accounts with few permissions can do on a server with MLflow's basic-auth app."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from mlflow.entities import ViewType

from firesteel.conf.check import Check
from firesteel.conf.errors import RuntimeFault
from firesteel.jobs.doctor.machine import machine_checks
from firesteel.jobs.tracking import RunTracker, resolve_model
from firesteel.jobs.tracking.connect import connect
from firesteel.pipelines.plan.model import ModelPlan, Plan
from firesteel.pipelines.result import RunResult
from support.artifact_stores import save_model
from support.mlflow_auth import ADMIN, AuthServer
from support.mlflow_server import old_mlflow
from support.sample_run import published, sample_plan, sample_result

pytestmark = pytest.mark.integration

MODEL = "delay"
BATCH = "/batch/flight_delay"
TRAINING = "training"

ROLES = {
    "scorer": {MODEL: "READ", TRAINING: "READ", BATCH: "EDIT"},
    "stranger": {},
    "without_artifacts": {MODEL: "READ", BATCH: "EDIT"},
    "without_model": {TRAINING: "READ", BATCH: "EDIT"},
    "reader": {MODEL: "READ", TRAINING: "READ", BATCH: "READ"},
}
"""Users and their permissions."""


@dataclass
class Accounts:
    """The server, and the account that MLflow's client uses in this process."""

    server: AuthServer
    patch: pytest.MonkeyPatch

    @property
    def uri(self) -> str:
        return self.server.uri

    def log_in(self, user: str, password: str = "") -> None:
        self.patch.setenv("MLFLOW_TRACKING_USERNAME", user)
        self.patch.setenv("MLFLOW_TRACKING_PASSWORD", password or self.server.password)


@pytest.fixture(scope="module", params=["", pytest.param("2.22", marks=pytest.mark.long)])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AuthServer]:
    python = old_mlflow() if request.param else sys.executable
    folder = tmp_path_factory.mktemp("server")
    with AuthServer(folder, python=python) as server, pytest.MonkeyPatch.context() as patch:
        Accounts(server, patch).log_in(ADMIN)
        client = connect(server.uri)
        experiments = {name: client.create_experiment(name) for name in (TRAINING, BATCH)}
        run = client.create_run(experiments[TRAINING])
        client.log_artifacts(run.info.run_id, str(save_model(tmp_path_factory.mktemp("model") / "model")), "model")
        client.create_registered_model(MODEL)
        client.create_model_version(MODEL, f"{run.info.artifact_uri}/model", run.info.run_id)
        client.set_registered_model_alias(MODEL, "champion", "1")
        for user, permissions in ROLES.items():
            server.create_user(user)
            for name, permission in permissions.items():
                resource = ("experiment", experiments[name]) if name in experiments else ("registered_model", name)
                server.grant(user, *resource, permission)
        yield server


@pytest.fixture
def accounts(server: AuthServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Accounts:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Accounts(server, monkeypatch)


def resolve(uri: str) -> ModelPlan:
    options = {"method": "predict_proba", "trust_formats": ("skops",), "max_size": None}
    return resolve_model("delay", f"models:/{MODEL}@champion", tracking_uri=uri, **options).plan


def plan_of(uri: str, *models: ModelPlan) -> Plan:
    return replace(sample_plan(1, tracking_uri=uri), models=models)


def record(plan: Plan, run_id: str) -> tuple[RunResult, RunTracker]:
    with RunTracker.open(plan, run_id) as tracker:
        tracker.interval_started(plan.intervals[0].id)
        interval = published(plan, 1)
        tracker.interval_finished(interval)
        return tracker.finish(sample_result(plan, (interval,), run_id=run_id)), tracker


@pytest.mark.parametrize("user", [ADMIN, "scorer"])
def test_an_account_with_the_permissions_of_the_documentation_records_a_run(accounts: Accounts, user: str) -> None:
    accounts.log_in(user)
    result, tracker = record(plan_of(accounts.uri, resolve(accounts.uri)), f"run-of-{user}")
    assert tracker.problems == []
    accounts.log_in(ADMIN)
    client = connect(accounts.uri)
    runs = client.search_runs(
        [client.get_experiment_by_name(BATCH).experiment_id], f"tags.`firesteel.run_id` = 'run-of-{user}'"
    )
    assert [run.info.status for run in runs] == ["FINISHED", "FINISHED"]
    names = {artifact.path for artifact in client.list_artifacts(result.mlflow_run_id)}
    assert names == {"plan.json", "spec.yaml", "result.json"}


@pytest.mark.parametrize(
    ("user", "needs"),
    [
        ("stranger", f"READ on the registered model {MODEL}"),
        ("without_model", f"READ on the registered model {MODEL}"),
        ("without_artifacts", "READ on the experiment that has the artifacts mlflow-artifacts:/"),
    ],
)
def test_a_plan_names_the_permission_that_is_missing(accounts: Accounts, user: str, needs: str) -> None:
    accounts.log_in(user)
    with pytest.raises(RuntimeFault) as caught:
        resolve(accounts.uri)
    assert caught.value.code == "FS9035"
    assert f"Grant the user {user} {needs}" in caught.value.hint


SPEC = f"""
spec_version: 1
name: flight_delay_scores
storage: {{root}}/_firesteel
interval: {{{{column: dt, unit: day, begin: 2024-01-01}}}}
sources:
  points:
    path: {{root}}/points
    partitions: {{{{dt: date}}}}
    select: {{{{dt: "${{{{interval.ds}}}}"}}}}
    contract: {{{{columns: {{{{id: bigint, a: double}}}}}}}}
models:
  delay: {{{{uri: "models:/{MODEL}@champion", method: predict_proba, trust: {{{{formats: [skops]}}}}}}}}
steps:
  scored:
    score: {{{{input: points, model: delay, features: signature, keep: [id, dt], output: {{{{p: double}}}}}}}}
sinks:
  scores: {{{{from: scored, path: "{{root}}/scores", partition_by: [dt]}}}}
tracking: {{{{mlflow: {{{{uri: "{{uri}}", experiment: "{{experiment}}"}}}}}}}}
"""
MLFLOW = ("mlflow", "model", "experiment", "artifacts")


def doctor(accounts: Accounts, folder: Path, experiment: str = BATCH) -> dict[str, Check]:
    spec = folder / "pipeline.yaml"
    spec.write_text(SPEC.format(root=f"file://{folder}", uri=accounts.uri, experiment=experiment))
    return {check.subject: check for check in machine_checks(spec, "", {}) if check.subject in MLFLOW}


def contents(accounts: Accounts) -> list[object]:
    """Return the experiments, runs and artifacts of the server."""
    accounts.log_in(ADMIN)
    client = connect(accounts.uri)
    experiments = client.search_experiments(view_type=ViewType.ALL)
    runs = client.search_runs([experiment.experiment_id for experiment in experiments], run_view_type=ViewType.ALL)
    found: list[object] = sorted(experiment.name for experiment in experiments)
    return [*found, *sorted(run.info.run_id for run in runs), sorted(accounts.server.artifacts.rglob("*"))]


@pytest.mark.parametrize("user", [ADMIN, "scorer"])
def test_doctor_finds_the_permissions_of_a_run_and_leaves_nothing(
    accounts: Accounts, tmp_path: Path, user: str
) -> None:
    before = contents(accounts)
    accounts.log_in(user)
    assert {name: check.state for name, check in doctor(accounts, tmp_path).items()} == dict.fromkeys(MLFLOW, "ok")
    new = doctor(accounts, tmp_path, "new")
    assert new["experiment"].found == "new does not exist yet; the first run creates it"
    assert new["experiment"].state == "ok"
    assert contents(accounts) == before


@pytest.mark.parametrize(
    ("user", "subject", "needs"),
    [
        ("stranger", "model", f"READ on the registered model {MODEL}"),
        ("stranger", "experiment", f"EDIT on the experiment {BATCH}"),
        ("without_model", "model", f"READ on the registered model {MODEL}"),
        ("without_artifacts", "model", "READ on the experiment that has the artifacts"),
        ("reader", "experiment", f"EDIT on the experiment {BATCH}"),
    ],
)
def test_doctor_names_the_permission_that_is_missing(
    accounts: Accounts, tmp_path: Path, user: str, subject: str, needs: str
) -> None:
    accounts.log_in(user)
    check = doctor(accounts, tmp_path)[subject]
    assert check.state == "fail"
    assert f"Grant the user {user} {needs}" in check.advice


def test_doctor_names_a_wrong_password(accounts: Accounts, tmp_path: Path) -> None:
    accounts.log_in("scorer", "wrong")
    (check,) = doctor(accounts, tmp_path).values()
    assert check.state == "fail"
    assert "The server rejects the user scorer" in check.advice


@pytest.mark.parametrize("user", ["stranger", "reader"])
def test_a_run_names_the_permission_that_is_missing(accounts: Accounts, user: str) -> None:
    accounts.log_in(user)
    with pytest.raises(RuntimeFault) as caught:
        RunTracker.open(plan_of(accounts.uri), f"run-of-{user}")
    assert caught.value.code == "FS9035"
    assert f"Grant the user {user} EDIT on the experiment {BATCH}" in caught.value.hint


def test_a_wrong_password_is_rejected_with_the_name_of_the_user(accounts: Accounts) -> None:
    accounts.log_in("scorer", "wrong")
    for call in (lambda: resolve(accounts.uri), lambda: RunTracker.open(plan_of(accounts.uri), "run-wrong")):
        with pytest.raises(RuntimeFault) as caught:
            call()
        assert caught.value.code == "FS9034"
        assert "The server rejects the user scorer" in caught.value.hint
        assert "MLFLOW_TRACKING_PASSWORD" in caught.value.hint
        assert "wrong" not in str(caught.value)
