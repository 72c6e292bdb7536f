from __future__ import annotations

import datetime
import decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firesteel.conf.errors import GateFailed, ModelError, RowErrorBudget
from firesteel.udfs.batching import rebatch
from firesteel.udfs.dead_letter import FailedRow, ScoredBatch, bisect
from firesteel.udfs.digest import digest_of
from firesteel.udfs.frames import to_pandas
from firesteel.udfs.outputs import outputs_to_arrow
from firesteel.udfs.report import ReportsByPartition, TaskReport, summarise
from firesteel.udfs.spec import Output
from firesteel.udfs.trust import artifact_of, check_trust
from firesteel.udfs.worker_errors import WorkerError, worker_error


@given(st.lists(st.integers(0, 40), max_size=12), st.integers(1, 17), st.integers(1, 400))
def test_rebatching_keeps_rows_and_order_and_both_limits(sizes, rows, size):
    batches, start = [], 0
    for count in sizes:
        batches.append(pa.RecordBatch.from_pydict({"x": pa.array(range(start, start + count), pa.int64())}))
        start += count
    tables = list(rebatch(batches, rows, size))
    assert [value for table in tables for value in table["x"].to_pylist()] == list(range(start))
    assert all(0 < table.num_rows <= rows for table in tables)
    assert all(table.num_rows == 1 or table.num_rows * 8 <= size for table in tables)


def test_wide_rows_are_cut_by_bytes():
    batch = pa.RecordBatch.from_pydict({"x": [b"x" * 1_000_000] * 10})
    assert [table.num_rows for table in rebatch([batch], 8192, 3_000_100)] == [2, 2, 2, 2, 2] or max(
        table.num_rows for table in rebatch([batch], 8192, 3_100_000)
    ) <= 3


def test_nullable_integers_stay_exact():
    table = pa.table(
        {
            "big": pa.array([2**53 + 1, None], pa.int64()),
            "small": pa.array([1, 2], pa.int32()),
            "flag": pa.array([True, None]),
        }
    )
    frame = to_pandas(table, ["big", "small", "flag"])
    assert frame["big"].dtype == pd.Int64Dtype()
    assert frame["big"][0] == 2**53 + 1
    assert frame["small"].dtype == np.int32
    assert frame["flag"].tolist() == [True, None]


def test_other_types_come_through_as_they_are():
    when = datetime.datetime(2013, 6, 1, 5, tzinfo=datetime.UTC)
    table = pa.table(
        {
            "text": ["a", None],
            "amount": pa.array([decimal.Decimal("1.10"), None], pa.decimal128(10, 2)),
            "day": pa.array([datetime.date(2013, 6, 1), None]),
            "when": pa.array([when, None], pa.timestamp("us", "UTC")),
            "value": [1.5, None],
            "raw": [b"\x00", None],
            "list": [[1.0, 2.0], None],
        }
    )
    frame = to_pandas(table, table.column_names)
    assert frame["text"].tolist() == ["a", None]
    assert frame["amount"][0] == decimal.Decimal("1.10")
    assert frame["day"][0] == datetime.date(2013, 6, 1)
    assert frame["when"].tolist() == [pd.Timestamp("2013-06-01 05:00"), pd.NaT]
    assert np.isnan(frame["value"][1])
    assert frame["raw"][0] == b"\x00"
    assert list(frame["list"][0]) == [1.0, 2.0]


@pytest.mark.parametrize(
    ("prediction", "output", "kind", "expected"),
    [
        (np.array([[0.1, 0.9], [0.2, 0.8]]), Output("p", "double", "[1]"), pa.float64(), [0.9, 0.8]),
        (np.array([1, 0]), Output("p", "int"), pa.int32(), [1, 0]),
        (np.array([1.5, np.nan]), Output("p", "double"), pa.float64(), [1.5, None]),
        (pd.Series(["a", None]), Output("p", "string"), pa.string(), ["a", None]),
        (pd.DataFrame({"x": [1, 2], "y": [3.0, 4.0]}), Output("p", "double", "y"), pa.float64(), [3.0, 4.0]),
        (pd.DataFrame({"x": [2**53 + 1, 2]}), Output("p", "bigint"), pa.int64(), [2**53 + 1, 2]),
        ({"label": ["a", "b"]}, Output("p", "string", "label"), pa.string(), ["a", "b"]),
        (
            [decimal.Decimal("1.10"), None],
            Output("p", "decimal(10,2)"),
            pa.decimal128(10, 2),
            [decimal.Decimal("1.10"), None],
        ),
        (
            np.array([[1.0, 2.0], [3.0, 4.0]]),
            Output("p", "array<double>"),
            pa.list_(pa.float64()),
            [[1.0, 2.0], [3.0, 4.0]],
        ),
        (np.array([b"\x00", b"ab"], dtype=object), Output("p", "binary"), pa.binary(), [b"\x00", b"ab"]),
    ],
)
def test_an_output_is_taken_from_the_prediction_with_its_type(prediction, output, kind, expected):
    array = outputs_to_arrow(prediction, [output], [kind], 2, "m")[0]
    assert array.type == kind
    assert array.to_pylist() == expected


@pytest.mark.parametrize(
    ("prediction", "output", "kind", "code"),
    [
        (np.array([0.1, 0.2]), Output("p", "double", "[1]"), pa.float64(), "FS3006"),
        (np.array([[0.1], [0.2]]), Output("p", "double", "[1]"), pa.float64(), "FS3006"),
        (pd.DataFrame({"x": [1, 2]}), Output("p", "double", "y"), pa.float64(), "FS3006"),
        (pd.DataFrame({"x": [1, 2], "y": [1, 2]}), Output("p", "double"), pa.float64(), "FS3006"),
        (np.array([1.0]), Output("p", "double"), pa.float64(), "FS5002"),
        (1.0, Output("p", "double"), pa.float64(), "FS5002"),
        (np.array(["a", "b"]), Output("p", "double"), pa.float64(), "FS5002"),
        (np.array([1.5, 2.0]), Output("p", "int"), pa.int32(), "FS5002"),
    ],
)
def test_a_prediction_that_does_not_fit_is_an_error_of_the_mapping(prediction, output, kind, code):
    with pytest.raises(ModelError) as caught:
        outputs_to_arrow(prediction, [output], [kind], 2, "m")
    assert caught.value.code == code


@given(st.integers(1, 60), st.sets(st.integers(0, 59)))
def test_bisection_finds_exactly_the_bad_rows_and_scores_all_others_in_order(rows, bad):
    calls = 0

    def predict(frame):
        nonlocal calls
        calls += 1
        if frame["x"].isin(bad).any():
            raise ValueError("no")
        return frame["x"] * 2

    pieces = list(bisect(predict, lambda start, stop: pd.DataFrame({"x": range(start, stop)}), rows))
    good = [value for piece in pieces if isinstance(piece, ScoredBatch) for value in piece.prediction]
    failed = [piece.index for piece in pieces if isinstance(piece, FailedRow)]
    inside = {row for row in bad if row < rows}
    assert good == [2 * row for row in range(rows) if row not in inside]
    assert failed == sorted(inside)
    assert calls <= 1 + 2 * len(inside) * (rows.bit_length() + 1)


def test_a_batch_that_does_not_fit_in_memory_is_halved():
    sizes = []

    def predict(frame):
        sizes.append(len(frame))
        if len(frame) > 3:
            raise MemoryError
        return frame["x"]

    pieces = list(bisect(predict, lambda start, stop: pd.DataFrame({"x": range(start, stop)}), 10))
    assert [value for piece in pieces if isinstance(piece, ScoredBatch) for value in piece.prediction] == list(
        range(10)
    )
    assert max(size for size in sizes if size <= 3) == 3


def test_an_error_of_ours_is_never_a_rows():
    def predict(_frame):
        raise ModelError("FS3006", "x")

    with pytest.raises(ModelError):
        list(bisect(predict, lambda start, stop: pd.DataFrame({"x": range(start, stop)}), 2))


def test_the_digest_changes_with_each_byte_and_name(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "MLmodel").write_text("a")
    (tmp_path / "sub" / "model.skops").write_bytes(b"abc")
    first = digest_of(tmp_path)
    assert first.size_bytes == 4
    (tmp_path / "sub" / "model.skops").write_bytes(b"abd")
    second = digest_of(tmp_path)
    (tmp_path / "sub" / "model.skops").rename(tmp_path / "sub" / "other.skops")
    third = digest_of(tmp_path)
    (tmp_path / "sub" / "registered_model_meta").write_text("x")
    assert len({first.hex, second.hex, third.hex, digest_of(tmp_path).hex}) == 4


SKLEARN = (
    "python_function: {loader_module: mlflow.sklearn, model_path: model.skops}, sklearn: {serialization_format: %s}"
)


@pytest.mark.parametrize(
    ("flavors", "expected"),
    [
        (SKLEARN % "skops", "skops"),
        (SKLEARN % "pickle", "pickle"),
        (SKLEARN % "skops, code: lib", "pickle"),
        ("python_function: {loader_module: mlflow.onnx, data: model.onnx}, onnx: {}", "onnx"),
        ("python_function: {loader_module: mlflow.lightgbm}, lightgbm: {data: model.lgb}", "lightgbm"),
        ("python_function: {loader_module: mlflow.xgboost}, xgboost: {data: model.xgb}", "xgboost"),
        ("python_function: {loader_module: mlflow.pyfunc.model, python_model: model.skops}", "pickle"),
        ("sklearn: {serialization_format: skops}", "pickle"),
        ("other: {}", "pickle"),
    ],
)
def test_the_format_is_that_of_the_one_file_that_is_loaded(tmp_path, flavors, expected):
    (tmp_path / "MLmodel").write_text(f"flavors: {{{flavors}}}\n")
    for name in ("model.skops", "model.onnx", "model.lgb", "model.xgb"):
        (tmp_path / name).write_bytes(b"x")
    assert artifact_of(tmp_path).format == expected


def test_a_format_or_size_that_is_not_trusted_is_refused(tmp_path):
    Path(tmp_path / "MLmodel").write_bytes(b"flavors: {}".ljust(100))
    with pytest.raises(
        ModelError, match=r"FS3009 .*stored as pickle .*, but trust.formats allows only skops.*loading it runs code"
    ):
        check_trust(tmp_path, ("skops",), (), "m")
    assert check_trust(tmp_path, ("pickle",), (), "m") == "pickle"
    with pytest.raises(ModelError, match="FS3010"):
        digest_of(tmp_path, 99)
    assert digest_of(tmp_path, 100).size_bytes == 100


def test_our_error_survives_a_traceback_and_foreign_ones_are_none():
    text = f"PythonException: Traceback ...\n{WorkerError(RowErrorBudget('FS5003', 'too many.', hint='Mend.'))}\n\tat scala"
    found = worker_error(RuntimeError(text))
    assert isinstance(found, RowErrorBudget)
    assert (str(found), found.exit_code) == ("FS5003 too many. Mend.", 5)
    outer = ValueError("outer")
    outer.__cause__ = RuntimeError(str(WorkerError(GateFailed("FS7001", "x"))))
    assert isinstance(worker_error(outer), GateFailed)
    assert worker_error(ValueError("ours? firesteel-error")) is None


def test_of_several_attempts_at_a_partition_the_last_counts():
    merge = ReportsByPartition().addInPlace
    tasks = merge(
        merge({}, {0: TaskReport(0, 5, rows_in=10, rows_scored=10)}), {0: TaskReport(0, 9, rows_in=10, rows_scored=9)}
    )
    tasks = merge(tasks, {1: TaskReport(1, 6, rows_in=3, rows_scored=3)})
    report = summarise(tasks)
    assert (report.rows_in, report.rows_scored) == (13, 12)
