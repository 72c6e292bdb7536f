"""A real model whose process dies on some rows, in several ways."""

from __future__ import annotations

import ctypes
import itertools
import os
import signal
import sys
from pathlib import Path

import mlflow

SEGFAULT, KILLED, EXITS, HANGS, RAISES = (float(number) for number in range(1_000_001, 1_000_006))
"""Values of `a` that do it."""


class Deadly(mlflow.pyfunc.PythonModel):
    """The score of a row is its `a`."""

    def predict(self, context, model_input, params=None):
        values = set(model_input["a"])
        if SEGFAULT in values:
            ctypes.string_at(0)
        if KILLED in values:  # as the kernel does where memory runs out
            os.kill(os.getpid(), signal.SIGKILL)
        if EXITS in values:
            os._exit(3)
        if HANGS in values:  # a loop in C that holds the interpreter and looks at no signal
            sum(itertools.repeat(0))
        if RAISES in values:
            raise ValueError("as models do")
        return model_input["a"].to_numpy()


def save_deadly(folder: Path) -> None:
    """Save the model with MLflow."""
    import cloudpickle
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    cloudpickle.register_pickle_by_value(sys.modules[Deadly.__module__])  # workers cannot import the tests
    columns = [ColSpec("double", name) for name in ("a", "b", "c")]
    signature = ModelSignature(Schema(columns), Schema([ColSpec("double", "y")]))
    mlflow.pyfunc.save_model(folder, python_model=Deadly(), signature=signature, pip_requirements=[])
