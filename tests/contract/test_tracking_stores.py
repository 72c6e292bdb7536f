"""One suite over the artifact stores of MLflow: what a run stores there, and what is left of a run whose store dies."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from firesteel.conf.errors import RuntimeFault
from firesteel.jobs.doctor.tracking import experiment_checks
from firesteel.jobs.tracking import RunTracker, fetch_pinned, resolve_model, spool
from firesteel.jobs.tracking.connect import connect
from firesteel.pipelines.plan.model import Plan
from firesteel.pipelines.publish.state_store import StateStore
from firesteel.pipelines.result import RunResult
from support.artifact_stores import (
    BUCKET,
    STORES,
    Store,
    count_downloads,
    forget_s3_clients,
    proxied_store,
    s3_server,
    save_model,
)
from support.mlflow_server import MlflowServer, old_mlflow
from support.mlflow_store import new_store
from support.sample_run import published, sample_plan, sample_result

pytestmark = pytest.mark.integration
REPORT = "<html>report</html>"


@pytest.fixture(params=[*STORES, pytest.param("old server", marks=pytest.mark.long)])
def store(request, tmp_path, monkeypatch) -> Iterator[Store]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    stores = STORES | {"old server": partial(proxied_store, server="old_server")}
    with stores[request.param](request, tmp_path, monkeypatch) as started:
        client = connect(started.uri)
        if client.get_experiment_by_name("/batch/flight_delay") is None:
            client.create_experiment("/batch/flight_delay", artifact_location=started.root or None)
        yield started


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[tuple[str, Path]]:
    folder = tmp_path_factory.mktemp("server")
    (folder / "artifacts").mkdir()
    with MlflowServer(folder) as started:
        yield started.uri, folder / "artifacts"


@pytest.fixture(scope="module")
def old_server(tmp_path_factory) -> Iterator[tuple[str, Path]]:
    folder = tmp_path_factory.mktemp("old_server")
    (folder / "artifacts").mkdir()
    with MlflowServer(folder, python=old_mlflow()) as started:
        yield started.uri, folder / "artifacts"


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory) -> Path:
    return save_model(tmp_path_factory.mktemp("model") / "model")


def plan_of(store: Store) -> Plan:
    return replace(sample_plan(1, tracking_uri=store.uri), models=())


def states(tmp_path: Path, plan: Plan) -> StateStore:
    return StateStore.at(f"file://{tmp_path}/state", plan.pipeline, plan.profile)


def record(plan: Plan, tmp_path: Path, at_work: Callable[[], None] = lambda: None) -> tuple[RunResult, RunTracker]:
    """Record a published run as the runner does. `at_work` is called while its interval is scored."""
    report = tmp_path / "report.html"
    report.write_text(REPORT)
    with RunTracker.open(plan, f"run-{secrets.token_hex(3)}") as tracker:
        tracker.interval_started(plan.intervals[0].id)
        tracker.in_background(at_work).result()
        interval = published(plan, 1)
        tracker.interval_finished(interval)
        result = sample_result(plan, (interval,), run_id=tracker._firesteel_run_id, report=str(report))
        result = tracker.finish(result, report)
        if tracker.problems:
            spool.keep(states(tmp_path, plan), plan, result, tracker.problems)
    return result, tracker


def check_artifacts(store: Store, plan: Plan, result: RunResult, folder: Path) -> None:
    """Read what the run stored with MLflow's own client."""
    import mlflow

    client = mlflow.MlflowClient(store.uri, store.uri)
    names = {"plan.json", "spec.yaml", "result.json", "report.html"}
    assert {artifact.path for artifact in client.list_artifacts(result.mlflow_run_id)} == names
    texts = {
        name: Path(client.download_artifacts(result.mlflow_run_id, name, str(folder))).read_text() for name in names
    }
    assert texts["plan.json"] == plan.to_json()
    assert texts["spec.yaml"] == plan.spec_text
    assert texts["report.html"] == REPORT
    assert json.loads(texts["result.json"])["run_id"] == result.run_id


def status(store: Store, plan: Plan, result: RunResult) -> set[str]:
    """Return the states of the run and its child run."""
    client = connect(store.uri)
    experiment = client.get_experiment_by_name(plan.tracking.experiment)
    found = client.search_runs([experiment.experiment_id], f"tags.`firesteel.run_id` = '{result.run_id}'")
    assert len(found) == 2
    assert {"firesteel.published" in run.data.tags for run in found} == {True}
    return {run.info.status for run in found}


def test_models_and_records_are_what_mlflow_reads(store, model_folder, tmp_path, monkeypatch):
    downloads = count_downloads(monkeypatch)
    client = connect(store.uri)
    experiment = client.get_experiment_by_name("/batch/flight_delay")
    run = client.create_run(experiment.experiment_id)
    client.log_artifacts(run.info.run_id, str(model_folder), "model")
    client.create_registered_model("delay")
    client.create_model_version("delay", f"{run.info.artifact_uri}/model", run.info.run_id)
    options = {"method": "predict_proba", "trust_formats": ("skops",), "max_size": None}
    model, again = (resolve_model("delay", "models:/delay/1", tracking_uri=store.uri, **options).plan for _ in "12")
    local = resolve_model("delay", str(model_folder), tracking_uri="", **options).plan
    assert again == model
    assert len(downloads) == (0 if store.root.startswith("file:") else 1)
    assert model.digest == local.digest
    assert (fetch_pinned(model, store.uri) / "MLmodel").is_file()

    plan = replace(plan_of(store), models=(model,))
    result, tracker = record(plan, tmp_path)
    assert tracker.problems == []
    assert status(store, plan, result) == {"FINISHED"}
    check_artifacts(store, plan, result, tmp_path)


def test_a_published_run_whose_store_dies_is_finished_and_its_record_is_kept_and_delivered(store, tmp_path, caplog):
    plan = plan_of(store)
    result, tracker = record(plan, tmp_path, at_work=store.die)
    (problem,) = tracker.problems
    assert "FS9003" in problem
    assert "storing the result" in problem
    assert status(store, plan, result) == {"FINISHED"}
    assert spool.deliver(states(tmp_path, plan), plan.tracking.uri) == (), (
        "the store is still dead, and the record stays"
    )
    assert status(store, plan, result) == {"FINISHED"}
    assert "the MLflow record is stored in" in caplog.text

    store.revive()
    assert spool.deliver(states(tmp_path, plan), plan.tracking.uri) == (result.run_id,)
    assert spool.deliver(states(tmp_path, plan), plan.tracking.uri) == ()
    assert status(store, plan, result) == {"FINISHED"}
    check_artifacts(store, plan, result, tmp_path)


def test_a_store_that_is_dead_at_the_start_stops_no_run(store, tmp_path):
    store.die()
    plan = plan_of(store)
    assert plan.tracking.required
    result, tracker = record(plan, tmp_path)
    (problem,) = tracker.problems
    assert "storing the plan" in problem, "one try for each run: a store may need minutes to fail"
    assert status(store, plan, result) == {"FINISHED"}
    store.revive()
    assert spool.deliver(states(tmp_path, plan), plan.tracking.uri) == (result.run_id,)
    check_artifacts(store, plan, result, tmp_path)


def test_doctor_writes_to_a_store_and_leaves_nothing(store):
    client = connect(store.uri)
    experiment = client.get_experiment_by_name("/batch/flight_delay")
    repository = get_artifact_repository(experiment.artifact_location, tracking_uri=store.uri)

    def contents() -> tuple[list[str], int]:
        files = [artifact.path for artifact in repository.list_artifacts()]
        return files, len(client.search_runs([experiment.experiment_id]))

    before = contents()
    runs, artifacts = experiment_checks(client, "/batch/flight_delay")
    assert (runs.state, artifacts.state) == ("ok", "ok")
    assert contents() == before
    store.die()
    runs, artifacts = experiment_checks(client, "/batch/flight_delay")
    listed = store.root == ""  # a server does not tell whether its own store can be written to
    assert (runs.state, artifacts.state) == ("ok", "ok" if listed else "fail")


def _without_credentials(monkeypatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    forget_s3_clients(monkeypatch)


def _without_bucket(monkeypatch) -> None:
    pass


def _without_library(*packages: str):
    def hide(monkeypatch) -> None:
        for package in packages:
            monkeypatch.setitem(sys.modules, package, None)

    return hide


@pytest.mark.parametrize(
    ("root", "harm", "says", "extra"),
    [
        (f"s3://{BUCKET}/x", _without_credentials, "Unable to locate credentials", ""),
        ("s3://no-such-bucket/x", _without_bucket, "NoSuchBucket", ""),
        (f"s3://{BUCKET}/x", _without_library("boto3"), "boto3", "firesteel[s3]"),
        ("gs://bucket/x", _without_library("google.cloud", "google.cloud.storage"), "google.cloud", "firesteel[gcs]"),
        (
            "wasbs://container@account.blob.core.windows.net/x",
            _without_library("azure", "azure.storage", "azure.storage.blob"),
            "azure",
            "firesteel[azure]",
        ),
        ("ftp://127.0.0.1:1/x", _without_bucket, "refused", ""),
        ("nosuch://bucket/x", _without_bucket, "nosuch", ""),
    ],
)
def test_any_error_of_any_store_is_a_problem_with_a_cause(tmp_path, monkeypatch, root, harm, says, extra):
    """Each store has exceptions of its own: botocore's, ImportError, ftplib's, MLflow's."""
    with s3_server(monkeypatch):
        uri = new_store(tmp_path / "mlflow.db")
        connect(uri).create_experiment("/batch/flight_delay", artifact_location=root)
        harm(monkeypatch)
        store = Store(uri, root, lambda: None, lambda: None)
        plan = plan_of(store)
        result, tracker = record(plan, tmp_path)
        (problem,) = tracker.problems
        assert "FS9003" in problem
        assert says in problem
        assert extra in problem
        assert status(store, plan, result) == {"FINISHED"}
        assert len(list(states(tmp_path, plan).storage.walk(f"{tmp_path}/state/tracking"))) == 1


def test_a_model_whose_store_has_no_library_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    uri = new_store(tmp_path / "mlflow.db")
    client = connect(uri)
    client.create_registered_model("delay")
    client.create_model_version("delay", f"s3://{BUCKET}/model")
    _without_library("boto3")(monkeypatch)
    with pytest.raises(RuntimeFault, match="FS9003") as caught:
        resolve_model(
            "delay", "models:/delay/1", method="predict", trust_formats=("skops",), max_size=None, tracking_uri=uri
        )
    assert "firesteel[s3]" in caught.value.hint


READ = """
import sys
from mlflow.artifacts import load_text, list_artifacts
print([file.path.partition("/")[2] for file in list_artifacts(sys.argv[1])], load_text(sys.argv[1] + "/folder/note.txt"))
"""


def test_mlflow_reads_hdfs_by_the_entry_point_of_an_installed_firesteel(hdfs_env, tmp_path):
    import tomllib

    from firesteel.jobs.tracking.hdfs_artifacts import HdfsArtifacts

    root = f"{hdfs_env.uri}/stores/{secrets.token_hex(4)}"
    (tmp_path / "local" / "deep").mkdir(parents=True)
    (tmp_path / "local" / "note.txt").write_text("höher")
    (tmp_path / "local" / "deep" / "a b%20c").write_bytes(b"")
    artifacts = HdfsArtifacts(root)
    artifacts.log_artifacts(str(tmp_path / "local"), "folder")
    artifacts.log_artifact(str(tmp_path / "local" / "note.txt"))
    artifacts.log_artifact(str(tmp_path / "local" / "note.txt"))
    listed = {(file.path, file.is_dir, file.file_size) for file in artifacts.list_artifacts("folder")}
    assert listed == {("folder/deep", True, None), ("folder/note.txt", False, 6)}
    assert artifacts.list_artifacts("note.txt") == artifacts.list_artifacts("none") == []
    back = Path(artifacts.download_artifacts("folder", str(tmp_path)))
    assert (back / "deep" / "a b%20c").read_bytes() == b""
    assert (back / "note.txt").read_text() == "höher"

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    entry = project["entry-points"]["mlflow.artifact_repository"]["hdfs"]
    metadata = tmp_path / "site" / "firesteel_entry-1.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: firesteel-entry\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text(f"[mlflow.artifact_repository]\nhdfs = {entry}\n")
    path = os.pathsep.join([str(metadata.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    read = subprocess.run(  # noqa: PLW1510 - not a fork, which has imported MLflow already
        [sys.executable, "-c", READ, root], env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True
    )
    assert read.returncode == 0, read.stderr
    assert read.stdout.strip() == "['folder', 'note.txt'] höher"
    artifacts.delete_artifacts("folder")
    assert [file.path for file in artifacts.list_artifacts()] == ["note.txt"]
    artifacts.delete_artifacts()
    assert artifacts.list_artifacts() == []
