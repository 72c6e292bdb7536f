"""A pipeline that only maps rows: one source, one SELECT, one model. The data has nulls and two origins per day."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from firesteel.pipelines import Pipeline, Plan
from firesteel.pipelines.publish.state_store import StateStore
from firesteel.pipelines.storage.open import locate
from support.deadly import save_deadly
from support.held import save_held
from support.mlflow_store import new_store
from support.models import save

DAY = "2024-01-01"
MAPPED = "SELECT id, a * 2 AS a, CAST(b AS DOUBLE) AS b, c, dt, origin FROM points WHERE c > :floor OR c IS NULL"
SPEC = """
spec_version: 1
name: points
storage: {root}/_firesteel/points
interval: {{column: dt, unit: day, begin: 2024-01-01}}
sources:
  points:
    path: {root}/points{source}
    partitions: {{dt: date, origin: string}}
    select: {{dt: "${{interval.ds}}"}}
    contract: {{mode: additive, columns: {{id: bigint, a: double, b: int, c: double}}}}
models:
  m: {{uri: "{model}", method: {method}, trust: {{formats: [skops, lightgbm, onnx, pickle]}}{challenger}}}
steps:
  features: {{sql: "{sql}", args: {{floor: -15.0{args}}}}}
  scored:
    score:
      input: features
      model: m{publish}
      keep: [id, c, dt, origin]
      output: {{p: "{output}"}}
      batch: {{rows: 64}}
      operator: {operator}
      accelerate: "{accelerate}"
      on_error: {{action: dead_letter, max_rows: 1000}}
sinks:
  scores: {{from: scored, path: "{root}/scores", partition_by: [dt, origin]{sink}, lineage_columns: [_run_id, _scored_at]}}
tracking: {{mlflow: {{uri: "sqlite:///{tracking}"}}}}
resources: {{master: "local[2]"}}
"""


@dataclass(frozen=True, slots=True)
class ScoringProject:
    """Data is below the URI `root`; models and tracking are local, in `folder`."""

    folder: Path
    root: str
    kind: str = "logistic"
    challenger: str = ""
    """The spec's own words, a mapping or a URI."""
    publish_challenger: str = ""
    source: str = ""
    sink: str = ""
    """More keys of the source and of the sink: `format: orc`."""

    @property
    def store(self) -> StateStore:
        """Return the state store of the pipeline."""
        return StateStore(*locate(f"{self.root}/_firesteel/points"), "points", "default")

    @property
    def sink_uri(self) -> str:
        """Return the URI of the sink."""
        return f"{self.root}/scores"

    def write_points(self, rows: int = 500, files: int = 3) -> None:
        """Write the points of one day, with nulls and integers in `b`, in several files and row groups per origin."""
        storage, base = locate(self.root)
        seed = np.random.default_rng(5)
        for number in range(files * 2):
            values = seed.normal(scale=20, size=(rows, 2))
            table = pa.table(
                {
                    "id": pa.array(range(number * rows, (number + 1) * rows), pa.int64()),
                    "a": pa.array([None if i % 11 == 3 else float(v) for i, v in enumerate(values[:, 0])]),
                    "b": pa.array([None if i % 17 == 5 else i % 40 - 20 for i in range(rows)], pa.int32()),
                    "c": pa.array(
                        [
                            None if i % 13 == 7 else float("nan") if i == 2 else float(v)
                            for i, v in enumerate(values[:, 1])
                        ]
                    ),
                }
            )
            sink = io.BytesIO()
            pq.write_table(table, sink, row_group_size=max(1, rows // 3))
            origin = "JFK" if number % 2 else "L%2FX"
            storage.create(f"{base}/points/dt={DAY}/origin={origin}/part-{number}.parquet", sink.getvalue())

    def plan(
        self,
        operator: str = "auto",
        accelerate: str = "off",
        sql: str = MAPPED,
        gates: str = "",
        *,
        force: bool = False,
        args: str = "",
    ) -> Plan:
        """Plan the day. `args` are additional args of the SQL step."""
        path = self.write(operator, accelerate, sql, gates, args=args)
        return Pipeline.load(path).plan(DAY, DAY, force=force)

    def write(
        self, operator: str = "auto", accelerate: str = "off", sql: str = MAPPED, gates: str = "", *, args: str = ""
    ) -> Path:
        """Write the model and the spec, and return the path of the spec."""
        model = self.folder / f"model-{self.kind}"
        if not model.exists():
            if self.kind == "deadly":
                save_deadly(model)
            elif self.kind == "held":
                save_held(model, self.folder / "marks")
            else:
                save(self.kind, model, example=True)
        proba = self.kind in {"logistic", "forest"}
        text = SPEC.format(
            root=self.root, args=f", {args}" if args else "", model=model, method="predict_proba" if proba else "predict", sql=sql, operator=operator,
            challenger=f", challenger: {self.challenger}" if self.challenger else "",
            source=f"\n    {self.source}" if self.source else "",
            sink=f", {self.sink}" if self.sink else "",
            publish=f"\n      publish_challenger: {self.publish_challenger}" if self.publish_challenger else "",
            accelerate=accelerate, output="double from [1]" if proba else "double", tracking=self.folder / "mlflow.db",
        )  # fmt: skip
        new_store(self.folder / "mlflow.db")
        path = self.folder / "pipeline.yaml"
        path.write_text(text + gates, encoding="utf-8")
        return path

    def published(self) -> pa.Table:
        """Return the published rows in the order of `id`, from the files, with the names of the directories."""
        storage, base = locate(f"{self.root}/scores")
        tables = []
        for status in storage.walk(base):
            folder = status.path[len(base) + 1 :].rpartition("/")[0]
            if not folder.startswith("dt=") or status.name.startswith(("_", ".")):
                continue
            table = pq.read_table(io.BytesIO(storage.read(status.path)))
            tables.append(table.append_column("folder", pa.repeat(folder, table.num_rows)))
        return pa.concat_tables(tables).sort_by("id")

    def dead(self) -> list[Any]:
        """Return the dead letters of all runs: (id, error, message)."""
        storage, base = locate(f"{self.root}/_firesteel/points/dead_letter")
        lines = [json.loads(line) for file in storage.walk(base) for line in storage.read(file.path).splitlines()]
        return sorted((line["row"]["id"], line["error"], line["message"]) for line in lines)


def rows_of(published: pa.Table) -> str:
    """Return rows as text without the columns that name the run; NaN is `NaN`."""
    return json.dumps(published.drop_columns(["_run_id", "_scored_at"]).to_pydict())


def assert_same_rows(published: pa.Table, expected: pa.Table) -> None:
    """Compare published rows. Scores may differ in the last digits, where batches have other rows."""
    left, right = (json.loads(rows_of(table.drop_columns(["p"]))) for table in (published, expected))
    assert left == right
    np.testing.assert_allclose(published.column("p").to_numpy(), expected.column("p").to_numpy(), rtol=1e-9)
