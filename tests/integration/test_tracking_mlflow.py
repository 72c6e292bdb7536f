"""Models and runs in real MLflow stores: SQLite, and a tracking server."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from firesteel.conf.errors import ModelError, PlanDrift, RuntimeFault, Where
from firesteel.jobs.tracking import RunTracker, fetch_pinned, resolve_model, retries, settle_runs
from firesteel.jobs.tracking.connect import connect
from firesteel.pipelines.plan.model import Column, ModelPlan, Plan, TrackingPlan
from firesteel.pipelines.publish.state_store import StateStore
from support import forks
from support.fault_proxy import fault_proxy
from support.mlflow_server import MlflowServer
from support.sample_run import failed, published, sample_plan, sample_result
from support.wire import authority, behind_tls

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:sqlalchemy.exc.SADeprecationWarning"),
]

WHERE = Where("pipeline.yaml", 31, 5)
NAME = "flight_delay"
PAST = "Wed, 21 Oct 2015 07:28:00 GMT"


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real scikit-learn model, saved as skops with a signature."""
    import mlflow.sklearn
    import numpy as np
    import pandas as pd
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema
    from sklearn.linear_model import LogisticRegression

    frame = pd.DataFrame(
        {
            "dep_delay": np.arange(10.0),
            "distance": np.arange(10, dtype="int64"),
            "dep_hour": np.arange(10, dtype="int32"),
        }
    )
    model = LogisticRegression().fit(frame, np.arange(10) % 2)
    inputs = Schema(
        [ColSpec("double", "dep_delay"), ColSpec("long", "distance"), ColSpec("integer", "dep_hour", required=False)]
    )
    folder = tmp_path_factory.mktemp("model") / "model"
    mlflow.sklearn.save_model(
        model,
        str(folder),
        signature=ModelSignature(inputs),
        serialization_format="skops",
        pip_requirements=["scikit-learn"],
    )
    return folder


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow takes seconds to make its tables: once, then copied."""
    file = tmp_path_factory.mktemp("empty") / "mlflow.db"
    connect(f"sqlite:///{file}").search_registered_models()
    return file


@pytest.fixture
def store(tmp_path: Path, model_folder: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A SQLite store with versions 1 and 2 of a model; @champion is 1."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    uri = f"sqlite:///{tmp_path}/store/mlflow.db"
    (tmp_path / "store").mkdir()
    shutil.copy(empty_database, tmp_path / "store")
    client = connect(uri)
    client.create_registered_model(NAME)
    folders = {}
    for version in ("1", "2"):
        folders[version] = tmp_path / "models" / version
        shutil.copytree(model_folder, folders[version])
        (folders[version] / "note.txt").write_text(version)
        client.create_model_version(NAME, folders[version].as_uri())
    client.set_registered_model_alias(NAME, "champion", "1")
    client.set_registered_model_alias(NAME, "challenger", "2")
    return SimpleNamespace(uri=uri, client=client, folders=folders)


def resolve(uri: str, tracking_uri: str, **changes):
    given = {"method": "predict_proba", "trust_formats": ("skops",), "max_size": None, "where": WHERE} | changes
    return resolve_model("delay", uri, tracking_uri=tracking_uri, **given)


def test_an_alias_is_pinned_to_a_version_and_its_bytes(store: SimpleNamespace) -> None:
    found = resolve(f"models:/{NAME}@champion", store.uri)
    plan = found.plan
    assert (plan.uri, plan.resolved_uri, plan.version) == (f"models:/{NAME}@champion", f"models:/{NAME}/1", "1")
    assert (plan.format, plan.method, len(plan.digest)) == ("skops", "predict_proba", 64)
    assert plan.inputs == (
        Column("dep_delay", "double", nullable=False),
        Column("distance", "bigint", nullable=False),
        Column("dep_hour", "int"),
    )
    assert found.folder == store.folders["1"], "local files are used where they are"
    assert plan.size_bytes == sum(path.stat().st_size for path in found.folder.rglob("*") if path.is_file())
    assert resolve(f"models:/{NAME}/1", store.uri).plan.digest == plan.digest
    assert resolve(f"models:/{NAME}/2", store.uri).plan.digest != plan.digest


def test_a_folder_and_its_uri_are_models_too(model_folder: Path) -> None:
    plain, uri = resolve(str(model_folder), ""), resolve(model_folder.as_uri(), "")
    assert plain.plan.digest == uri.plan.digest
    assert plain.plan.version == plain.plan.digest[:12]
    assert plain.plan.resolved_uri == model_folder.as_uri()


@pytest.mark.parametrize(
    ("uri", "code", "says"),
    [
        (
            f"models:/{NAME}@prod",
            "FS3005",
            f"models:/{NAME}@prod: the alias does not exist (aliases: challenger->2, champion->1).",
        ),
        (f"models:/{NAME}/9", "FS3001", f"models:/{NAME}/9: the version does not exist (versions of {NAME}: 2, 1)."),
        (f"models:/{NAME}/latest", "FS3001", "the version does not exist (versions of flight_delay: 2, 1)."),
        (
            "models:/flight_dealy@champion",
            "FS3001",
            "the model `flight_dealy` is not registered (registered: flight_delay).",
        ),
        ("/no/such/folder", "FS3001", "the folder /no/such/folder does not exist."),
    ],
)
def test_what_is_not_there_is_named_with_what_is(store: SimpleNamespace, uri: str, code: str, says: str) -> None:
    with pytest.raises(ModelError) as caught:
        resolve(uri, store.uri)
    assert (caught.value.code, caught.value.where) == (code, WHERE)
    assert says in caught.value.what
    if "dealy" in uri:
        assert caught.value.hint == "Did you mean `flight_delay`?"


def test_a_format_that_is_not_trusted_is_refused_at_its_place_in_the_spec(store: SimpleNamespace) -> None:
    with pytest.raises(ModelError) as caught:
        resolve(f"models:/{NAME}@champion", store.uri, trust_formats=("onnx",))
    assert (caught.value.code, caught.value.where) == ("FS3009", WHERE)
    with pytest.raises(ModelError, match="FS3010"):
        resolve(f"models:/{NAME}@champion", store.uri, max_size=10)


@pytest.mark.parametrize(
    ("signature", "says"), [(None, "no signature"), ("tensor", "tensors"), ("unnamed", "has no column names")]
)
def test_a_model_without_named_inputs_is_fs3003(
    model_folder: Path, tmp_path: Path, signature: str | None, says: str
) -> None:
    import numpy as np
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ColSpec, Schema, TensorSpec

    folder = tmp_path / "model"
    shutil.copytree(model_folder, folder)
    model = Model.load(str(folder))
    schemas = {
        "tensor": Schema([TensorSpec(np.dtype("float64"), (-1, 3))]),
        "unnamed": Schema([ColSpec("double"), ColSpec("double")]),
    }
    model.signature = ModelSignature(schemas[signature]) if signature else None
    model.save(str(folder / "MLmodel"))
    with pytest.raises(ModelError) as caught:
        resolve(str(folder), "")
    assert caught.value.code == "FS3003"
    assert says in caught.value.what


def test_apply_gets_the_bytes_of_the_plan(store: SimpleNamespace) -> None:
    plan = resolve(f"models:/{NAME}@champion", store.uri).plan
    assert fetch_pinned(plan, store.uri) == store.folders["1"]


def test_apply_refuses_an_alias_that_has_moved(store: SimpleNamespace) -> None:
    plan = resolve(f"models:/{NAME}@champion", store.uri).plan
    store.client.set_registered_model_alias(NAME, "champion", "2")
    with pytest.raises(PlanDrift) as caught:
        fetch_pinned(plan, store.uri)
    assert caught.value.code == "FS6002"
    assert caught.value.what == f"the plan was made for delay v1 (sha {plan.digest[:4]}..); @champion is now v2."
    assert caught.value.hint == f"Run `plan` again, or pin models:/{NAME}/1."
    pinned = replace(plan, uri=f"models:/{NAME}/1")
    assert fetch_pinned(pinned, store.uri) == store.folders["1"], "a pinned version does not care for aliases"
    store.client.delete_registered_model_alias(NAME, "champion")
    with pytest.raises(PlanDrift, match="@champion no longer exists"):
        fetch_pinned(plan, store.uri)


def test_apply_refuses_changed_bytes(store: SimpleNamespace) -> None:
    plan = resolve(f"models:/{NAME}@champion", store.uri).plan
    (store.folders["1"] / "note.txt").write_text("changed")
    with pytest.raises(ModelError) as caught:
        fetch_pinned(plan, store.uri)
    assert caught.value.code == "FS3011"
    assert plan.digest[:12] in caught.value.what


def test_apply_refuses_a_version_that_is_gone(store: SimpleNamespace) -> None:
    plan = resolve(f"models:/{NAME}/2", store.uri).plan
    store.client.delete_model_version(NAME, "2")
    with pytest.raises(PlanDrift, match="no longer in the registry"):
        fetch_pinned(plan, store.uri)


def pinned_plan(days: int, uri: str, model: ModelPlan | None = None):
    plan = sample_plan(days, tracking_uri=uri)
    return replace(plan, models=(model,) if model else ())


def test_a_run_is_recorded_whole(store: SimpleNamespace, tmp_path: Path) -> None:
    model = resolve(f"models:/{NAME}@champion", store.uri).plan
    plan = replace(pinned_plan(2, "", model), params=(("root", "/ml"),))
    report = tmp_path / "report.html"
    report.write_text("<html>")
    with RunTracker.open(plan, "run-1", store.uri, "batch/flights") as tracker:
        for day in (1, 2):
            tracker.interval_started(plan.intervals[day - 1].id)
            tracker.interval_finished(published(plan, day))
        finished = sample_result(plan, (published(plan, 1), published(plan, 2)), run_id="run-1")
        result = tracker.finish(finished, report, audit_head="2 5d1f")
    assert (result.mlflow_run_id, result.mlflow_uri) == (tracker.run_id, store.uri)
    assert tracker.problems == []

    client = store.client
    run = client.get_run(tracker.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["pipeline"] == plan.pipeline
    assert run.data.params["code_hash"] == plan.code_hash
    assert run.data.params["model.delay"] == f"models:/{NAME}/1 sha {model.digest[:12]}"
    assert run.data.params["param.root"] == "/ml"
    assert run.data.metrics["rows_in"] == result.counts.rows_in
    assert run.data.metrics["gates_passed"] == 4
    assert run.data.tags["firesteel.run_id"] == "run-1"
    assert "dt=2013-06-02/origin=JFK" in run.data.tags["firesteel.published"]
    assert run.data.tags["firesteel.audit_head"] == "2 5d1f"
    assert {artifact.path for artifact in client.list_artifacts(tracker.run_id)} == {
        "plan.json",
        "spec.yaml",
        "result.json",
        "report.html",
    }
    contexts = {each.dataset.name: each.tags[0].value for each in run.inputs.dataset_inputs}
    assert contexts == {"flights": "scoring", "weather": "scoring", "scores": "output"}
    history = client.get_metric_history(tracker.run_id, "interval/scored")
    assert [(point.step, point.value) for point in history] == [
        (day, published(plan, day).counts.scored) for day in (1, 2)
    ]
    assert json.loads(run.inputs.dataset_inputs[0].dataset.profile)["files"] in {2, 6}

    experiment = client.get_experiment_by_name("batch/flights")
    children = client.search_runs([experiment.experiment_id], f"tags.mlflow.parentRunId = '{tracker.run_id}'")
    assert {child.data.tags["firesteel.interval"] for child in children} == {"2013-06-01", "2013-06-02"}
    assert {child.info.status for child in children} == {"FINISHED"}
    found = client.search_runs(
        [experiment.experiment_id], f"tags.`firesteel.plan_hash` = '{plan.intervals[1].plan_hash}'"
    )
    by_version = "tags.`firesteel.model.delay` = '1' AND tags.`firesteel.model.delay.alias` = 'champion'"
    assert len(client.search_runs([experiment.experiment_id], by_version)) == 3, "the run and its intervals"
    assert [each.data.params["interval"] for each in found] == ["2013-06-02"], "a run is found from what it published"


def test_nothing_is_written_to_the_working_directory_and_no_global_of_mlflow_changes(
    store: SimpleNamespace, tmp_path: Path
) -> None:
    import mlflow

    before = mlflow.get_tracking_uri(), mlflow.get_registry_uri(), mlflow.active_run()
    seen = {path.name for path in tmp_path.iterdir()}
    plan = pinned_plan(1, "")
    with RunTracker.open(plan, "run-1", store.uri) as tracker:
        tracker.finish(sample_result(plan, ()))
    assert {path.name for path in tmp_path.iterdir()} == seen
    assert (tmp_path / "store" / "mlartifacts").is_dir()
    assert (mlflow.get_tracking_uri(), mlflow.get_registry_uri(), mlflow.active_run()) == before


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"state": "failed", "error": "FS7001 no"}, "FAILED"),
        ({"state": "failed", "exit_code": 130}, "KILLED"),
        ({}, "FINISHED"),
    ],
)
def test_a_run_ends_as_its_result_says(store: SimpleNamespace, changes: dict, status: str) -> None:
    plan = pinned_plan(1, "")
    with RunTracker.open(plan, "run-1", store.uri) as tracker:
        tracker.interval_started("2013-06-01")
        if "error" in changes:
            tracker.interval_finished(failed(plan, 1, "FS7001 no"))
        tracker.finish(sample_result(plan, (published(plan, 1),), **changes))
    run = store.client.get_run(tracker.run_id)
    assert run.info.status == status
    assert run.data.tags.get("firesteel.error") == changes.get("error")
    runs = store.client.search_runs([run.info.experiment_id])
    assert len(runs) == 2
    assert {each.info.status for each in runs} == {status}, "children end with their parent"


@pytest.mark.parametrize(("error", "status"), [(ValueError("boom"), "FAILED"), (KeyboardInterrupt(), "KILLED")])
def test_an_exception_ends_the_run_and_goes_on(store: SimpleNamespace, error: BaseException, status: str) -> None:
    with pytest.raises(type(error)), RunTracker.open(pinned_plan(1, ""), "run-1", store.uri) as tracker:
        raise error
    run = store.client.get_run(tracker.run_id)
    assert run.info.status == status
    assert run.data.tags["firesteel.error"] == (str(error) or "KeyboardInterrupt")


DYING = """
import os, signal, sys
from support.sample_run import sample_plan
from dataclasses import replace
from firesteel.jobs.tracking import retries, RunTracker
tracker = RunTracker.open(replace(sample_plan(1, sys.argv[2]), models=()), "dying", sys.argv[1])
tracker.interval_started("2013-06-01")
tracker.in_background(int).result()
print(tracker.run_id, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_run_is_ended_and_living_ones_and_other_storages_are_left_alone(
    store: SimpleNamespace, tmp_path: Path
) -> None:
    root = f"file://{tmp_path}/data"
    plan = replace(sample_plan(1, root), models=())

    def settled(plan: Plan) -> tuple[str, ...]:
        at = StateStore.at(plan.storage, plan.pipeline, plan.profile)
        return settle_runs(at, store.uri, "/batch/flight_delay").ended

    with RunTracker.open(plan, "alive", store.uri) as alive:
        tests = Path(__file__).parents[1]
        environment = os.environ | {"PYTHONPATH": f"{tests}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
        died = forks.run([sys.executable, "-c", DYING, store.uri, root], env=environment, timeout=120)
        assert died.returncode == -9, died.stderr
        dead = died.stdout.strip()
        assert store.client.get_run(dead).info.status == "RUNNING"
        assert settled(replace(plan, profile="dev")) == ()
        assert settled(replace(plan, storage=f"{root}/elsewhere")) == ()
        assert store.client.get_run(dead).info.status == "RUNNING"
        assert settled(plan) == ("dying",)
        run = store.client.get_run(dead)
        assert run.info.status == "FAILED"
        assert "died" in run.data.tags["firesteel.error"]
        (child,) = store.client.search_runs([run.info.experiment_id], f"tags.mlflow.parentRunId = '{dead}'")
        assert child.info.status == "FAILED"
        assert store.client.get_run(alive.run_id).info.status == "RUNNING"
        assert settled(plan) == ()


def test_a_store_that_cannot_be_opened_stops_the_run_first(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RuntimeFault) as caught:
        RunTracker.open(pinned_plan(1, ""), "run-1", f"sqlite:///{tmp_path}/file/mlflow.db")
    assert caught.value.code == "FS9003"


def test_a_store_that_goes_away_does_not_stop_a_run(store: SimpleNamespace, caplog: pytest.LogCaptureFixture) -> None:
    plan = pinned_plan(1, "")
    tracker = RunTracker.open(plan, "run-1", store.uri)
    store.client.delete_run(tracker.run_id)  # MLflow refuses to write to a deleted run
    tracker.interval_started("2013-06-01")
    tracker.interval_finished(published(plan, 1))
    result = tracker.finish(sample_result(plan, (published(plan, 1),)))
    assert result.mlflow_run_id == tracker.run_id
    assert tracker.problems
    assert all("FS9003" in problem for problem in tracker.problems)
    assert (
        len([record for record in caplog.records if "the MLflow record of the run is incomplete" in record.message])
        == 1
    )


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A tracking server that serves artefacts."""
    with MlflowServer(tmp_path_factory.mktemp("server")) as started:
        yield started.uri


def test_a_server_gives_models_by_digest_and_takes_runs(
    server: str, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    client = connect(server)
    run = client.create_run("0")
    client.log_artifacts(run.info.run_id, str(model_folder), "model")
    client.create_registered_model(NAME)
    client.create_model_version(NAME, f"{run.info.artifact_uri}/model", run.info.run_id)
    client.set_registered_model_alias(NAME, "champion", "1")

    found = resolve(f"models:/{NAME}@champion", server)
    assert found.folder == tmp_path / "cache" / "firesteel" / "models" / found.plan.digest
    assert found.plan.digest == resolve(str(model_folder), "").plan.digest, "a download is the same bytes"
    assert [path.name for path in found.folder.parent.iterdir()] == [found.plan.digest], "nothing half done stays"
    assert fetch_pinned(found.plan, server) == found.folder
    (found.folder / "model.skops").write_bytes(b"changed in the cache")
    assert fetch_pinned(found.plan, server) == found.folder, "a spoiled cache is fetched again"
    assert resolve(f"models:/{NAME}/1", server).plan.digest == found.plan.digest

    plan = pinned_plan(1, server, found.plan)
    with RunTracker.open(plan, "run-1") as tracker:
        tracker.interval_started("2013-06-01")
        tracker.interval_finished(published(plan, 1))
        result = tracker.finish(sample_result(plan, (published(plan, 1),)))
    assert result.mlflow_uri.startswith(f"{server}/#/experiments/")
    assert client.get_run(tracker.run_id).info.status == "FINISHED"
    assert {artifact.path for artifact in client.list_artifacts(tracker.run_id)} == {
        "plan.json",
        "spec.yaml",
        "result.json",
    }
    assert client.get_experiment_by_name("/batch/flight_delay") is not None
    assert capfd.readouterr().out == "", "standard output belongs to --json"


def test_a_server_is_reached_over_tls_by_who_verifies_it_and_by_nobody_else(server, tmp_path, monkeypatch):
    signed = authority(tmp_path)
    with behind_tls(signed.server, int(server.rpartition(":")[2])) as port:
        uri = f"https://127.0.0.1:{port}"
        with pytest.raises(RuntimeFault, match="FS9036") as refused:
            connect(uri)
        assert "certificate" in str(refused.value).lower()
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(signed.ca))
        plan = sample_plan(tracking_uri=uri)
        with RunTracker.open(replace(plan, models=()), "20130604T101112-7f3a") as tracker:
            done = tracker.finish(sample_result(plan, (published(plan, 1),)))
        assert tracker.problems == []
        assert connect(uri).get_run(done.mlflow_run_id).info.status == "FINISHED"


def test_a_version_that_the_registry_has_lost_costs_the_link_to_it_and_nothing_else(server):
    plan = sample_plan(tracking_uri=server)
    with RunTracker.open(plan, "20130604T101112-7f3b") as tracker:
        done = tracker.finish(sample_result(plan, (published(plan, 1),)))
    assert tracker.problems == []
    run = connect(server).get_run(done.mlflow_run_id)
    assert f"linking {plan.models[0].resolved_uri}" in run.data.tags["firesteel.warning"]
    assert run.info.status == "FINISHED"
    assert len(run.inputs.model_inputs) == 1  # the run's own, by which the run page names the version


def test_a_server_is_reached_through_a_proxy_that_alone_reaches_it(server, monkeypatch):
    uri = "http://mlflow.invalid:5000"
    with fault_proxy(server) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.uri)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        assert connect(uri).search_experiments()
        assert proxy.calls
        monkeypatch.setenv("NO_PROXY", "mlflow.invalid")
        with pytest.raises(RuntimeFault) as caught:
            connect(uri)
        assert caught.value.code == "FS9003"


@pytest.mark.parametrize(("fault", "retry_after"), [("429", PAST), ("503", "")])
def test_a_run_whose_requests_are_each_refused_three_times_is_recorded(server, monkeypatch, fault, retry_after):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_JITTER", "0")
    monkeypatch.setattr("firesteel.jobs.tracking.create._PAUSES_S", (0.0, 0.0, 0.0))
    with fault_proxy(server) as proxy:
        proxy.arm(fault, times=3, each=True, retry_after=retry_after)
        plan = replace(sample_plan(1, tracking_uri=proxy.uri), models=())
        with RunTracker.open(plan, f"20130604T101112-{fault}-{len(retry_after)}") as tracker:
            tracker.interval_started("2013-06-01")
            tracker.interval_finished(published(plan, 1))
            done = tracker.finish(sample_result(plan, (published(plan, 1),)))
    assert tracker.problems == []
    assert connect(server).get_run(done.mlflow_run_id).info.status == "FINISHED"


def test_a_server_that_stays_busy_is_given_up_and_the_next_calls_do_not_wait(server, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_JITTER", "0")
    monkeypatch.setattr(retries, "_impatient_until", 0.0)
    monkeypatch.setattr(retries, "LONGEST_PAUSE_S", 0.01)  # of the hour that the server asks for
    with fault_proxy(server) as proxy:
        for calls in (1 + retries.BUSY_RETRIES, 2, 2):
            proxy.arm("429", times=99, retry_after="3600")
            with pytest.raises(RuntimeFault, match="FS9003") as caught:
                connect(proxy.uri)
            assert "The server is busy" in caught.value.hint
            assert len(proxy.calls) == calls


@pytest.mark.parametrize(
    ("fault", "code", "hint"),
    [("401", "FS9034", "MLFLOW_TRACKING_USERNAME"), ("403", "FS9035", "permission"), ("500", "FS9003", "tracking URI")],
)
def test_a_refusal_has_a_code_and_a_hint_of_its_own(server, monkeypatch, fault, code, hint):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    with fault_proxy(server) as proxy:
        proxy.arm(fault, times=9)
        with pytest.raises(RuntimeFault) as caught:
            connect(proxy.uri)
    assert (caught.value.code, hint in caught.value.hint) == (code, True)


@pytest.mark.parametrize(
    ("uri", "environ"),
    [
        ("http://mlflow.example.org", {}),
        ("", {"MLFLOW_TRACKING_URI": "http://mlflow.example.org"}),
        ("https://mlflow.example.org", {"MLFLOW_REGISTRY_URI": "http://ml:pw@registry.example.org"}),
        ("https://mlflow.example.org", {"MLFLOW_TRACKING_INSECURE_TLS": "true"}),
    ],
)
def test_strict_security_holds_for_what_the_environment_says(store, monkeypatch, uri, environ):
    monkeypatch.setattr("mlflow.tracking._tracking_service.utils._tracking_uri", None)  # other tests set one
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    plan = replace(sample_plan(1), security="strict", tracking=TrackingPlan(uri, "", required=False))
    with pytest.raises(RuntimeFault) as caught:
        RunTracker.open(plan, "20130604T101112-7f3a")
    assert caught.value.code == "FS9041"
    assert "pw" not in str(caught.value)


def test_a_failure_of_the_registry_names_the_registry_and_not_the_tracking_server(store, server, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    pinned = resolve(f"models:/{NAME}@champion", store.uri).plan
    with fault_proxy(server) as proxy:
        monkeypatch.setenv("MLFLOW_REGISTRY_URI", proxy.uri)
        with pytest.raises(ModelError, match="not registered") as unknown:
            resolve("models:/no_such_model/1", store.uri)
        assert unknown.value.hint == f"Register the model, or check the URI of the registry ({proxy.uri})."
        for call in (
            lambda: resolve(f"models:/{NAME}@champion", store.uri),
            lambda: fetch_pinned(pinned, store.uri),
            lambda: fetch_pinned(replace(pinned, uri=pinned.resolved_uri), store.uri),
        ):
            proxy.arm("500", times=9)
            with pytest.raises(RuntimeFault, match=f"FS9003 MLflow at {proxy.uri}: resolving models:/") as caught:
                call()
            assert store.uri not in str(caught.value)
