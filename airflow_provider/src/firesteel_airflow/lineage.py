"""The parent of a run for OpenLineage: the task and its DAG run, in the environment variables that integrations use."""

from __future__ import annotations

import logging
from typing import Any

_log = logging.getLogger(__name__)


def parent_environment(task_instance: Any) -> dict[str, str]:
    """Return `OPENLINEAGE_PARENT_ID` and `OPENLINEAGE_ROOT_PARENT_ID` as namespace/name/run id.

    Return nothing if Airflow's OpenLineage provider is missing or off: the parent would have no events.
    """
    try:
        from airflow.providers.openlineage import conf
        from airflow.providers.openlineage.plugins.macros import lineage_parent_id, lineage_root_parent_id
    except ImportError:
        return {}
    if conf.is_disabled():
        return {}
    try:
        return {
            "OPENLINEAGE_PARENT_ID": lineage_parent_id(task_instance),
            "OPENLINEAGE_ROOT_PARENT_ID": lineage_root_parent_id(task_instance),
        }
    except Exception as error:  # noqa: BLE001 - lineage must not fail a task
        _log.warning("the run has no parent in OpenLineage: %s: %s", type(error).__name__, error)
        return {}
