"""The oracle of scoring: the predictions of a model's own pyfunc for the same rows in pandas, row by row.

Rows are Python values by column. `frame_of` creates the frame of a notebook without code of the product; `scored_rows` sends the
same rows through the operator.
"""

from __future__ import annotations

import datetime as dt
import decimal
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import mlflow.pyfunc
import numpy as np
import pandas as pd
import pyarrow as pa
from hypothesis import strategies as st
from mlflow.types.schema import Array, DataType, Map, Object, Property

from firesteel.udfs.report import TaskReport
from firesteel.udfs.score import score_batches
from firesteel.udfs.spec import ErrorBudget, ModelRef, Output, ScoreSpec

INSTANTS = st.datetimes(dt.datetime(1700, 1, 1), dt.datetime(2250, 1, 1))  # noqa: DTZ001 - what nanoseconds can hold


@dataclass(frozen=True)
class Kind:
    """A column type: its Arrow type, its type in MLflow's signature, its values, and its pandas form."""

    arrow: pa.DataType
    mlflow: Any
    some: st.SearchStrategy[Any]
    pandas: str = "object"


def _floats(width: int) -> st.SearchStrategy[float]:
    return st.floats(width=width, allow_nan=False)


KINDS: dict[str, Kind] = {
    "long": Kind(pa.int64(), DataType.long, st.integers(-(2**63), 2**63 - 1), "int64"),
    "integer": Kind(pa.int32(), DataType.integer, st.integers(-(2**31), 2**31 - 1), "int32"),
    "short as long": Kind(pa.int16(), DataType.long, st.integers(-(2**15), 2**15 - 1), "int16"),
    "int as double": Kind(pa.int32(), DataType.double, st.integers(-(2**31), 2**31 - 1), "int32"),
    "double": Kind(pa.float64(), DataType.double, _floats(64), "float64"),
    "float": Kind(pa.float32(), DataType.float, _floats(32), "float32"),
    "float as double": Kind(pa.float32(), DataType.double, _floats(32), "float32"),
    "decimal as double": Kind(
        pa.decimal128(12, 3), DataType.double, st.decimals(-(10**6), 10**6, places=3, allow_nan=False)
    ),
    "boolean": Kind(pa.bool_(), DataType.boolean, st.booleans()),
    "string": Kind(pa.string(), DataType.string, st.text(max_size=8)),
    "binary": Kind(pa.binary(), DataType.binary, st.binary(max_size=8)),
    "datetime": Kind(pa.timestamp("us", "UTC"), DataType.datetime, INSTANTS, "datetime64[ns]"),
    "naive datetime": Kind(pa.timestamp("us"), DataType.datetime, INSTANTS, "datetime64[ns]"),
    "date as datetime": Kind(pa.date32(), DataType.datetime, st.dates(dt.date(1700, 1, 1), dt.date(2250, 1, 1))),
    "doubles": Kind(pa.list_(pa.float64()), Array(DataType.double), st.lists(_floats(64), max_size=3)),
    "longs": Kind(pa.list_(pa.int64()), Array(DataType.long), st.lists(st.integers(-(2**63), 2**63 - 1), max_size=3)),
    "strings": Kind(pa.list_(pa.string()), Array(DataType.string), st.lists(st.text(max_size=3), max_size=3)),
    "matrix": Kind(
        pa.list_(pa.list_(pa.float64())),
        Array(Array(DataType.double)),
        st.lists(st.lists(_floats(64), max_size=2), max_size=2),
    ),
    "object": Kind(
        pa.struct([("a", pa.int64()), ("b", pa.string()), ("c", pa.float64())]),
        Object([Property("a", DataType.long), Property("b", DataType.string), Property("c", DataType.double)]),
        st.fixed_dictionaries({"a": st.integers(-(2**63), 2**63 - 1), "b": st.text(max_size=3), "c": _floats(64)}),
    ),
    "objects": Kind(
        pa.list_(pa.struct([("a", pa.int64())])),
        Array(Object([Property("a", DataType.long)])),
        st.lists(st.fixed_dictionaries({"a": st.integers(-9, 9)}), max_size=3),
    ),
    "map": Kind(
        pa.map_(pa.string(), pa.float64()),
        Map(DataType.double),
        st.dictionaries(st.text(max_size=3), _floats(64), max_size=3),
    ),
}


def table_of(rows: Sequence[Mapping[str, Any]], kinds: Mapping[str, Kind]) -> pa.Table:
    """Return the rows as a Parquet file or Spark has them."""

    def arrow_value(value: Any, kind: pa.DataType) -> Any:
        if pa.types.is_timestamp(kind) and kind.tz and value is not None:
            return value.replace(tzinfo=dt.UTC)
        return list(value.items()) if pa.types.is_map(kind) and value is not None else value

    columns = {
        name: pa.array([arrow_value(row[name], kind.arrow) for row in rows], kind.arrow) for name, kind in kinds.items()
    }
    return pa.table({"id": pa.array(range(len(rows)), pa.int64()), **columns})


def frame_of(rows: Sequence[Mapping[str, Any]], kinds: Mapping[str, Kind]) -> pd.DataFrame:
    """Return the rows as a notebook has them."""

    def pandas_value(value: Any, kind: pa.DataType) -> Any:
        if pa.types.is_list(kind) and value is not None:
            if pa.types.is_nested(kind.value_type):
                return value
            return np.array(value, dtype=kind.value_type.to_pandas_dtype())
        return value

    columns = {}
    for name, kind in kinds.items():
        values = [pandas_value(row[name], kind.arrow) for row in rows]
        integers_with_nulls = kind.pandas.startswith("int") and None in values
        objects = np.empty(len(rows), dtype=object)
        for place, value in enumerate(values):
            objects[place] = value
        columns[name] = pd.Series(objects).astype(kind.pandas.capitalize() if integers_with_nulls else kind.pandas)
    return pd.DataFrame(columns)


def predicted(model: Any, rows: Sequence[Mapping[str, Any]], kinds: Mapping[str, Kind]) -> list[Any]:
    """Return the predictions of the pyfunc. If it raises, predict row by row, with the exception of each rejected row."""
    try:
        return list(model.predict(frame_of(rows, kinds)))
    except Exception as error:  # noqa: BLE001 - a model may raise anything
        if len(rows) == 1:
            return [error]
    return [predicted(model, [row], kinds)[0] for row in rows]


def scored_rows(
    ref: ModelRef, table: pa.Table, spec: ScoreSpec, types: Mapping[str, pa.DataType]
) -> tuple[dict[int, dict[str, Any]], dict[int, str]]:
    """Score rows with the operator; return scores by id and errors by id. Each row is in exactly one of them."""
    schema = pa.schema([("id", pa.int64()), *types.items()])
    report = TaskReport(0, 0)
    out = list(score_batches(table.to_batches(), spec, schema, report))
    scored = {row["id"]: row for batch in out for row in batch.to_pylist()}
    dead = {dict(letter.row)["id"]: letter.error for letter in report.dead_letters}
    assert scored.keys() | dead.keys() == set(range(table.num_rows))
    assert not scored.keys() & dead.keys()
    assert report.rows_in == report.rows_scored + len(report.dead_letters) == table.num_rows
    assert ref.name
    return scored, dead


def spec_of(ref: ModelRef, features: Sequence[str], outputs: Mapping[str, str], **options: Any) -> ScoreSpec:
    """Return a score spec that keeps `id`, and writes rows that fail to dead letters."""
    outs = tuple(Output(name, *text.split(" from ")) for name, text in outputs.items())
    return ScoreSpec(ref, tuple(features), ("id",), outs, on_error=ErrorBudget("dead_letter", 10_000), **options)


def same(one: Any, other: Any) -> bool:
    """Return whether two values are equal; all missing values are equal."""
    if missing(one) or missing(other):
        return missing(one) and missing(other)
    return bool(one == other)


def missing(value: Any) -> bool:
    """Return whether a value is None, NaN, NaT or NA."""
    return value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and math.isnan(value))


def described(value: Any) -> str:
    """Describe a value with its type, the same for scalars of numpy and Python."""
    if missing(value):
        return "None" if value is None else "missing"
    if isinstance(value, bool | np.bool_):
        return f"bool {bool(value)}"
    if isinstance(value, np.ndarray | list):
        return f"[{', '.join(described(each) for each in value)}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {described(each)}' for key, each in sorted(value.items()))}}}"
    if isinstance(value, int | np.integer):
        return f"int {int(value)}"
    if isinstance(value, np.float32):
        return f"float32 {float(value)!r}"
    if isinstance(value, float | np.floating):
        return f"float {float(value)!r}"
    if isinstance(value, dt.datetime | pd.Timestamp | np.datetime64):
        return f"time {pd.Timestamp(value)!r}"
    if isinstance(value, decimal.Decimal | str | bytes | dt.date):
        return f"{type(value).__name__} {value!r}"
    return f"{type(value)} {value!r}"


class Describe(mlflow.pyfunc.PythonModel):
    """Returns the columns in order, the types and the values of each row."""

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        names = [
            f"{name} ({dtype})" if dtype.kind in "fM" else name for name, dtype in model_input.dtypes.to_dict().items()
        ]
        return [
            "; ".join(f"{name}={described(value)}" for name, value in zip(names, row, strict=True))
            for row in zip(*(model_input[name] for name in model_input.columns), strict=True)
        ]
