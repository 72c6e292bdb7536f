"""Link a run and its models in MLflow's UI, in both directions.

::

    run page, "Registered models" <--reads-- logged models of the run's own experiment, tag `mlflow.modelVersions`
    page of a logged model, "Runs" <--reads-- metrics that have the model's ID

MLflow's run page does not show logged models of other experiments, where training jobs log them. So each model version gets an external
logged model in the run's experiment, which names the version. That needs no permission on the registry or on the training experiment.
"""

from __future__ import annotations

import json
import logging
import re
from typing import TYPE_CHECKING

from firesteel.conf.errors import RuntimeFault
from firesteel.jobs.tracking.connect import mlflow_faults
from firesteel.jobs.tracking.page import challengers, registered_name
from firesteel.jobs.tracking.registry import registry_uri

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mlflow import MlflowClient
    from mlflow.entities import Metric

    from firesteel.pipelines.plan.model import ModelPlan, Plan

_LOG = logging.getLogger(__name__)

_SHOWN = ("rows_in", "scored", "dead_letter", "rows_per_second", "gate.", "drift.")
"""Names, or prefixes of names, of the metrics that a model's page shows."""
_NOT_IN_NAMES = re.compile(r"""[/:.%"'`]""")
"""Characters that MLflow does not allow in names of logged models, and the backtick."""


def link_training_models(client: MlflowClient, run_id: str, plan: Plan) -> list[str]:
    """Link a run and the models that training runs have logged, so that a model's page lists the run. Return the links that are missing.

    It needs the permission to edit the training experiment, which a batch account may not have.
    """
    from mlflow.entities import LoggedModelInput

    links, missing = [], []
    for model in plan.models:
        name = registered_name(model)
        if not name:
            continue
        # The link is optional: the registry may be on another server, or may no longer have the version.
        try:
            with mlflow_faults(registry_uri(client), f"linking {model.resolved_uri}"):
                source = client.get_model_version(name, model.version).source or ""
        except RuntimeFault as fault:
            missing.append(f"the MLflow run has no link to model {model.name}: {fault}")
            continue
        if source.startswith("models:/m-"):
            links.append(LoggedModelInput(source.removeprefix("models:/")))
    try:
        with mlflow_faults(client.tracking_uri, "linking the models"):
            if links:
                client.log_inputs(run_id, models=links)
    except RuntimeFault as fault:
        missing.append(f"the MLflow run has no link to the models of the training experiment: {fault}")
    return missing


def link_models(client: MlflowClient, run_id: str, plan: Plan, metrics: Iterable[Metric]) -> list[str]:
    """Link a run and its registered models. Return the links that are missing. An old server, which has no such links, is logged only.

    Parameters
    ----------
    metrics
        Metrics that the run has. Some are logged again, with the same time and value, for the models.
    """
    from mlflow.entities import LoggedModelInput, Metric

    shown = [metric for metric in metrics if metric.key.startswith(_SHOWN)]
    registered = [model for model in (*plan.models, *challengers(plan)) if registered_name(model)]
    try:
        with mlflow_faults(client.tracking_uri, "linking the run and its models"):
            run = client.get_run(run_id)
            linked = [model.model_id for model in run.inputs.model_inputs] if run.inputs else []
            own = [_own_model(client, run.info.experiment_id, model) for model in registered]
            if missing := [model_id for model_id in own if model_id not in linked]:
                client.log_inputs(run_id, models=[LoggedModelInput(model_id) for model_id in missing])
    except RuntimeFault as fault:
        text = f"the MLflow run has no link to its models: {fault}"
        if _is_unknown(fault.__cause__):
            _LOG.info("%s", text)
            return []
        return [text]
    for model_id in dict.fromkeys((*own, *linked)):
        try:
            with mlflow_faults(client.tracking_uri, f"listing the run on the page of model {model_id}"):
                points = [Metric(m.key, m.value, m.timestamp, m.step, model_id=model_id, run_id=run_id) for m in shown]
                client.log_batch(run_id, metrics=points)
        except RuntimeFault as fault:
            _LOG.info("the page of an MLflow model does not list the run: %s", fault)
    return []


def _is_unknown(error: BaseException | None) -> bool:
    """Return whether an old server does not know a call."""
    status = getattr(error, "get_http_status_code", None)
    return status is not None and status() == 404


def _own_model(client: MlflowClient, experiment_id: str, model: ModelPlan) -> str:
    """Return the ID of the experiment's logged model for a model version, and create it if it does not exist."""
    from mlflow.entities import LoggedModelStatus
    from mlflow.utils.mlflow_tags import MLFLOW_MODEL_IS_EXTERNAL, MLFLOW_MODEL_VERSIONS

    registered = registered_name(model)
    name = _NOT_IN_NAMES.sub("_", f"{registered}-v{model.version}")
    for existing in client.search_logged_models([experiment_id], f"name = '{name}'", max_results=1):
        return str(existing.model_id)
    tags = {
        MLFLOW_MODEL_IS_EXTERNAL: "true",
        MLFLOW_MODEL_VERSIONS: json.dumps([{"name": registered, "version": model.version}]),
    }
    created = client.create_logged_model(experiment_id, name, tags=tags)
    client.finalize_logged_model(created.model_id, LoggedModelStatus.READY)
    return str(created.model_id)
