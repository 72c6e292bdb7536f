"""A real model that fails on some rows."""

from __future__ import annotations

import sys
from pathlib import Path

import mlflow

from support.mlflow_store import new_store


class Picky(mlflow.pyfunc.PythonModel):
    """Fails on flights of 107 miles."""

    def predict(self, context, model_input, params=None):
        if (model_input["distance"] == 107).any():
            raise ValueError("a distance that it was not made for")
        return model_input["distance"] / 1000.0


class Mended(mlflow.pyfunc.PythonModel):
    """The next version, which scores all flights."""

    def predict(self, context, model_input, params=None):
        return model_input["distance"] / 1000.0


def register_mended(folder: Path, uri: str) -> None:
    """Log the next version as models:/picky/2."""
    _register(folder, uri, Mended())


def register_picky(folder: Path) -> str:
    """Log the model as models:/picky/1 in a new registry, and return the tracking URI."""
    uri = new_store(folder / "mlflow.db")
    mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri).create_registered_model("picky")
    _register(folder, uri, Picky())
    return uri


def _register(folder: Path, uri: str, model: mlflow.pyfunc.PythonModel) -> None:
    import cloudpickle
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    cloudpickle.register_pickle_by_value(sys.modules[Picky.__module__])  # workers cannot import the tests
    path = folder / type(model).__name__
    signature = ModelSignature(Schema([ColSpec("integer", "distance")]), Schema([ColSpec("double", "y")]))
    mlflow.pyfunc.save_model(path, python_model=model, signature=signature)
    mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri).create_model_version("picky", str(path))


PICKY = {
    "models:/flight_delay@champion": "models:/picky/1",
    "    method: predict_proba\n": "",
    "formats: [skops, onnx]": "formats: [pickle]",
    '"double from [1]"': "double",
}
"""What makes the flights example score with it."""
