"""A real model that waits in the middle of a batch, so that a test can kill or change something."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow

from support.waiting import wait_for


class Held(mlflow.pyfunc.PythonModel):
    """The score of a row is its `a`. One batch waits: the second of each process, or those in which some `a` is `at`.

    Parameters
    ----------
    folder
        A waiting process creates a file here with its id as the name. It continues when a file `go` exists.
    """

    def __init__(self, folder: str, at: float | None = None) -> None:
        self.folder = folder
        self.at = at
        self.batches = 0

    def predict(self, context, model_input, params=None):
        self.batches += 1
        values = model_input["a"].to_numpy()
        if self.batches == 2 if self.at is None else (values == self.at).any():
            Path(self.folder, str(os.getpid())).touch()
            deadline = time.monotonic() + 240
            while not Path(self.folder, "go").exists():
                if time.monotonic() > deadline:
                    raise TimeoutError("nobody said go")
                time.sleep(0.02)
        return values


def save_held(folder: Path, marks: Path, at: float | None = None) -> None:
    """Save the model with MLflow."""
    import cloudpickle
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    cloudpickle.register_pickle_by_value(sys.modules[Held.__module__])  # workers cannot import the tests
    marks.mkdir(exist_ok=True)
    columns = [ColSpec("double", name) for name in ("a", "b", "c")]
    signature = ModelSignature(Schema(columns), Schema([ColSpec("double", "y")]))
    mlflow.pyfunc.save_model(folder, python_model=Held(str(marks), at), signature=signature, pip_requirements=[])


def holding(marks: Path) -> list[int]:
    """Return the ids of the waiting processes."""
    return sorted(int(path.name) for path in marks.iterdir() if path.name.isdigit())


@contextmanager
def in_mid_batch(marks: Path, harm: Callable[[list[int]], None], timeout_s: float = 240.0) -> Iterator[None]:
    """Call a function with the ids of the waiting processes when one waits; then let all continue."""
    failed: list[BaseException] = []

    def act() -> None:
        try:
            wait_for(lambda: bool(holding(marks)), "a worker is in the middle of a batch", timeout_s)
            harm(holding(marks))
        except BaseException as error:  # noqa: BLE001 - it is raised in the test's own thread
            failed.append(error)
        finally:
            (marks / "go").touch()

    thread = threading.Thread(target=act)
    thread.start()
    try:
        yield
    finally:
        thread.join()
    if failed:
        raise failed[0]
