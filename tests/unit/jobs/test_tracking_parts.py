"""Parts of tracking that need no MLflow store."""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException
from urllib3.response import HTTPResponse

from firesteel.conf.errors import ModelError, RuntimeFault, Where
from firesteel.jobs.tracking import resolve_model, retries
from firesteel.jobs.tracking.connect import (
    connect,
    database_folder,
    mlflow_environment,
    mlflow_faults,
    one_line,
    without_secrets,
)
from firesteel.jobs.tracking.datasets import dataset_outputs
from firesteel.jobs.tracking.metrics import batches, interval_metrics, points, run_metrics
from firesteel.jobs.tracking.page import model_tags, note
from firesteel.pipelines.plan.model import ChallengerPlan
from support.sample_run import failed, published, sample_plan, sample_result

RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"


def test_the_environment_is_bounded_inside_and_as_it_was_after(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(RETRIES, raising=False)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "7")
    before, level = dict(os.environ), logging.getLogger("alembic").level
    with mlflow_environment():
        assert os.environ[RETRIES] == "1"
        assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "7", "the user's own setting stands"
        with mlflow_environment():
            assert logging.getLogger("alembic").level == logging.WARNING
        assert os.environ[RETRIES] == "1", "nested use ends with the outermost"
    assert dict(os.environ) == before
    assert logging.getLogger("alembic").level == level


def test_a_server_that_says_when_to_come_back_is_believed_for_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "_impatient_until", 0.0)
    policy = retries.BusyRetry(1, status_forcelist={429}, allowed_methods=None)
    answers = {seconds: HTTPResponse(status=429, headers={"Retry-After": str(seconds)}) for seconds in (0, 3, 3600)}
    assert [policy.get_retry_after(answers[seconds]) for seconds in answers] == [0, 3, 3600], "MLflow's own calls"
    with mlflow_environment():
        assert [policy.get_retry_after(answers[seconds]) for seconds in answers] == [0, 3, 10]


def test_threads_share_the_environment_and_the_last_one_restores_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(RETRIES, raising=False)
    inside, leave = threading.Event(), threading.Event()

    def other() -> None:
        with mlflow_environment():
            inside.set()
            assert leave.wait(30)

    thread = threading.Thread(target=other)
    thread.start()
    assert inside.wait(30)
    with mlflow_environment():
        pass
    assert os.environ[RETRIES] == "1"
    leave.set()
    thread.join(30)
    assert RETRIES not in os.environ


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("https://user:secret@mlflow.example.org:5000/x?token=t", "https://mlflow.example.org:5000/x"),
        ("postgresql://user:secret@db/mlflow", "postgresql://db/mlflow"),
        ("sqlite:////data/mlflow.db", "sqlite:////data/mlflow.db"),
    ],
)
def test_secrets_in_a_uri_are_not_shown(uri: str, shown: str) -> None:
    assert without_secrets(uri) == shown


@pytest.mark.parametrize(
    ("uri", "folder"),
    [
        ("sqlite:////data/ml/mlflow.db", Path("/data/ml")),
        ("sqlite+pysqlite:////data/mlflow.db?timeout=5", Path("/data")),
        ("http://localhost:5000", None),
        ("postgresql://db/mlflow", None),
    ],
)
def test_the_folder_of_a_sqlite_store(uri: str, folder: Path | None) -> None:
    assert database_folder(uri) == folder


def test_a_server_that_is_not_there_is_fs9003_without_waiting() -> None:
    with socket.socket() as taken:  # bound and not listening: connections are refused
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(RuntimeFault) as caught:
            connect(f"http://user:secret@127.0.0.1:{taken.getsockname()[1]}")
    assert caught.value.code == "FS9003"
    assert "cannot connect" in caught.value.what
    assert "secret" not in str(caught.value)


def test_a_password_of_the_environment_is_in_no_message() -> None:
    error = OSError("API request to http://ml:hunter2@127.0.0.1:5000/api failed, see http://token@h/x and http://h/a@b")
    assert one_line(error) == "API request to http://127.0.0.1:5000/api failed, see http://h/x and http://h/a@b"


@pytest.mark.parametrize(
    ("status", "code"), [("401 Client Error: UNAUTHORIZED", "FS9034"), ("403 Client Error: FORBIDDEN", "FS9035")]
)
def test_a_refused_download_has_its_cause_and_code(status: str, code: str) -> None:
    """MLflow 2 servers list the files of an experiment that they do not let the account download."""
    text = f"The following failures occurred while downloading artifacts from http://h/x:\n##### File MLmodel #####\n{status} for url: http://h/x/MLmodel"
    with pytest.raises(RuntimeFault) as caught, mlflow_faults("http://h", "reading x", "READ on the experiment"):
        raise MlflowException(text)
    assert caught.value.code == code
    assert f"http://h/x: {status} for url" in caught.value.what


@pytest.mark.parametrize("uri", ["runs:/abc/model", "models:/flight_delay", "models:/a/b/c", "s3://bucket/model"])
def test_uris_that_cannot_be_pinned_are_refused(uri: str) -> None:
    where = Where("pipeline.yaml", 31, 5)
    with pytest.raises(ModelError) as caught:
        resolve_model(
            "delay", uri, method="predict", trust_formats=("skops",), max_size=None, tracking_uri="", where=where
        )
    assert caught.value.code == "FS3001"
    assert "models:/NAME@ALIAS" in caught.value.hint
    assert caught.value.where == where


def test_metrics_of_an_interval() -> None:
    found = interval_metrics(published(sample_plan(1), 1, dead=2))
    assert (found["rows_in"], found["scored"], found["dead_letter"]) == (897, 895, 2)
    assert found["seconds.score"] == 4.2
    assert found["rows_per_second"] == pytest.approx(897 / 9.9)
    assert (found["gates_passed"], found["gates_failed"], found["expectations_passed"]) == (2, 0, 4)
    assert found["worker_seconds.model"] == 3.1
    assert found["rows_per_model_second"] == pytest.approx(895 / 3.1)
    assert (found["model_loads"], found["batches"], found["largest_batch"]) == (2, 3, 600)


def test_metrics_of_a_run_are_sums() -> None:
    plan = sample_plan(3)
    result = sample_result(plan, (published(plan, 1), failed(plan, 2, "FS7001")))
    found = run_metrics(result)
    assert found["rows_in"] == result.counts.rows_in
    assert (found["intervals_published"], found["intervals_failed"], found["intervals_skipped"]) == (1, 1, 0)
    assert (found["gates_passed"], found["gates_failed"]) == (3, 1)
    assert (found["gate.input_ok.passed"], found["gate.output_ok.passed"]) == (1, 0.5), "fractions of the intervals"
    assert found["seconds.score"] == pytest.approx(8.4)
    assert found["seconds"] == 38.25
    assert (found["batches"], found["largest_batch"]) == (6, 600), "batches add up, sizes do not"
    assert found["rows_per_model_second"] == pytest.approx(result.counts.scored / 6.2)


@pytest.mark.parametrize(
    "form", ["sqlite:///{}/mistyped.db", "sqlite+pysqlite:///{}/mistyped.db?timeout=5", "file://{}/mistyped"]
)
def test_a_look_up_in_a_store_that_is_not_there_creates_none(tmp_path: Path, form: str) -> None:
    with pytest.raises(RuntimeFault, match="FS9003 .*mistyped(.db)? does not exist"):
        resolve_model(
            "delay",
            "models:/flight_delay@champion",
            method="predict",
            trust_formats=("skops",),
            max_size=None,
            tracking_uri=form.format(tmp_path),
        )
    assert list(tmp_path.iterdir()) == []


def test_a_client_that_records_makes_its_store(tmp_path: Path) -> None:
    connect(f"sqlite:///{tmp_path}/new.db")
    assert (tmp_path / "new.db").exists()
    connect(f"sqlite:///{tmp_path}/new.db", create=False)


def options() -> dict[str, object]:
    return {
        "method": "predict",
        "trust_formats": ("pickle",),
        "max_size": None,
        "tracking_uri": "",
        "where": Where("spec"),
    }


def test_a_model_folder_that_mlflow_would_take_for_another_is_refused(tmp_path):
    for name in ("a%20b", "a b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "MLmodel").write_text("flavors: {}\n")
    with pytest.raises(ModelError, match=r"FS3001 .*contains `%`"):
        resolve_model("m", str(tmp_path / "a%20b"), **options())


def test_an_mlmodel_file_that_cannot_be_read_is_an_error_that_names_it(tmp_path):
    (tmp_path / "MLmodel").write_text("signature: [unclosed\n")
    with pytest.raises(ModelError, match=r"FS3001 .*MLmodel cannot be read"):
        resolve_model("m", str(tmp_path), **options())


def test_a_run_of_many_intervals_has_one_step_per_interval_and_keeps_its_totals() -> None:
    plan = sample_plan(30)
    results = tuple(failed(plan, day, "FS7001") if day == 2 else published(plan, day, dead=day) for day in range(1, 31))
    logged = points(sample_result(plan, results[::-1]), plan)  # intervals may end in any order
    assert [(point.step, point.value) for point in logged if point.key == "dead_letter"] == [(0, sum(range(1, 31)) - 2)]
    series = {point.step: point.value for point in logged if point.key == "interval/dead_letter"}
    assert series == {day: 0 if day == 2 else day for day in range(1, 31)}
    gate = {point.step: point.value for point in logged if point.key == "interval/gate.output_ok.passed"}
    assert [step for step, passed in gate.items() if not passed] == [2]
    assert list(batches(logged)) == [logged], "a month is one call"
    assert [len(batch) for batch in batches(logged * 4)] == [1000, len(logged) * 4 - 1000]
    assert not any(point.key.startswith("interval/") for point in points(sample_result(plan, results), sample_plan(1)))


def test_a_search_finds_the_runs_of_a_model_version_by_tags() -> None:
    plan = sample_plan(1)
    assert model_tags(plan) == {
        "firesteel.model.delay": "7",
        "firesteel.model.delay.registered": "flight_delay",
        "firesteel.model.delay.alias": "champion",
    }
    folder = replace(plan.models[0], uri="/models/a@b", resolved_uri="file:///models/a@b", version="3c1f3c1f3c1f")
    assert model_tags(replace(plan, models=(folder,))) == {"firesteel.model.delay": "3c1f3c1f3c1f"}
    challenger = ChallengerPlan(
        "models:/flight_delay/8", replace(plan.models[0], version="8", uri="models:/flight_delay/8"), 0.01
    )
    challenged = replace(plan, steps=(plan.steps[0], replace(plan.steps[1], challenger=challenger)))
    assert model_tags(challenged) == model_tags(plan) | {
        "firesteel.challenger.delay": "8",
        "firesteel.challenger.delay.registered": "flight_delay",
    }
    assert "[flight_delay version 7 (@champion)](#/models/flight_delay/versions/7)" in note(
        sample_result(plan, ()), plan
    )


def test_the_output_dataset_changes_with_the_published_files_only() -> None:
    plan = sample_plan(2)
    results = [replace(published(plan, day), output_digest=f"{day}" * 64) for day in (1, 2)]
    (output,) = dataset_outputs(plan, results)
    assert (output.dataset.name, output.tags[0].value) == ("scores", "output")
    columns = json.loads(output.dataset.schema)["mlflow_colspec"]
    assert [column["name"] for column in columns] == ["flight_id", "p_delay"]
    assert json.loads(output.dataset.profile)["rows"] == sum(result.counts.scored for result in results)
    slower = [replace(result, seconds=(("score", 99.0),)) for result in reversed(results)]
    assert dataset_outputs(plan, slower)[0].dataset.digest == output.dataset.digest
    changed = [results[0], replace(results[1], output_digest="3" * 64)]
    assert dataset_outputs(plan, changed)[0].dataset.digest != output.dataset.digest
    assert dataset_outputs(plan, [failed(plan, 1, "FS7001")]) == []
