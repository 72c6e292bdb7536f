"""Every backend of every model against the pyfunc, on random schemas with nulls."""

from __future__ import annotations

import math
import re

import hypothesis.strategies as st
import mlflow.pyfunc
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings

from firesteel.udfs.report import TaskReport
from firesteel.udfs.score import score_batches
from firesteel.udfs.spec import ErrorBudget, ModelRef, Output, ScoreSpec
from support.models import FEATURES, KINDS, save

pytestmark = pytest.mark.integration

SIGNATURES = {
    "doubles": None,
    "floats": dict.fromkeys(FEATURES, "float32"),
    "mixed": {"a": "float64", "b": "int64", "c": "float32"},
}
_INTEGERS = {pa.int8(): 2**7, pa.int16(): 2**15, pa.int32(): 2**31, pa.int64(): 2**63}
_OUTPUTS = {
    "logistic": (Output("y", "double", "[1]"),), "forest": (Output("y", "double", "[1]"),),
    "labels": (Output("y", "string"),),
}  # fmt: skip


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[tuple[str, str], ModelRef]:
    folder = tmp_path_factory.mktemp("models")
    return {
        (kind, name): save(kind, folder / f"{kind}-{name}", dtypes=dtypes, example=name == "doubles")
        for kind in KINDS
        for name, dtypes in SIGNATURES.items()
    }


def outputs_of(kind: str) -> tuple[Output, ...]:
    return _OUTPUTS.get(kind, (Output("y", "double"),))


def run(ref: ModelRef, table: pa.Table, backends: str, rows: int = 16) -> tuple[list[object], list[object], TaskReport]:
    """The scores by id, the dead letters, and the report."""
    spec = ScoreSpec(
        ref, FEATURES, ("id",), outputs_of(ref.name), batch_rows=rows, backend=backends,
        on_error=ErrorBudget("dead_letter", max_rows=1000),
    )  # fmt: skip
    kind = pa.string() if ref.name == "labels" else pa.float64()
    schema = pa.schema([("id", pa.int64()), ("y", kind)])
    report = TaskReport(0, 0)
    found = list(score_batches(table.to_batches(max_chunksize=11), spec, schema, report))
    values = pa.Table.from_batches(found, schema).to_pylist()
    # XGBoost's messages begin with the time of day.
    dead_letters = [
        (dict(letter.row)["id"], letter.error, re.sub(r"\[\d\d:\d\d:\d\d\]", "", letter.message))
        for letter in report.dead_letters
    ]
    return [(row["id"], row["y"]) for row in values], dead_letters, report


@st.composite
def tables(draw) -> pa.Table:
    rows = draw(st.integers(1, 40))
    columns = {"id": pa.array(range(rows), pa.int64())}
    for name in FEATURES:
        kind = draw(st.sampled_from([pa.float64(), pa.float64(), pa.float32(), *_INTEGERS]))
        if kind in _INTEGERS:
            limit = draw(st.sampled_from([100, _INTEGERS[kind]]))
            limit = min(limit, _INTEGERS[kind])
            values = st.integers(-limit, limit - 1)
        else:
            width = 32 if kind == pa.float32() else 64
            values = draw(
                st.sampled_from(
                    [st.floats(-1e6, 1e6, width=width, allow_nan=False), st.floats(width=width, allow_infinity=True)]
                )
            )
        nulls = draw(st.booleans())
        each = st.one_of(st.none(), values) if nulls else values
        columns[name] = pa.array(draw(st.lists(each, min_size=rows, max_size=rows)), kind)
    return pa.table(columns)


def bits(value: object) -> object:
    return "nan" if isinstance(value, float) and math.isnan(value) else value


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.filterwarnings("ignore:.*integer column.*:UserWarning")
@pytest.mark.parametrize(
    "kind",
    [each if each in {"logistic", "lightgbm"} else pytest.param(each, marks=pytest.mark.long) for each in KINDS],
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
@given(table=tables(), name=st.sampled_from(list(SIGNATURES)))
def test_native_forms_give_the_bits_of_the_pyfunc_and_its_dead_letters(models, kind, table, name):
    right, bad, _ = run(models[kind, name], table, "reference")
    got, also_bad, report = run(models[kind, name], table, "native")
    assert [(key, bits(value)) for key, value in got] == [(key, bits(value)) for key, value in right]
    assert also_bad == bad
    assert report.rows_in == table.num_rows == report.rows_scored + len(bad)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.filterwarnings("ignore:.*integer column.*:UserWarning")
@pytest.mark.parametrize(
    "kind", [*(pytest.param(each, marks=pytest.mark.long) for each in ("logistic", "ridge")), "lightgbm"]
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
@given(table=tables(), name=st.sampled_from(list(SIGNATURES)))
def test_compiled_forms_agree_within_their_tolerance(models, kind, table, name):
    right, bad, _ = run(models[kind, name], table, "reference")
    got, also_bad, report = run(models[kind, name], table, "compiled")
    assert also_bad == bad
    assert [key for key, _ in got] == [key for key, _ in right]
    np.testing.assert_allclose([y for _, y in got], [y for _, y in right], rtol=1e-6, atol=1e-6)
    assert report.rows_scored == len(right)


def numbers(rows: int = 200) -> pa.Table:
    values = np.random.default_rng(3).normal(size=(rows, 3))
    return pa.table({"id": pa.array(range(rows), pa.int64()), **{n: values[:, i] for i, n in enumerate(FEATURES)}})


@pytest.mark.parametrize(
    ("kind", "native", "compiled"),
    [
        ("logistic", "scikit-learn", "folded linear"), ("ridge", "scikit-learn", "folded linear"),
        ("labels", "scikit-learn", "scikit-learn"), ("forest", "scikit-learn", "scikit-learn"),
        ("lightgbm", "lightgbm", "lleaves"), ("xgboost", "xgboost", "xgboost"), ("onnx", "onnxruntime", "onnxruntime"),
    ],
)  # fmt: skip
def test_the_form_its_reason_and_its_largest_difference_are_reported(models, kind, native, compiled):
    for backends, expected in (("reference", "pyfunc"), ("native", native), ("compiled", compiled)):
        _, _, report = run(models[kind, "doubles"], numbers(), backends, rows=64)
        assert report.choice.backend == expected
        assert report.rows_by_backend == {expected: 200}
        if backends != "reference":
            assert report.choice.reason.startswith("agrees with pyfunc ")
            assert report.choice.checked_rows == 5 + 64  # the example and the first batch
            assert report.choice.largest_difference <= (1e-6 if backends == "compiled" else 0.0)


def test_a_batch_with_a_null_integer_goes_to_the_reference_and_the_others_do_not(models):
    table = numbers(48).set_column(2, "b", pa.array([None if i == 20 else i for i in range(48)], pa.int32()))
    right, _, _ = run(models["lightgbm", "doubles"], table, "reference")
    got, _, report = run(models["lightgbm", "doubles"], table, "native")
    assert [bits(y) for _, y in got] == [bits(y) for _, y in right]
    assert report.rows_by_backend == {"lightgbm": 32, "pyfunc": 16}


class Wrong(mlflow.pyfunc.PythonModel):
    """A pyfunc that adds one to what the booster it wraps would return."""

    def load_context(self, context):
        import lightgbm

        self.booster = lightgbm.Booster(model_file=context.artifacts["booster"])

    def predict(self, context, model_input, params=None):
        return self.booster.predict(model_input) + 1


def test_a_form_that_disagrees_is_not_taken_and_the_reason_is_said(models, tmp_path, monkeypatch):
    from firesteel.udfs.backends.lightgbm import LightgbmBackend

    right = LightgbmBackend.predict
    monkeypatch.setattr(LightgbmBackend, "predict", lambda self, batch: right(self, batch) + 1e-12)
    ref = save("lightgbm", tmp_path / "m", dtypes={"a": "float64", "b": "float64", "c": "float64"}, example=True)
    _, _, report = run(ref, numbers(), "native")
    assert report.choice.backend == "pyfunc"
    assert report.choice.reason.startswith("lightgbm differs by 1e-12, more than 0")


def test_a_python_model_has_no_other_form(tmp_path):
    save("lightgbm", tmp_path / "inner")
    booster = next((tmp_path / "inner").glob("model.*"))
    mlflow.pyfunc.save_model(
        tmp_path / "m", python_model=Wrong(), artifacts={"booster": str(booster)}, pip_requirements=[]
    )
    from firesteel.udfs.digest import digest_of

    ref = ModelRef("wrong", digest_of(tmp_path / "m").hex, str(tmp_path / "m"), format="pickle")
    right, _, _ = run(ref, numbers(), "reference")
    got, _, report = run(ref, numbers(), "compiled")
    assert got == right
    assert report.choice == type(report.choice)("pyfunc", "the model has no native model behind its pyfunc")


@pytest.mark.parametrize("backends", ["reference", "native"])
def test_features_in_another_order_than_the_signature_give_the_same_scores(models, backends):
    ref, schema = models["logistic", "doubles"], pa.schema([("id", pa.int64()), ("y", pa.float64())])
    found = []
    for features in (("a", "b", "c"), ("b", "a", "c"), ("c", "b", "a")):
        spec = ScoreSpec(ref, features, ("id",), outputs_of("logistic"), backend=backends)
        found.append(list(score_batches(numbers(3).to_batches(), spec, schema, TaskReport(0, 0))))
    assert found[0] == found[1] == found[2]
    assert found[0][0].num_rows == 3


def test_an_onnx_session_has_the_threads_that_it_was_given(models):
    from firesteel.udfs.model import load_model

    loaded, _ = load_model(models["onnx", "floats"], threads=1)
    assert loaded.flavor.get_session_options().intra_op_num_threads == 1
