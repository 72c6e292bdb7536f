"""Open the MLflow experiment of a pipeline, and create it if it does not exist."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from firesteel.conf.errors import RuntimeFault
from firesteel.conf.redaction import redact
from firesteel.jobs.tracking.connect import connect, database_folder, mlflow_faults

if TYPE_CHECKING:
    from mlflow import MlflowClient

_KIND = {"mlflow.experimentKind": "custom_model_development"}
"""Makes MLflow show the experiment as runs with metrics. Otherwise it may show conversations."""


def open_experiment(uri: str, experiment: str) -> tuple[MlflowClient, str]:
    """Return a client and the ID of the experiment."""
    client = connect(uri)
    return client, find_experiment(client, experiment)


def find_experiment(client: MlflowClient, experiment: str) -> str:
    """Return the ID of an experiment, and create it if it does not exist."""
    with mlflow_faults(client.tracking_uri, f"opening experiment {experiment}", edit_permission(experiment)):
        return _find_or_create(client, experiment, client.tracking_uri)


def edit_permission(experiment: str) -> str:
    """Return the permission that recording runs needs, for messages."""
    return f"EDIT on the experiment {experiment}"


def experiment_name(experiment: str, pipeline: str) -> str:
    """Return the name of a pipeline's experiment. `experiment` is that of the spec, and may be empty."""
    return experiment or f"firesteel/{pipeline}"


def _find_or_create(client: MlflowClient, name: str, uri: str) -> str:
    """Return the experiment's ID. For a SQLite store, artifacts are stored beside the database, not in the working directory."""
    from mlflow.exceptions import MlflowException

    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        folder = database_folder(uri)
        location = (folder / "mlartifacts" / name.strip("/")).as_uri() if folder else None
        artifact_uri = location or (uri if urlsplit(uri).scheme in ("", "file") else "")
        if redact(artifact_uri) != artifact_uri:
            raise RuntimeFault(
                "FS9003",
                f"the artifact path of experiment {name}, which MLflow would store, contains a secret: {redact(artifact_uri)}.",
                hint="Create the experiment with another artifact location, or remove the secret from the path.",
            )
        try:
            return client.create_experiment(name, artifact_location=location, tags=_KIND)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            experiment = client.get_experiment_by_name(name)  # another driver has created it
    if experiment is None or experiment.lifecycle_stage != "active":
        raise RuntimeFault(
            "FS9003",
            f"the MLflow experiment {name} is deleted.",
            hint="Restore the experiment, or set another one in tracking.mlflow.experiment.",
        )
    return experiment.experiment_id
