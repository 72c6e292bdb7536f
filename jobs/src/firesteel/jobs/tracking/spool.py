"""Store run records that MLflow did not accept in the pipeline's storage, and deliver them later.

::

    <storage>/tracking/<profile>/<run id>.json    the plan and the result of one run
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

from pydantic import TypeAdapter

from firesteel.conf.errors import FiresteelError
from firesteel.conf.redaction import redact
from firesteel.jobs.tracking.connect import one_line
from firesteel.jobs.tracking.runs import RunTracker
from firesteel.pipelines.plan.model import Plan
from firesteel.pipelines.publish.state_store import StateStore, file_name
from firesteel.pipelines.result import RunResult
from firesteel.pipelines.storage.paths import join

if TYPE_CHECKING:
    from collections.abc import Sequence

_LOG = logging.getLogger(__name__)
_RESULT = TypeAdapter(RunResult)


def keep(store: StateStore, plan: Plan, result: RunResult, problems: Sequence[str]) -> str:
    """Store the record of a run whose tracker had problems. Return its path, or an empty string if the storage fails, too."""
    path = join(_folder(store), f"{file_name(result.run_id)}.json")
    record = {"plan": json.loads(plan.to_json()), "result": json.loads(result.to_json()), "problems": list(problems)}
    try:
        store.storage.create(path, redact(json.dumps(record, ensure_ascii=False)).encode())
    except FiresteelError as error:
        _LOG.warning("the MLflow record of run %s cannot be stored: %s", result.run_id, error)
        return ""
    record_uri = f"{store.storage.base_uri}{path}"
    _LOG.warning("the MLflow record is stored in %s until the next run or `firesteel recover` delivers it", record_uri)
    return record_uri


def deliver(store: StateStore) -> tuple[str, ...]:
    """Deliver stored records to MLflow. Rejected records stay in the storage.

    Delivery is idempotent: it finds a run by its ID and adds only the missing parts.

    Returns
    -------
    tuple of str
        IDs of the delivered runs.
    """
    delivered: list[str] = []
    try:
        for file in store.storage.walk(_folder(store)):
            record = _read(store, file.path)
            if record is None:
                continue
            plan, result = record
            tracker = RunTracker.again(plan, result)
            if tracker.problems:
                break  # the tracker has logged the problem, which affects the next record, too
            store.storage.delete(file.path)
            delivered.append(result.run_id)
            _LOG.info("delivered the record of run %s to MLflow: %s", result.run_id, tracker.url)
    except FiresteelError as error:
        _LOG.warning("MLflow records stay in %s: %s", _folder(store), error)
    return tuple(delivered)


def _read(store: StateStore, path: str) -> tuple[Plan, RunResult] | None:
    """Return a record, or None if it cannot be read. An unreadable record stays in the storage."""
    try:
        record = json.loads(store.storage.read(path))
        return Plan.from_json(json.dumps(record["plan"])), _RESULT.validate_python(record["result"])
    except (FiresteelError, ValueError, KeyError, TypeError) as error:
        _LOG.warning("the record %s cannot be read and stays in the storage: %s", path, one_line(error))
        return None


def _folder(store: StateStore) -> str:
    return join(store.base, "tracking", file_name(store.profile))
