"""firesteel in Airflow 3: an operator, a trigger and a task group for backfills.

This package is installed in Airflow's environment, and firesteel is not: the two pin different packages. The operator starts
firesteel's command line, which runs in its own environment.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from firesteel_airflow.backfill import backfill_group
    from firesteel_airflow.operator import FiresteelOperator
    from firesteel_airflow.trigger import FiresteelTrigger

__all__ = ["FiresteelOperator", "FiresteelTrigger", "backfill_group"]

_MODULES = {"FiresteelOperator": "operator", "FiresteelTrigger": "trigger", "backfill_group": "backfill"}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
