"""Write params, metrics and tags of an MLflow run in one call, within MLflow's limits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from firesteel.conf.redaction import redact

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlflow import MlflowClient

TAG_LIMIT = 5000
_PARAM_LIMIT = 6000


def log_values(
    client: MlflowClient,
    run_id: str,
    *,
    params: Mapping[str, str] | None = None,
    metrics: Mapping[str, float] | None = None,
    tags: Mapping[str, str] | None = None,
) -> None:
    """Record values of a run. Long texts are cut, and params are without secrets."""
    from mlflow.entities import Metric, Param, RunTag
    from mlflow.utils.time import get_current_time_millis

    now = get_current_time_millis()
    client.log_batch(
        run_id,
        metrics=[Metric(name, value, now, 0) for name, value in (metrics or {}).items()],
        params=[Param(name, redact(value)[:_PARAM_LIMIT]) for name, value in (params or {}).items()],
        tags=[RunTag(name, value[:TAG_LIMIT]) for name, value in (tags or {}).items()],
    )
