"""Store run records that MLflow did not accept in the pipeline's storage, and deliver them later.

::

    <storage>/tracking/<profile>/<run id>.json    the plan and the result of one run, and the attempts to deliver them
"""

from __future__ import annotations

import json
import logging
import time
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from firesteel.conf.errors import FiresteelError, RuntimeFault
from firesteel.conf.redaction import redact
from firesteel.jobs.tracking.connect import connect, one_line
from firesteel.jobs.tracking.runs import RunTracker
from firesteel.pipelines.plan.model import Plan
from firesteel.pipelines.publish.state_store import StateStore, file_name
from firesteel.pipelines.result import RunResult
from firesteel.pipelines.storage.paths import join

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlflow import MlflowClient

_LOG = logging.getLogger(__name__)
_RESULT = TypeAdapter(RunResult)

_FIRST_PAUSE_S = 60.0
_LAST_PAUSE_S = 86_400.0
"""A rejected record is sent again after one minute, then after twice as long each time, at most a day."""


def keep(store: StateStore, plan: Plan, result: RunResult, problems: Sequence[str]) -> str:
    """Store the record of a run whose tracker had problems. Return its path, or an empty string if the storage fails, too."""
    path = join(_folder(store), f"{file_name(result.run_id)}.json")
    record = {"plan": json.loads(plan.to_json()), "result": json.loads(result.to_json()), "problems": list(problems)}
    try:
        store.storage.create(path, _encode(record))
    except FiresteelError as error:
        _LOG.warning("the MLflow record of run %s cannot be stored: %s", result.run_id, error)
        return ""
    record_uri = f"{store.storage.base_uri}{path}"
    _LOG.warning("the MLflow record is stored in %s until the next run or `firesteel recover` delivers it", record_uri)
    return record_uri


def deliver(
    store: StateStore, tracking_uri: str, client: MlflowClient | None = None, *, deadline: float | None = None
) -> tuple[str, ...]:
    """Deliver stored records to MLflow, each on its own. Rejected records stay in the storage, with the reason.

    Delivery is idempotent: it finds a run by its ID and adds only the missing parts.

    Others may be able to write to the storage. A record therefore does not choose the server, which gets the credentials of this user
    and the secrets in its URI: records of other servers stay in the storage.

    Parameters
    ----------
    tracking_uri
        The tracking URI of the spec or plan of this command.
    client
        A connected client. By default the function connects when a record needs it.
    deadline
        The `time.monotonic()` at which the rest is left to the next command, which also leaves out records that MLflow has rejected
        a short time ago. None: deliver all.

    Returns
    -------
    tuple of str
        IDs of the delivered runs.
    """
    delivered: list[str] = []
    for file in list(store.storage.walk(_folder(store))):
        if deadline is not None and time.monotonic() > deadline:
            _LOG.warning("MLflow answers slowly: the next command, or `firesteel recover`, delivers the other records")
            break
        stored = _read(store, file.path)
        if stored is None:
            continue
        record, plan, result = stored
        if plan.tracking.uri != tracking_uri:
            _LOG.warning(
                "the record of run %s stays in %s%s: it is for another MLflow server than `tracking.mlflow.uri`. Set that URI to the "
                "server of the record and run `firesteel recover`, or delete the record",
                result.run_id,
                store.storage.base_uri,
                file.path,
            )
            continue
        if deadline is not None and time.time() < record.get("next_at", 0.0):
            continue
        if client is None:
            try:
                client = connect(tracking_uri)
            except RuntimeFault as fault:
                _LOG.warning("the MLflow records stay in the storage: %s", fault)
                break
        problem = _send(plan, result, client)
        if problem:
            _postpone(store, file.path, record, result.run_id, problem)
            continue
        store.storage.delete(file.path)
        delivered.append(result.run_id)
    return tuple(delivered)


def _send(plan: Plan, result: RunResult, client: MlflowClient) -> str:
    """Send a record. Return the problem, or an empty string."""
    try:
        tracker = RunTracker.again(plan, result, client)
    except Exception as error:  # noqa: BLE001 - the artifact stores of MLflow raise any type
        return one_line(error)
    if tracker.problems:
        return tracker.problems[0]
    _LOG.info("delivered the record of run %s to MLflow: %s", result.run_id, tracker.url)
    return ""


def _postpone(store: StateStore, path: str, record: dict[str, Any], run_id: str, problem: str) -> None:
    """Store what stopped a record, and when a run tries again."""
    attempts = record.get("attempts", 0) + 1
    pause_s = min(_FIRST_PAUSE_S * 2 ** min(attempts - 1, 20), _LAST_PAUSE_S)
    changed = record | {"problems": [problem], "attempts": attempts, "next_at": time.time() + pause_s}
    _LOG.warning(
        "MLflow rejected the record of run %s %d times; it stays in %s%s for at least %.0f s, or until `firesteel recover`: %s",
        run_id,
        attempts,
        store.storage.base_uri,
        path,
        pause_s,
        problem,
    )
    try:
        store.storage.replace(path, _encode(changed))
    except FiresteelError as error:
        _LOG.warning("the attempt to deliver %s cannot be stored: %s", path, error)


def _read(store: StateStore, path: str) -> tuple[dict[str, Any], Plan, RunResult] | None:
    """Return a record, or None if it cannot be read. An unreadable record stays in the storage."""
    try:
        record = json.loads(store.storage.read(path))
        plan, result = Plan.from_json(json.dumps(record["plan"])), _RESULT.validate_python(record["result"])
    except (FiresteelError, ValueError, KeyError, TypeError) as error:
        _LOG.warning("the record %s cannot be read and stays in the storage: %s", path, one_line(error))
        return None
    if (plan.pipeline, plan.profile) != (store.pipeline, store.profile):
        whose = f"{plan.pipeline}, profile {plan.profile or 'none'}"
        _LOG.warning("the record %s stays in the storage: it is a record of %s", path, whose)
        return None
    return record, plan, result


def _encode(record: Mapping[str, Any]) -> bytes:
    return redact(json.dumps(record, ensure_ascii=False)).encode()


def _folder(store: StateStore) -> str:
    return join(store.base, "tracking", file_name(store.profile))
