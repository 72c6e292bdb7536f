"""Batch inference on Spark as one transaction.

The names are imported on first use: ``import firesteel`` imports neither pyspark, MLflow nor pandas.

In a checkout the package spans several component roots; ``extend_path`` joins them. A wheel has one folder.
"""

from __future__ import annotations

import importlib
from pkgutil import extend_path
from typing import TYPE_CHECKING

__path__ = extend_path(__path__, __name__)

if TYPE_CHECKING:
    from firesteel.api.read import read
    from firesteel.api.score import score
    from firesteel.conf.errors import (
        FiresteelError,
        GateFailed,
        InputNotReady,
        LeaseConflict,
        ModelError,
        NotAllowed,
        PlanDrift,
        RowErrorBudget,
        RuntimeFault,
        SpecError,
        SpecErrors,
        SqlError,
        StorageError,
    )
    from firesteel.pipelines.pipeline import Pipeline
    from firesteel.pipelines.plan.model import Plan
    from firesteel.pipelines.result import RunResult

    __version__: str

__all__ = [
    "FiresteelError",
    "GateFailed",
    "InputNotReady",
    "LeaseConflict",
    "ModelError",
    "NotAllowed",
    "Pipeline",
    "Plan",
    "PlanDrift",
    "RowErrorBudget",
    "RunResult",
    "RuntimeFault",
    "SpecError",
    "SpecErrors",
    "SqlError",
    "StorageError",
    "__version__",
    "read",
    "score",
]

_MODULES = {
    "Pipeline": "pipelines.pipeline",
    "Plan": "pipelines.plan.model",
    "RunResult": "pipelines.result",
    "read": "api.read",
    "score": "api.score",
}
"""The module of each name that is not an error."""


def __getattr__(name: str) -> object:
    """Import a public name on first use."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "__version__":
        value: object = importlib.import_module("firesteel.conf.version").VERSION
    else:
        value = getattr(importlib.import_module(f"firesteel.{_MODULES.get(name, 'conf.errors')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the public names."""
    return __all__
