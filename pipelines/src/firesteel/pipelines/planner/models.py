"""Pin the models of a plan."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from firesteel.conf.errors import Where
from firesteel.pipelines.backend import Backend
from firesteel.pipelines.plan.model import ModelPlan
from firesteel.pipelines.spec.model import Model, Spec

_PYTHON_KEYS = ("spark.pyspark.python", "spark.executorEnv.PYSPARK_PYTHON")
_IMAGE_KEYS = ("spark.kubernetes.container.image", "spark.kubernetes.executor.container.image")


@dataclass(frozen=True, slots=True)
class ModelPinner:
    """Pins models with the backend. `other_python` says that the executors have another Python environment than this process.

    The packages of this process are then not compared with those that a model requires: the executors compare theirs.
    """

    backend: Backend
    spec: Spec
    other_python: bool = False

    def __call__(self, name: str, model: Model, where: Where) -> ModelPlan:
        """Return the pinned model."""
        asked = model
        if self.other_python or sets_python(self.spec.resources.master, self.spec.configuration):
            asked = model.model_copy(update={"requirements": "ignore"})
        pinned = self.backend.resolve_model(name, asked, self.spec.tracking.mlflow.uri, where)
        return replace(pinned, requirements=model.requirements)


def sets_python(master: str, settings: Mapping[str, str]) -> bool:
    """Return whether Spark settings or PYSPARK_PYTHON give the executors another Python than that of this process."""
    if master.startswith("k8s://") or any(key in settings for key in _IMAGE_KEYS):
        return True
    pythons = [*(settings.get(key) for key in _PYTHON_KEYS), os.environ.get("PYSPARK_PYTHON")]
    return any(python and not _is_this(python) for python in pythons)


def _is_this(python: str) -> bool:
    """Return whether a path or name is a Python of this environment, which has several names of it in one folder."""
    path = shutil.which(python)
    return path is not None and Path(path).parent == Path(sys.executable).parent
