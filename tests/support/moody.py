"""A real model that misbehaves on request, as a challenger can."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import mlflow
import pandas as pd

from firesteel.udfs.digest import digest_of
from firesteel.udfs.spec import ModelRef


class Moody(mlflow.pyfunc.PythonModel):
    """The score of a row is its `a` plus a small number, unless the mood says otherwise."""

    def __init__(self, mood: str) -> None:
        self.mood = mood

    def load_context(self, context):
        if self.mood == "does not load":
            raise RuntimeError("not today")

    def predict(self, context, model_input, params=None):
        a = model_input["a"].to_numpy()
        if self.mood == "fails on some" and (a > 25).any():
            raise KeyError("too large for me")
        if self.mood == "fails on all":
            raise ValueError("no")
        if self.mood == "lacks a package":
            import no_such_package  # noqa: F401
        if self.mood == "is late":
            time.sleep(60)
        if self.mood == "is wide":
            return pd.DataFrame({"x": a, "y": a})
        return a + 0.005


def save_moody(folder: Path, mood: str) -> ModelRef:
    """Save the model with MLflow."""
    import cloudpickle
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    cloudpickle.register_pickle_by_value(sys.modules[Moody.__module__])  # workers cannot import the tests
    signature = ModelSignature(Schema([ColSpec("double", "a")]), Schema([ColSpec("double", "y")]))
    mlflow.pyfunc.save_model(folder, python_model=Moody(mood), signature=signature, pip_requirements=[])
    return ModelRef("moody", digest_of(folder).hex, str(folder), format="pickle")
