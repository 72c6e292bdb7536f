"""The demo's model: trained, logged and registered for real, in a SQLite store of the test's own."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from firesteel.jobs.demo.model import FEATURES, RegisteredModel, train_model

pytestmark = pytest.mark.filterwarnings("ignore:The .*noload.* loader strategy is deprecated:DeprecationWarning")

FEATURES_SQL = Path(__file__).parents[2] / "examples" / "flights" / "sql" / "features.sql"


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def trained(store, tmp_path_factory) -> RegisteredModel:
    here = tmp_path_factory.mktemp("elsewhere")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        registered = train_model(f"sqlite:///{store}/mlflow.db")
        assert list(here.iterdir()) == []  # nothing in the current folder: no ./mlruns, no ./mlflow.db
    return registered


@pytest.fixture(scope="module")
def folder(store, trained) -> Path:
    [mlmodel] = store.rglob("MLmodel")
    return mlmodel.parent


@pytest.fixture(scope="module")
def pipeline(folder):
    import skops.io

    return skops.io.load(folder / "model.skops")  # trusts nothing beyond skops' own list


def row(**values: float | None):
    import pandas as pd

    usual = {
        "dep_hour": 9,
        "distance": 1089,
        "dep_delay": 0.0,
        "wind_speed": 8.0,
        "precip": 0.0,
        "visib": 10.0,
        "temp": 60.0,
    }
    return pd.DataFrame([{**usual, **values}], columns=list(FEATURES)).astype(
        {"dep_hour": "int32", "distance": "int32"}
    )


def test_it_ranks_flights_of_a_month_it_has_not_seen(trained):
    assert (trained.name, trained.version, trained.created) == ("flight_delay", "1", True)
    assert trained.rows == 50_000
    assert 0.88 < trained.auc < 0.96


def test_it_is_registered_as_champion_and_not_trained_twice(trained, store):
    from mlflow import MlflowClient

    uri = f"sqlite:///{store}/mlflow.db"
    assert train_model(uri) == replace(trained, created=False)
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    assert client.get_model_version_by_alias("flight_delay", "champion").version == 1
    assert len(client.search_model_versions("name = 'flight_delay'")) == 1


def test_nothing_of_it_unpickles(folder):
    names = {path.name for path in folder.iterdir()}
    assert "model.skops" in names
    for path in folder.iterdir():
        assert path.suffix not in {".pkl", ".pickle", ".joblib", ".cloudpickle"}
        assert not path.read_bytes().startswith(b"\x80")


def test_it_loads_with_nothing_trusted_beyond_skops_own_list(folder):
    import skops.io

    assert skops.io.get_untrusted_types(file=folder / "model.skops") == []


def test_its_artefacts_lie_beside_the_database(folder, store):
    assert folder.is_relative_to(store / "mlartifacts")


def test_its_inputs_are_the_columns_of_the_sql_step(folder):
    import sqlglot
    from mlflow.models import Model

    inputs = Model.load(str(folder)).get_input_schema()
    assert dict(zip(inputs.input_names(), map(str, inputs.input_types()), strict=True)) == {
        "dep_hour": "DataType.integer",
        "distance": "DataType.integer",
        **dict.fromkeys(("dep_delay", "wind_speed", "precip", "visib", "temp"), "DataType.double"),
    }
    given = sqlglot.parse_one(FEATURES_SQL.read_text(encoding="utf-8"), dialect="spark").named_selects
    assert set(inputs.input_names()) == set(given) - {"flight_id", "dt", "origin"}


def test_its_example_scores_through_mlflow(folder, trained, monkeypatch):
    import mlflow.pyfunc
    from mlflow.models import Model

    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "true")
    loaded = mlflow.pyfunc.load_model(str(folder))
    scores = loaded.predict(Model.load(str(folder)).load_input_example(str(folder)))
    assert scores.shape == (5, 2)
    assert hasattr(loaded.get_raw_model(), "predict_proba")


def test_a_late_start_makes_a_late_arrival_likelier(pipeline):
    def chance(**values: float | None) -> float:
        return float(pipeline.predict_proba(row(**values))[0, 1])

    assert chance(dep_delay=-5.0) < 0.2 < 0.8 < chance(dep_delay=90.0)


@pytest.mark.parametrize("missing", [("dep_delay",), ("wind_speed", "precip", "visib", "temp"), FEATURES[2:]])
def test_nulls_give_a_probability(pipeline, missing):
    scores = pipeline.predict_proba(row(**dict.fromkeys(missing, math.nan)))
    assert 0 < scores[0, 1] < 1
    assert scores.sum() == pytest.approx(1)


@pytest.fixture(scope="module")
def second(tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """Trained again, in a process whose MLflow points elsewhere: the folder, and what the process said."""
    folder = tmp_path_factory.mktemp("second")
    code = (
        "import os, mlflow; mlflow.set_tracking_uri('sqlite:///mine.db')\n"
        "from firesteel.jobs.demo.model import train_model\n"
        f"print(train_model('sqlite:///{folder}/mlflow.db').version)\n"
        "print(mlflow.get_tracking_uri(), mlflow.get_registry_uri(), os.environ['MLFLOW_TRACKING_URI'])\n"
    )
    environ = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environ, capture_output=True, text=True, check=False, timeout=120
    )
    return folder, done


def test_the_callers_mlflow_is_left_as_it_was(second):
    folder, done = second
    assert done.stdout.splitlines() == ["1", " ".join(["sqlite:///mine.db"] * 3)], done.stderr
    assert not (folder / "mine.db").exists()


def test_a_newcomer_sees_no_warnings(second):
    assert second[1].stderr == ""


def test_the_same_data_gives_the_same_coefficients(second, pipeline):
    import numpy as np
    import skops.io

    [again] = second[0].rglob("model.skops")
    assert np.array_equal(skops.io.load(again)["regress"].coef_, pipeline["regress"].coef_)
