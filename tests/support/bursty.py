"""A pipeline with small and large days, and slow models. A model is slow for a fixed time, or until executors start or end."""

from __future__ import annotations

import io
import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cloudpickle
import mlflow
import pyarrow as pa
import pyarrow.parquet as pq

from firesteel.pipelines import Pipeline, Plan
from firesteel.pipelines.storage.open import locate
from support.mlflow_store import new_store

ROWS = 20
SPEC = """
spec_version: 1
name: bursty
storage: {root}/_firesteel
interval: {{column: dt, unit: day, begin: 2024-01-01{interval}}}
sources:
  points:
    path: {root}/points
    partitions: {{dt: date}}
    select: {{dt: "${{interval.ds}}"}}
    contract: {{columns: {{id: bigint, a: double}}}}
models:
  slow: {{uri: "{folder}/model", trust: {{formats: [pickle]}}}}
steps:
  scored:
    score: {{input: points, model: slow, features: signature, keep: [id, dt], output: {{p: double}}, batch: {{rows: {rows}}}}}
sinks:
  scores: {{from: scored, path: "{root}/scores", partition_by: [dt]}}
tracking: {{mlflow: {{uri: "sqlite:///{folder}/mlflow.db"}}}}
resources: {resources}
configuration: {configuration}
"""


class Slow(mlflow.pyfunc.PythonModel):
    """Takes 0.1 s per row."""

    def predict(self, context, model_input, params=None):
        time.sleep(0.1 * len(model_input))
        return model_input["a"] * 2


class Crowd(mlflow.pyfunc.PythonModel):
    """Answers when as many executors are alive as column `a` says, of those that ever scored; for 1, when only its own is.

    So tests of scaling wait for executors and not for time, whatever the machine's speed.
    """

    def __init__(self, marks: Path, deadline_s: float = 150.0) -> None:
        self.marks, self.deadline_s = str(marks), deadline_s

    def predict(self, context, model_input, params=None):
        def parent(pid: int) -> int:
            return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])

        wanted, marks = int(model_input["a"].max()), Path(self.marks)
        (marks / str(parent(os.getppid()))).touch()  # of the JVM: a worker is a fork of its daemon
        deadline = time.monotonic() + self.deadline_s
        while time.monotonic() < deadline:
            alive = sum(Path(f"/proc/{mark.name}").exists() for mark in marks.iterdir())
            if alive == 1 if wanted == 1 else alive >= wanted:
                break
            time.sleep(0.05)
        return model_input["a"] * 2


@dataclass(frozen=True, slots=True)
class Bursty:
    """The pipeline. Data is below the URI `root`, by default in `folder`; the model and the tracking are in `folder`."""

    folder: Path
    crowd: bool = False
    root: str = ""

    def write(self, days: Mapping[str, int], wanted: Mapping[str, int] | None = None) -> None:
        """Write as many files of 20 rows as `days` says. A file takes 2 s, or waits for as many executors as `wanted` says."""
        if not (self.folder / "model").exists():
            self._model()
        for day, files in days.items():
            storage, base = locate(self._root)
            for number in range(files):
                ids = range(number * ROWS, (number + 1) * ROWS)
                values = [float((wanted or {}).get(day, each)) for each in ids]
                table = pa.table({"id": pa.array(ids, pa.int64()), "a": values})
                sink = io.BytesIO()
                pq.write_table(table, sink)
                storage.create(f"{base}/points/dt={day}/part-{number:03d}.parquet", sink.getvalue())

    def plan(
        self,
        start: str,
        end: str,
        resources: Mapping[str, object],
        configuration: Mapping[str, str] | None = None,
        *,
        interval: str = "",
        force: bool = False,
    ) -> Plan:
        """Plan a range of days."""
        text = SPEC.format(
            root=self._root, folder=self.folder, rows=ROWS, interval=interval,
            resources=json.dumps(resources), configuration=json.dumps(configuration or {}),
        )  # fmt: skip
        new_store(self.folder / "mlflow.db")
        path = self.folder / "pipeline.yaml"
        path.write_text(text, encoding="utf-8")
        return Pipeline.load(path).plan(start, end, force=force)

    def rows(self) -> dict[str, int]:
        """Return the published rows by day."""
        storage, base = locate(f"{self._root}/scores")
        found: dict[str, int] = {}
        for file in storage.walk(base):
            day = file.path[len(base) + 1 :].partition("/")[0].removeprefix("dt=")
            if file.name.endswith(".parquet"):
                found[day] = found.get(day, 0) + pq.read_metadata(io.BytesIO(storage.read(file.path))).num_rows
        return found

    @property
    def _root(self) -> str:
        return self.root or f"file://{self.folder}/data"

    def _model(self) -> None:
        from mlflow.models import ModelSignature
        from mlflow.types import ColSpec, Schema

        signature = ModelSignature(Schema([ColSpec("double", "a")]), Schema([ColSpec("double", "p")]))
        (self.folder / "marks").mkdir()
        model = Crowd(self.folder / "marks") if self.crowd else Slow()
        cloudpickle.register_pickle_by_value(sys.modules[__name__])  # executors cannot import the tests
        try:
            mlflow.pyfunc.save_model(self.folder / "model", python_model=model, signature=signature)
        finally:
            cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


def there(use: Mapping[str, Any], at_s: float) -> int:
    """Return how many executors of a result were alive at a time of the run, in seconds from its start."""
    return sum(
        life["added_s"] <= at_s and (life["removed_s"] is None or life["removed_s"] > at_s) for life in use["executors"]
    )
