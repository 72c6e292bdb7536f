"""Specs, plans and the publish transaction. Importing this package starts no JVM and does not import pyspark.

The three public names are imported on first use, so that users of the storage do not load the compiler.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from firesteel.pipelines.pipeline import Pipeline
    from firesteel.pipelines.plan.model import Plan
    from firesteel.pipelines.result import RunResult

__all__ = ["Pipeline", "Plan", "RunResult"]

_MODULES = {"Pipeline": "pipeline", "Plan": "plan.model", "RunResult": "result"}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
