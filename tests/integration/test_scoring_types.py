"""What goes through a model and comes back is what it was, bit for bit: every type, nulls, rows of a MiB."""

from __future__ import annotations

import datetime as dt
import decimal
import io
import sys
from pathlib import Path

import cloudpickle
import mlflow
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from mlflow.models import ModelSignature
from mlflow.types.schema import AnyType, ColSpec, Schema

from firesteel.jobs.run.plan_runner import run_plan
from firesteel.pipelines import Pipeline
from firesteel.pipelines.storage.open import locate
from support.mlflow_store import new_store

pytestmark = pytest.mark.integration

DAY = "2024-01-01"
TYPES = {
    "big": "bigint",
    "flag": "boolean",
    "small": "tinyint",
    "single": "float",
    "text": "string",
    "amount": "decimal(20,3)",
    "day": "date",
    "at": "timestamp",
    "raw": "binary",
    "list": "array<bigint>",
    "pair": "struct<X:double,y:string>",
}
SCHEMA = pa.schema(
    {
        "id": pa.int64(), "big": pa.int64(), "flag": pa.bool_(), "small": pa.int8(), "single": pa.float32(), "text": pa.string(),
        "amount": pa.decimal128(20, 3), "day": pa.date32(), "at": pa.timestamp("us", "UTC"), "raw": pa.binary(),
        "list": pa.list_(pa.int64()), "pair": pa.struct({"X": pa.float64(), "y": pa.string()}),
    }
)  # fmt: skip
FULL = {
    "big": 2**53 + 1, "flag": True, "small": -128, "single": 0.1, "text": "naïve \U0001f525\n'\"", "day": dt.date(1969, 12, 31),
    "amount": decimal.Decimal("12345678901234567.890"), "at": dt.datetime(2013, 3, 10, 2, 30, 0, 123457, tzinfo=dt.UTC),
    "raw": b"\0\xff", "list": [2**53 + 1, None], "pair": {"X": 1.5, "y": None},
}  # fmt: skip
SPEC = """
spec_version: 1
name: types
storage: {root}/_firesteel
interval: {{column: dt, unit: day, begin: 2024-01-01}}
sources:
  rows: {{path: "{root}/rows", partitions: {{dt: date}}, select: {{dt: "${{interval.ds}}"}}, contract: {{columns: {{{columns}}}}}}}
models:
  m: {{uri: "{model}", trust: {{formats: [pickle]}}}}
steps:
  scored:
    score: {{input: rows, model: m, features: [{features}], keep: [{keep}], output: {{{output}}}, operator: {operator}, batch: {{rows: {rows}, bytes: 8MiB}}}}
sinks:
  out: {{from: scored, path: "{root}/out", partition_by: [dt]}}
tracking: {{mlflow: {{uri: "sqlite:///{folder}/mlflow.db"}}}}
resources: {{master: "local[2]"}}
"""


class Echo(mlflow.pyfunc.PythonModel):
    """Gives back what it was given, under other names."""

    def predict(self, context, model_input, params=None):
        return model_input.rename(columns=lambda name: f"of_{name}")


class Length(mlflow.pyfunc.PythonModel):
    """The length of each blob, and how many came at once."""

    def predict(self, context, model_input, params=None):
        sizes = model_input["raw"].map(len)
        return sizes.to_frame("bytes").assign(at_once=len(sizes))


def saved(folder: Path, model: mlflow.pyfunc.PythonModel, features) -> Path:
    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers have not this module
    signature = ModelSignature(Schema([ColSpec(AnyType(), name, required=False) for name in features]))
    try:
        mlflow.pyfunc.save_model(folder, python_model=model, signature=signature)
    finally:
        cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    return folder


def published(root: str) -> pa.Table:
    storage, base = locate(f"{root}/out")
    files = [each for each in storage.walk(base) if each.name.endswith(".parquet") and "/dt=" in each.path]
    return pa.concat_tables(pq.read_table(io.BytesIO(storage.read(file.path))) for file in files).sort_by("id")


def plan(tmp_path: Path, table: pa.Table, model: Path, *, operator: str, features, keep, output, rows: int = 2):
    root = f"file://{tmp_path}/data-{operator}"
    folder = tmp_path / f"data-{operator}" / "rows" / f"dt={DAY}"
    folder.mkdir(parents=True)
    pq.write_table(table, folder / "part-0.parquet", row_group_size=7)
    columns = ", ".join(
        f'{name}: "{kind}"' for name, kind in {"id": "bigint", **TYPES}.items() if name in table.column_names
    )
    new_store(tmp_path / "mlflow.db")
    text = SPEC.format(
        root=root, model=model, operator=operator, folder=tmp_path, rows=rows, columns=columns, features=", ".join(features),
        keep=", ".join([*keep, "dt"]), output=", ".join(f'{name}: "{kind}"' for name, kind in output.items()),
    )  # fmt: skip
    path = tmp_path / f"{operator}.yaml"
    path.write_text(text, encoding="utf-8")
    return Pipeline.load(path).plan(DAY), root


@pytest.mark.parametrize("operator", ["pandas", "arrow", "direct"])
def test_every_type_comes_back_from_a_model_and_beside_it_as_it_was(spark, tmp_path, runs, operator):
    nested = {"list", "pair"} if operator == "direct" else set()  # whose files only Spark reads and writes
    types = {name: kind for name, kind in TYPES.items() if name not in nested}
    full, empty = {name: FULL[name] for name in types}, dict.fromkeys(types)
    rows = [{"id": number, **(full if number % 3 else empty)} for number in range(8)]
    table = pa.Table.from_pylist(rows, pa.schema([SCHEMA.field(name) for name in ("id", *types)]))
    output = {f"of_{name}": f"{kind} from of_{name}" for name, kind in types.items()}
    model = saved(tmp_path / "echo", Echo(), types)
    made, root = plan(tmp_path, table, model, operator=operator, features=types, keep=["id", *types], output=output)
    result = run_plan(made, spark=spark, runs=runs)
    assert result.state == "published", result.error
    assert dict(result.intervals[0].scoring)["operator"] == operator
    found = published(root)
    for name in types:
        right = table.column(name).to_pylist()
        assert values(found, name) == right, name
        assert values(found, f"of_{name}") == right, name
        assert found.schema.field(f"of_{name}").type == found.schema.field(name).type, name


def values(table: pa.Table, name: str) -> list[object]:
    """As Python has them. Spark writes instants as INT96, which says nothing of a zone."""
    column = table.column(name)
    return (column.cast(SCHEMA.field("at").type) if pa.types.is_timestamp(column.type) else column).to_pylist()


@pytest.mark.parametrize("operator", ["arrow", "direct"])
def test_rows_of_a_mib_go_through_in_batches_of_their_bytes(spark, tmp_path, runs, operator):
    blobs = [bytes([number]) * (1 << 20) for number in range(96)]
    table = pa.table({"id": range(96), "raw": pa.array(blobs, pa.binary())}).cast(
        pa.schema({"id": pa.int64(), "raw": pa.binary()})
    )
    made, root = plan(
        tmp_path, table, saved(tmp_path / "length", Length(), ["raw"]), operator=operator, features=["raw"], keep=["id"],
        output={"bytes": "bigint from bytes", "at_once": "bigint from at_once"}, rows=8192,
    )  # fmt: skip
    result = run_plan(made, spark=spark, runs=runs)
    assert result.state == "published", result.error
    found = published(root)
    assert found["bytes"].to_pylist() == [1 << 20] * 96
    assert max(found["at_once"].to_pylist()) <= 8
