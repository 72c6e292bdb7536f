"""A real model that waits, in the middle of a batch, until a test has done its harm."""

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
        A process that waits leaves its id as the name of a file here, and goes on once there is a file `go`.
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
    """Save it as MLflow does."""
    import cloudpickle
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    cloudpickle.register_pickle_by_value(sys.modules[Held.__module__])  # workers cannot import the tests
    marks.mkdir(exist_ok=True)
    columns = [ColSpec("double", name) for name in ("a", "b", "c")]
    signature = ModelSignature(Schema(columns), Schema([ColSpec("double", "y")]))
    mlflow.pyfunc.save_model(folder, python_model=Held(str(marks), at), signature=signature, pip_requirements=[])


def holding(marks: Path) -> list[int]:
    """The processes that wait."""
    return sorted(int(path.name) for path in marks.iterdir() if path.name.isdigit())


@contextmanager
def in_mid_batch(marks: Path, harm: Callable[[list[int]], None], timeout_s: float = 240.0) -> Iterator[None]:
    """Do harm, with the ids of the processes that wait, once one does; then let all go on."""
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
