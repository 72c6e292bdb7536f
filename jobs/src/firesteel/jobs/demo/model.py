"""Train and register the demo's model: the probability that a flight arrives more than 15 min late."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version as installed
from typing import TYPE_CHECKING

from firesteel.conf.errors import RuntimeFault
from firesteel.jobs.demo.nycflights import read_flights, read_weather
from firesteel.jobs.tracking.connect import connect, database_folder, mlflow_faults

if TYPE_CHECKING:
    import pandas as pd
    from mlflow import MlflowClient
    from mlflow.models import ModelSignature
    from sklearn.pipeline import Pipeline

FEATURES = ("dep_hour", "distance", "dep_delay", "wind_speed", "precip", "visib", "temp")
"""Columns of `examples/flights/sql/features.sql`: two integers, then doubles with nulls."""

ALIAS = "champion"
EXPERIMENT = "/training/flight_delay"
LATE_MIN = 15
TRAIN_ROWS = 50_000
TEST_ROWS = 10_000
NEIGHBOURS_FROM = 500
METRIC = "auc_june"
PACKAGES = ("mlflow", "scikit-learn", "skops", "pandas")
SEED = 13


@dataclass(frozen=True, slots=True)
class RegisteredModel:
    """A registered version. `auc` is measured on June, which is not in the `rows` training rows. `created` is True for a new version."""

    name: str
    version: str
    auc: float
    rows: int
    created: bool


def train_model(tracking_uri: str, name: str = "flight_delay") -> RegisteredModel:
    """Train on January to May, measure on June and register as `NAME@champion`, unless that alias exists.

    The same rows, seed and packages give the same coefficients.

    Parameters
    ----------
    tracking_uri
        Tracking store and registry. For a SQLite database, artifacts are in `mlartifacts` beside it.

    Raises
    ------
    RuntimeFault
        FS9003 if MLflow cannot be reached. FS9004 if the demo's packages are not installed.
    """
    client = connect(tracking_uri)
    with mlflow_faults(tracking_uri, f"resolving {name}"):
        champion = _champion(client, name)
    if champion is not None:
        return champion
    try:
        import skops.io  # noqa: F401 - MLflow detects a missing package only after the training
        from sklearn.metrics import roc_auc_score
    except ImportError as error:
        raise RuntimeFault(
            "FS9004", f"the demo needs the package {error.name}.", hint='Install it: `pip install "firesteel[demo]"`.'
        ) from error
    train, test = _samples()
    pipeline = _fit(train)
    predictions = pipeline.predict_proba(test[list(FEATURES)])[:, 1]
    auc = float(roc_auc_score(test["late"], predictions))
    with mlflow_faults(tracking_uri, f"registering {name}"):
        registered = _register(client, tracking_uri, name, pipeline, train, auc)
        client.set_registered_model_alias(name, ALIAS, registered)
    return RegisteredModel(name, registered, auc, len(train), created=True)


def feature_frame() -> pd.DataFrame:
    """Return flights with the weather at their origin in the hour of departure: the features, `late` and `month`.

    Flights without an arrival time are excluded, because their delay is unknown.
    """
    keys = ["dt", "origin", "hour"]
    joined = read_flights().merge(
        read_weather()[[*keys, "wind_speed", "precip", "visib", "temp"]], on=keys, how="left", validate="many_to_one"
    )
    joined = joined[joined["arr_delay"].notna()]
    return joined.assign(
        dep_hour=(joined["sched_dep_time"] // 100).astype("int32"),
        distance=joined["distance"].astype("int32"),
        late=joined["arr_delay"] > LATE_MIN,
    )[[*FEATURES, "late", "month"]]


def _samples() -> tuple[pd.DataFrame, pd.DataFrame]:
    frame = feature_frame()
    train = frame[frame["month"] <= 5].sample(TRAIN_ROWS, random_state=SEED)
    return train, frame[frame["month"] == 6].sample(TEST_ROWS, random_state=SEED)


def _fit(train: pd.DataFrame) -> Pipeline:
    """Fit a pipeline: scale, impute nulls with the mean of complete rows, and apply a logistic regression.

    The model must load with skops' own list of trusted types. skops 0.16 trusts neither `numpy.dtype` (SimpleImputer) nor
    scikit-learn's trees.
    """
    from sklearn.impute import KNNImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    features = train[list(FEATURES)]
    scaler = StandardScaler().fit(features)
    scaled = scaler.transform(features)
    # The imputer stores its training rows, so 500 rows keep the model small and fast. All rows are neighbours, because the choice
    # between equally near rows depends on the CPU.
    complete_rows = scaler.transform(features.dropna().head(NEIGHBOURS_FROM))
    imputer = KNNImputer(n_neighbors=NEIGHBOURS_FROM).fit(complete_rows)
    regression = LogisticRegression(max_iter=500).fit(imputer.transform(scaled), train["late"].astype("int32"))
    return Pipeline([("scale", scaler), ("impute", imputer), ("regress", regression)])


def _champion(client: MlflowClient, name: str) -> RegisteredModel | None:
    from mlflow.exceptions import MlflowException

    try:
        model_version = client.get_model_version_by_alias(name, ALIAS)
    except MlflowException as error:
        # The SQL store says INVALID_PARAMETER_VALUE for a missing alias of a model that exists.
        if error.error_code not in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
            raise
        return None
    run = client.get_run(model_version.run_id).data if model_version.run_id else None
    auc = run.metrics.get(METRIC, float("nan")) if run else float("nan")
    rows = int(run.params.get("rows", 0)) if run else 0
    return RegisteredModel(name, str(model_version.version), auc, rows, created=False)


def _register(
    client: MlflowClient, tracking_uri: str, name: str, pipeline: Pipeline, train: pd.DataFrame, auc: float
) -> str:
    """Log the model and its run, and return the new version."""
    import mlflow
    import mlflow.sklearn
    from mlflow.exceptions import MlflowException

    with _as_default(tracking_uri):
        experiment = _experiment(client, tracking_uri)
        with mlflow.start_run(experiment_id=experiment, run_name=f"train {name}") as run:
            mlflow.log_params({"rows": len(train), "seed": SEED, "months": "1-5", "label": f"arr_delay > {LATE_MIN}"})
            mlflow.log_metric(METRIC, auc)
            logged = mlflow.sklearn.log_model(
                pipeline,
                name=name,
                serialization_format="skops",
                pyfunc_predict_fn="predict_proba",
                signature=_signature(),
                input_example=train[list(FEATURES)].head(5).reset_index(drop=True),
                # Explicit, because MLflow starts another Python process to infer them.
                pip_requirements=[f"{package}=={installed(package)}" for package in PACKAGES],
            )
    # `log_model(registered_model_name=...)` prints messages, so register through the client.
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    # The artifact location, because MLflow resolves `models:/m-...` in its global store and not in the client's store.
    source = client.get_logged_model(logged.model_id).artifact_location
    model_version = client.create_model_version(name, source, run_id=run.info.run_id, model_id=logged.model_id)
    return str(model_version.version)


def _signature() -> ModelSignature:
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema, TensorSpec

    kinds = {"dep_hour": "integer", "distance": "integer"}
    inputs: list[ColSpec | TensorSpec] = [ColSpec(kinds.get(feature, "double"), feature) for feature in FEATURES]
    return ModelSignature(Schema(inputs), Schema([TensorSpec(np.dtype("float64"), (-1, 2))]))


def _experiment(client: MlflowClient, tracking_uri: str) -> str:
    """Return the experiment's ID. Artifacts are stored beside the database; MLflow's default is the current folder."""
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is not None:
        return str(experiment.experiment_id)
    folder = database_folder(tracking_uri)
    location = (folder / "mlartifacts").as_uri() if folder else None
    return str(client.create_experiment(EXPERIMENT, artifact_location=location))


@contextlib.contextmanager
def _as_default(tracking_uri: str) -> Iterator[None]:
    """Set MLflow's global store inside the block, because `log_model` uses only that one."""
    import mlflow

    variables = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")
    environ = {key: os.environ.get(key) for key in variables}
    was_set = mlflow.is_tracking_uri_set()
    tracking, registry = mlflow.get_tracking_uri(), mlflow.get_registry_uri()
    mlflow.set_tracking_uri(tracking_uri)
    mlflow.set_registry_uri(environ["MLFLOW_REGISTRY_URI"] or tracking_uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(tracking if was_set else None)  # type: ignore[arg-type]  # None unsets it
        mlflow.set_registry_uri(registry if registry != tracking else None)  # type: ignore[arg-type]
        for key, value in environ.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value
