"""URIs in a spec: what a model can be, and no passwords."""

from __future__ import annotations

import pytest

from firesteel.conf.errors import SpecErrors
from firesteel.pipelines import Pipeline
from support.specs import example_with

MODEL = "uri: models:/flight_delay@champion"
TRACKING = "experiment: /batch/flight_delay"


def errors_of(folder, changes):
    with pytest.raises(SpecErrors) as caught:
        Pipeline.load(example_with(folder, changes), params={"root": "file:///data"})
    return caught.value.errors


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("models:/flight_delay/latest", "models:/flight_delay@champion"),
        ("models:/flight_delay/Production", "models:/flight_delay@production"),
        ("models:/flight_delay", "models:/NAME@ALIAS"),
        ("models:/m-0123456789abcdef", "models:/NAME@ALIAS"),
        ("runs:/0123/model", "models:/NAME@ALIAS"),
        ("hdfs://nn/models/delay", "models:/NAME@ALIAS"),
        ("s3://bucket/delay", "models:/NAME@ALIAS"),
    ],
)
@pytest.mark.parametrize("key", ["uri", "challenger"])
def test_a_model_uri_that_no_plan_can_pin_is_refused_by_validate_with_one_that_can(tmp_path, uri, says, key):
    change = f"uri: {uri}" if key == "uri" else f"{MODEL}, challenger: {uri}".replace(", ", "\n    ")
    (error,) = errors_of(tmp_path, {MODEL: change})
    assert error.code == "FS1004"
    assert says in str(error)
    assert error.where.line


@pytest.mark.parametrize(
    "uri", ["models:/flight_delay/3", "models:/flight_delay@champion", "models/delay", "file:///m"]
)
def test_a_model_uri_that_a_plan_can_pin_is_valid(tmp_path, uri):
    assert Pipeline.load(example_with(tmp_path, {MODEL: f"uri: {uri}"}), params={"root": "file:///data"}).name


SECRET = "${secret:mlflow/password}"


@pytest.mark.parametrize("scheme", ["https", "postgresql+psycopg2", "mysql"])
def test_a_password_in_the_tracking_uri_is_refused_and_a_reference_is_not(tmp_path, scheme):
    uri = f"{scheme}://ml:hunter2@db.example.org/mlflow"
    (error,) = errors_of(tmp_path, {TRACKING: f'uri: "{uri}"'})
    assert error.code == "FS1020"
    assert "hunter2" not in str(error)
    assert "${secret:" in error.hint
    with_reference = uri.replace("hunter2", SECRET)
    loaded = Pipeline.load(
        example_with(tmp_path / "b", {TRACKING: f'uri: "{with_reference}"'}), params={"root": "file:///data"}
    )
    assert loaded.loaded.spec.tracking.mlflow.uri == with_reference


@pytest.mark.parametrize(
    ("uri", "refused"),
    [
        ("postgresql://db.example.org/mlflow?user=ml&password=hunter2", True),
        ("mssql+pyodbc://db/?odbc_connect=Driver%3Dx;PWD%3Dhunter2", True),
        ("https://ml:${secret:mlflow/password}hunter2@h", True),
        ("https://${secret:mlflow/user}:hunter2@h", True),
        ("postgresql://db.example.org/mlflow?user=ml&password=${secret:mlflow/password}", False),
        ("https://${secret:mlflow/user}:${secret:mlflow/password}@h", False),
        ("https://h:8443/mlflow", False),
    ],
)
def test_a_password_anywhere_in_a_uri_is_found(tmp_path, uri, refused):
    spec = example_with(tmp_path, {TRACKING: f'uri: "{uri}"'})
    if not refused:
        assert Pipeline.load(spec, params={"root": "file:///data"}).loaded.spec.tracking.mlflow.uri == uri
        return
    with pytest.raises(SpecErrors) as caught:
        Pipeline.load(spec, params={"root": "file:///data"})
    assert {error.code for error in caught.value.errors} == {"FS1020"}
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("key", ["path: ${param.root}/flights", "path: ${param.root}/scores"])
def test_a_password_in_another_uri_is_refused_too(tmp_path, key):
    errors = errors_of(tmp_path, {key: "path: hdfs://ml:hunter2@nn/flights"})
    assert "FS1020" in {error.code for error in errors}
    assert not any("hunter2" in str(error) for error in errors)


def test_a_password_that_comes_from_the_environment_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_URI", "https://ml:hunter2@mlflow.example.org")
    (error,) = errors_of(tmp_path, {TRACKING: 'uri: "${env:MLFLOW_URI}"'})
    assert error.code == "FS1020"
