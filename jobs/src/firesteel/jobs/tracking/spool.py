"""Records that MLflow did not take, kept in the pipeline's storage until a later run, or `recover`, can deliver them.

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
    """Keep the record of a run whose tracker had problems; returns where, or nothing when the storage refuses as well."""
    path = join(_folder(store), f"{file_name(result.run_id)}.json")
    record = {"plan": json.loads(plan.to_json()), "result": json.loads(result.to_json()), "problems": list(problems)}
    try:
        store.storage.create(path, redact(json.dumps(record, ensure_ascii=False)).encode())
    except FiresteelError as error:
        _LOG.warning("the MLflow record of run %s is not kept: %s", result.run_id, error)
        return ""
    place = f"{store.storage.base_uri}{path}"
    _LOG.warning("the MLflow record is kept in %s until the next run, or `firesteel recover`, can deliver it", place)
    return place


def deliver(store: StateStore) -> tuple[str, ...]:
    """Give MLflow what it did not take before. What it refuses again stays where it is.

    Delivering twice is harmless: a run is found by its id, and what it lacks is added.

    Returns
    -------
    tuple of str
        The runs that MLflow has now.
    """
    delivered: list[str] = []
    try:
        for file in store.storage.walk(_folder(store)):
            kept = _read(store, file.path)
            if kept is None:
                continue
            plan, result = kept
            tracker = RunTracker.again(plan, result)
            if tracker.problems:
                break  # it is said already, and the next record would meet the same
            store.storage.delete(file.path)
            delivered.append(result.run_id)
            _LOG.info("MLflow has the record of run %s now: %s", result.run_id, tracker.url)
    except FiresteelError as error:
        _LOG.warning("records that MLflow did not take stay in %s: %s", _folder(store), error)
    return tuple(delivered)


def _read(store: StateStore, path: str) -> tuple[Plan, RunResult] | None:
    """A record; None for one that cannot be read, which stays for a person and is in nobody's way."""
    try:
        record = json.loads(store.storage.read(path))
        return Plan.from_json(json.dumps(record["plan"])), _RESULT.validate_python(record["result"])
    except (FiresteelError, ValueError, KeyError, TypeError) as error:
        _LOG.warning("the record %s cannot be read, and stays: %s", path, one_line(error))
        return None


def _folder(store: StateStore) -> str:
    return join(store.base, "tracking", file_name(store.profile))
