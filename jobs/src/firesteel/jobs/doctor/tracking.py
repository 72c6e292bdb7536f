"""Check that MLflow is reachable and that the account has each permission that a run needs. The checks leave nothing in MLflow."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from firesteel.conf.check import Check
from firesteel.conf.errors import FiresteelError
from firesteel.conf.secrets import reveal
from firesteel.jobs.tracking.artifacts import check_readable
from firesteel.jobs.tracking.connect import connect, mlflow_faults, without_secrets
from firesteel.jobs.tracking.experiment import edit_permission, experiment_name
from firesteel.jobs.tracking.registry import find_version
from firesteel.pipelines.plan.security import held_to_security

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

    from firesteel.pipelines.spec.model import Spec


@held_to_security
def tracking_checks(spec: Spec) -> list[Check]:
    """Check the server, the registered models, the experiment and its artifact location, in the order of a run."""
    return list(_tracking(spec))


def _tracking(spec: Spec) -> Iterator[Check]:
    uri = spec.tracking.mlflow.uri
    try:
        missing = _missing_database(reveal(uri))
        if missing is not None:  # connecting would create it, and a check must not change anything
            yield Check("mlflow", "note", f"{missing} does not exist yet", "The first run creates it.")
            return
        client = connect(uri)
    except FiresteelError as error:
        yield Check("mlflow", "fail", error.what, error.hint)
        return
    yield Check("mlflow", "ok", without_secrets(client.tracking_uri))
    uris = [model.uri for model in spec.models.values()]
    uris += [model.challenger.uri for model in spec.models.values() if model.challenger is not None]
    for model in dict.fromkeys(uris):
        if model.startswith("models:"):
            yield _model(model, uri)
    yield from experiment_checks(client, experiment_name(spec.tracking.mlflow.experiment, spec.name))


def _model(model: str, uri: str) -> Check:
    """Check that the account can read the version and its files. A plan downloads them."""
    try:
        version, source = find_version(model, uri)
        check_readable(source, uri)
    except FiresteelError as error:
        return Check("model", "fail", error.what, error.hint)
    return Check("model", "ok", f"{model}: version {version}, files are readable")


def experiment_checks(client: MlflowClient, name: str) -> Iterator[Check]:
    """Check that runs and their artifacts can be recorded in an experiment."""
    uri, needs = client.tracking_uri, edit_permission(name)
    try:
        with mlflow_faults(uri, f"opening experiment {name}", needs):
            experiment = client.get_experiment_by_name(name)
        if experiment is None:
            create = f"the permission to create experiments, or create {name} and grant EDIT on it"
            _authorised(uri, "experiments/create", {"name": ""}, f"creating experiment {name}", create)
            yield Check("experiment", "ok", f"{name} does not exist yet; the first run creates it")
            return
        if experiment.lifecycle_stage != "active":
            advice = "Restore the experiment, or set another one in tracking.mlflow.experiment."
            yield Check("experiment", "fail", f"{name} is deleted", advice)
            return
        body = {"experiment_id": experiment.experiment_id, "start_time": "no number"}
        _authorised(uri, "runs/create", body, f"creating a run in experiment {name}", needs)
    except FiresteelError as error:
        yield Check("experiment", "fail", error.what, error.hint)
        return
    yield Check("experiment", "ok", f"{name}: runs can be recorded")
    yield _artifacts(client, experiment, needs)


def _authorised(uri: str, endpoint: str, body: dict[str, str], doing: str, needs: str) -> None:
    """Check a permission by a request with a value that is not valid: the server authorises the request first, then refuses it.

    Databases have no accounts of MLflow.

    Raises
    ------
    RuntimeFault
        FS9034 or FS9035 if the server does not authorise the request.
    """
    if urlsplit(uri).scheme not in ("http", "https"):
        return
    from mlflow.exceptions import MlflowException
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request_safe

    with mlflow_faults(uri, doing, needs):
        try:
            http_request_safe(get_default_host_creds(uri), f"/api/2.0/mlflow/{endpoint}", "POST", json=body)
        except MlflowException as error:
            if error.error_code not in ("INVALID_PARAMETER_VALUE", "BAD_REQUEST"):
                raise


def _artifacts(client: MlflowClient, experiment: Experiment, needs: str) -> Check:
    """Check the artifact location: a file is written and deleted. If the server proxies it, EDIT allows to write but not to delete."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    uri, location = client.tracking_uri, experiment.artifact_location
    shown = without_secrets(location)
    try:
        if urlsplit(location).scheme in ("mlflow-artifacts", "http", "https"):
            with mlflow_faults(uri, f"listing {shown}", needs):
                get_artifact_repository(location, tracking_uri=uri).list_artifacts()
            return Check("artifacts", "ok", f"{shown}: the server lists it; no file was written")
        folder = f"{location.rstrip('/')}/firesteel-doctor-{secrets.token_hex(4)}"
        with mlflow_faults(uri, f"writing to {shown}"), tempfile.TemporaryDirectory() as local:
            file = Path(local, "doctor.txt")
            file.write_text("`firesteel doctor` has written this file. You can delete it.\n")
            repository = get_artifact_repository(folder, tracking_uri=uri)
            repository.log_artifact(str(file))
    except FiresteelError as error:
        return Check("artifacts", "fail", error.what, error.hint)
    try:
        with mlflow_faults(uri, f"deleting {folder}"):
            repository.delete_artifacts()
    except FiresteelError as error:
        advice = f"Delete {folder}. Runs do not need this permission."
        return Check("artifacts", "note", f"{shown} is writable, but {error.what}", advice)
    return Check("artifacts", "ok", f"{shown} is writable")


def _missing_database(uri: str) -> Path | None:
    import mlflow

    scheme, _, path = (uri or mlflow.get_tracking_uri()).partition(":///")
    return Path(path) if scheme.startswith("sqlite") and not Path(path).exists() else None
