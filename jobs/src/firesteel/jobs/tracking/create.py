"""Create an MLflow run once, also if the answer of the server is lost.

MLflow's client repeats a request whose answer it has not received. If the server has acted before, a repeated `runs/create` makes a
second run. Here the client sends the request once. After a failure, the run is looked up by its tags before it is created again.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mlflow import MlflowClient
    from mlflow.entities import Run

RUN_ID = "firesteel.run_id"
INTERVAL = "firesteel.interval"

_PAGE = 1000
_PAUSES_S = (0.2, 1.0, 4.0)
"""Pauses before the second and each further request."""
_RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
_TIMEOUT = "MLFLOW_HTTP_REQUEST_TIMEOUT"
_REFUSED = frozenset({400, 401, 403, 404})
"""Answers that a repeated request does not change."""


def search_all(client: MlflowClient, experiment_id: str, query: str) -> list[Run]:
    """Return all runs of an experiment that a query finds, oldest first."""
    runs: list[Run] = []
    token: str | None = None
    while True:
        page = client.search_runs(
            [experiment_id], query, max_results=_PAGE, order_by=["attributes.start_time ASC"], page_token=token
        )
        runs += page
        token = page.token
        if not token:
            return runs


def runs_of(client: MlflowClient, experiment_id: str, run_id: str) -> list[Run]:
    """Return the MLflow runs of a firesteel run: the parent and its children, oldest first."""
    return search_all(client, experiment_id, f"tags.`{RUN_ID}` = '{run_id}'")


def create_once(
    client: MlflowClient, experiment_id: str, tags: Mapping[str, str], name: str, start_time: int | None = None
) -> str:
    """Create an MLflow run and return its ID. The tags `firesteel.run_id` and `firesteel.interval` identify the run."""
    from mlflow.exceptions import MlflowException
    from requests.exceptions import RequestException

    for pause_s in (*_PAUSES_S, None):
        try:
            with sent_once():
                return client.create_run(
                    experiment_id, start_time=start_time, tags=dict(tags), run_name=name
                ).info.run_id
        except (MlflowException, RequestException) as error:
            if _status(error) in _REFUSED:
                raise
            for run in runs_of(client, experiment_id, tags[RUN_ID]):
                if run.data.tags.get(INTERVAL) == tags.get(INTERVAL):
                    return run.info.run_id
            if pause_s is None:
                raise
            time.sleep(pause_s)
    raise AssertionError("unreachable")


def _status(error: Exception) -> int:
    """Return the HTTP status that MLflow answered; 500 if there was no answer."""
    status = getattr(error, "get_http_status_code", None)
    return status() if status else 500


@contextlib.contextmanager
def sent_once(timeout_s: float | None = None) -> Iterator[None]:
    """Make MLflow's client send each request once, and wait at most `timeout_s` for its answer. MLflow reads the variables at each request."""
    changed = {_RETRIES: "0"} if timeout_s is None else {_RETRIES: "0", _TIMEOUT: f"{timeout_s:g}"}
    before = {name: os.environ.get(name) for name in changed}
    os.environ.update(changed)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
