"""Scores equal the model's own, or there is a coded error: no third outcome. Generated signatures, types, nulls, results, flavors."""

from __future__ import annotations

import datetime as dt
import decimal
import math
import sys
import tempfile
import warnings
from dataclasses import replace
from pathlib import Path

import cloudpickle
import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from mlflow.models import ModelSignature, infer_signature
from mlflow.types.schema import ColSpec, Schema

from firesteel.conf.errors import ModelError, RowErrorBudget
from firesteel.udfs import engine
from firesteel.udfs.outputs import outputs_to_arrow
from firesteel.udfs.report import TaskReport
from firesteel.udfs.score import score_batches
from firesteel.udfs.spec import ErrorBudget, ModelRef, Output
from support import oracle
from support.models import reference
from support.oracle import KINDS, Describe, frame_of, predicted, same, scored_rows, spec_of, table_of

ordinary = settings(max_examples=100, derandomize=True, deadline=None, phases=(Phase.generate,))
thorough = settings(max_examples=3000, deadline=None)
NAMES = ["a", "B", "x.y", "two words", "größe", "`tick`"]


@pytest.fixture(scope="module", autouse=True)
def _without_collections():
    """Each model collects garbage at its first call, a third of the time of hundreds of models; test_garbage.py is about it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "freeze_objects", lambda: None)
        yield


def save(folder: Path, model: object, columns: list[ColSpec]) -> ModelRef:
    cloudpickle.register_pickle_by_value(oracle)
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            signature = ModelSignature(Schema(columns))
            mlflow.pyfunc.save_model(folder, python_model=model, pip_requirements=[], signature=signature)
    finally:
        cloudpickle.unregister_pickle_by_value(oracle)
        cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    return reference("m", folder)


@st.composite
def signed_rows(draw):
    """Columns of a signature, rows for them with nulls, and the order in which the data has them."""
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=4, unique=True))
    kinds = {name: KINDS[draw(st.sampled_from(sorted(KINDS)))] for name in names}
    required = {name: draw(st.booleans()) for name in names}
    nulls = draw(st.booleans())
    row = st.fixed_dictionaries({name: st.none() | kind.some if nulls else kind.some for name, kind in kinds.items()})
    return kinds, required, draw(st.lists(row, min_size=1, max_size=5)), draw(st.permutations(names))


def check_columns(case) -> None:
    kinds, required, rows, order = case
    with tempfile.TemporaryDirectory() as folder:
        columns = [ColSpec(kind.mlflow, name, required=required[name]) for name, kind in kinds.items()]
        ref = save(Path(folder, "model"), Describe(), columns)
        expected = predicted(mlflow.pyfunc.load_model(ref.archive), rows, kinds)
        table = table_of(rows, kinds).select(["id", *order])
        spec = spec_of(ref, tuple(kinds), {"seen": "string"})
        scored, dead = scored_rows(ref, table, spec, {"seen": pa.string()})
    for number, right in enumerate(expected):
        if isinstance(right, Exception):
            assert number in dead, f"pyfunc refuses {rows[number]}: {right}; scored: {scored.get(number)}"
        else:
            assert number in scored, f"{rows[number]}: {dead.get(number)}; pyfunc: {right}"
            assert scored[number]["seen"] == right


@ordinary
@given(signed_rows())
def test_the_model_sees_what_its_pyfunc_sees(case):
    check_columns(case)


@pytest.mark.long
@thorough
@given(signed_rows())
def test_the_model_sees_what_its_pyfunc_sees_in_thousands_of_cases(case):
    check_columns(case)


SCALARS = {
    "ints": st.integers(-(2**63), 2**63 - 1) | st.integers(0, 2),
    "floats": st.floats() | st.sampled_from([0.0, 1.0, 2.0, 0.1, 1e300, 1e-300, math.inf, math.nan]),
    "booleans": st.booleans(),
    "texts": st.text(max_size=5) | st.sampled_from(["1", "true", "2024-01-01"]),
    "decimals": st.decimals(-1000, 1000, places=3, allow_nan=False),
    "times": st.datetimes(dt.datetime(1900, 1, 1), dt.datetime(2100, 1, 1)) | st.just(dt.datetime(2024, 1, 1)),  # noqa: DTZ001
    "dates": st.dates(dt.date(1900, 1, 1), dt.date(2100, 1, 1)),
}
TYPES = {
    "double": pa.float64(), "float": pa.float32(), "bigint": pa.int64(), "int": pa.int32(), "tinyint": pa.int8(),
    "boolean": pa.bool_(), "string": pa.string(), "decimal(6,2)": pa.decimal128(6, 2), "date": pa.date32(),
    "timestamp": pa.timestamp("us", "UTC"), "array<double>": pa.list_(pa.float64()),
}  # fmt: skip
CONTAINERS = [
    "list", "tuple", "array", "objects", "series", "permuted series", "shifted series", "frame", "frame index",
    "permuted frame", "dict", "column", "matrix", "lists",
]  # fmt: skip


def contained(values: list, container: str, order: list[int]):
    """The values in a container, and the selector that finds them there; None where numpy makes other values of them."""
    array = np.empty(len(values), dtype=object)
    array[:] = values
    if container in {"array", "column", "matrix"}:
        try:
            array = np.array(values)
        except (ValueError, OverflowError):
            return None
        if array.dtype.kind not in "iufbUM" or not all(map(same, array.tolist(), values)):
            return None
    series = pd.Series(values)
    if not all(map(same, series.tolist(), values)):
        series = pd.Series(array)
    if container == "array":
        return array, ""
    if container == "column":
        return array.reshape(-1, 1), ""
    if container == "matrix":
        return np.stack([array, array[::-1]], axis=1), "[0]"
    return {
        "list": (list(values), ""),
        "tuple": (tuple(values), ""),
        "objects": (array, ""),
        "series": (series, ""),
        "permuted series": (series.iloc[order], ""),
        "shifted series": (series.set_axis(series.index + 7), ""),
        "frame": (pd.DataFrame({"other": 0.5, "y": series}), "y"),
        "frame index": (pd.DataFrame({"other": 0.5, "y": series}), "[1]"),
        "permuted frame": (pd.DataFrame({"other": 0.5, "y": series}).iloc[order], "y"),
        "dict": ({"other": 1, "y": series}, "y"),
        "lists": ([[0.5, value] for value in values], "[1]"),
    }[container]


def holds(published: object, original: object, kind: str) -> bool:
    """Whether a published value is the model's value in the declared type."""
    if oracle.missing(original):
        return published is None
    if kind == "float":
        return isinstance(published, float) and published == float(np.float32(original)) and (
            math.isinf(published) == (isinstance(original, float) and math.isinf(original))
        )  # fmt: skip
    if kind == "string":
        return published == (original if isinstance(original, str) else str(original))
    if kind == "timestamp":
        naive = original if isinstance(original, dt.datetime) else dt.datetime(*original.timetuple()[:3])  # noqa: DTZ001
        return published == naive.replace(tzinfo=dt.UTC)
    if kind == "date":
        day = original.date() if isinstance(original, dt.datetime) else original
        return published == day and (not isinstance(original, dt.datetime) or original.time() == dt.time())
    if kind.startswith("decimal"):
        return published == (decimal.Decimal(repr(original)) if isinstance(original, float) else original)
    if isinstance(original, decimal.Decimal) and kind == "double":
        return published == float(original)
    return published == original and not isinstance(original, str)


@st.composite
def results(draw):
    values = draw(st.lists(SCALARS[draw(st.sampled_from(sorted(SCALARS)))] | st.none(), min_size=1, max_size=5))
    if draw(st.booleans()):
        values = [value for value in values if value is not None] or values
    order = draw(st.permutations(range(len(values))))
    return values, draw(st.sampled_from(CONTAINERS)), order, draw(st.sampled_from(sorted(TYPES)))


def check_result(case) -> None:
    values, container, order, kind = case
    made = contained(values, container, list(order))
    if made is None:
        return
    prediction, select = made
    try:
        found = outputs_to_arrow(prediction, [Output("p", kind, select)], [TYPES[kind]], len(values), "m")[0]
    except ModelError as error:
        assert error.code in {"FS3006", "FS5002"}
        return
    assert found.type == TYPES[kind]
    assert all(holds(one, other, kind) for one, other in zip(found.to_pylist(), values, strict=True)), (
        f"{container} of {values} as {kind}: {found.to_pylist()}"
    )


@settings(ordinary, max_examples=1500)
@given(results())
def test_each_published_value_is_the_models_or_there_is_an_error(case):
    check_result(case)


@pytest.mark.long
@settings(thorough, max_examples=50_000)
@given(results())
def test_each_published_value_is_the_models_in_tens_of_thousands_of_cases(case):
    check_result(case)


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("double", [1.5, 2.5, math.inf]), ("double", [1.5, None, 2.5]), ("bigint", [2**53 + 1, 3, -4]), ("string", ["a", "", None]),
        ("boolean", [True, False, True]), ("boolean", [0, 1, 1]), ("date", [dt.date(2024, 1, 1), None]), ("float", [0.1, 2.0]),
        ("timestamp", [dt.datetime(2024, 1, 1, 5), dt.datetime(2024, 1, 2)]),  # noqa: DTZ001
        ("decimal(6,2)", [decimal.Decimal("1.10"), decimal.Decimal("-3.00")]), ("decimal(6,2)", [1.1, 2.5]),
    ],
)  # fmt: skip
def test_natural_results_are_published_from_every_container(container, kind, values):
    made = contained(values, container, list(reversed(range(len(values)))))
    if made is not None:
        found = outputs_to_arrow(made[0], [Output("p", kind, made[1])], [TYPES[kind]], len(values), "m")[0]
        assert all(holds(one, other, kind) for one, other in zip(found.to_pylist(), values, strict=True))


@pytest.mark.parametrize(
    "prediction",
    [
        np.float64(1.5), np.array(1.5), 1.5, "ab", b"ab", {1.0, 2.0}, {"p": [1.0, 2.0]}, iter([1.0, 2.0]), None, [[1.0], [1.0, 2.0]],
        [1.0, 2.0, 3.0], np.ones((2, 2)), np.ones((2, 2, 2)), pd.DataFrame({"a": [1.0, 2.0], "b": [1.0, 2.0]}), [1.0, "x"], [1j, 2j],
        pd.Series([pd.Timedelta(1), pd.Timedelta(2)]), np.array(["1", "2"]),
    ],
    ids=lambda prediction: type(prediction).__name__,
)  # fmt: skip
@pytest.mark.parametrize("select", ["", "[0]", "[5]", "p2"])
def test_what_is_not_one_number_for_each_row_is_an_error_that_says_what_came_back(prediction, select):
    if select == "[0]" and getattr(prediction, "ndim", 0) == 2:
        return  # a column of it
    with pytest.raises(ModelError, match=r"FS3006|FS5002"):
        outputs_to_arrow(prediction, [Output("p", "double", select)], [pa.float64()], 2, "m")


class Mutating(mlflow.pyfunc.PythonModel):
    """Changes its input in place, as many do, and fails on some rows and at random calls."""

    def __init__(self, failing_calls: int) -> None:
        self.calls = 0
        self.failing_calls = failing_calls

    def predict(self, context, model_input, params=None):
        model_input["x"] = model_input["x"] * 2 + 1
        model_input["list"].map(lambda values: values.sort())
        self.calls += 1
        if self.calls <= self.failing_calls:
            raise RuntimeError("the service is away")
        if (model_input["x"] < 0).any():
            raise ValueError("negative")
        return model_input["x"] + model_input["list"].map(sum)


@settings(ordinary, max_examples=30)
@given(st.lists(st.floats(-10, 100), min_size=1, max_size=20), st.integers(0, 3))
def test_a_model_that_changes_its_input_scores_each_row_as_if_it_were_the_first(numbers, failing_calls):
    kinds = {"x": KINDS["double"], "list": KINDS["doubles"]}
    rows = [{"x": x, "list": [x, 1.0]} for x in numbers]
    columns = [ColSpec(kind.mlflow, name) for name, kind in kinds.items()]
    with tempfile.TemporaryDirectory() as folder:
        ref = save(Path(folder, "model"), Mutating(failing_calls), columns)
        spec = spec_of(ref, tuple(kinds), {"p": "double"}, batch_rows=7)
        spec = replace(spec, on_error=ErrorBudget("dead_letter", 100, retries=3))
        scored, dead = scored_rows(ref, table_of(rows, kinds), spec, {"p": pa.float64()})
    good = {number: x * 2 + 1 + x + 1.0 for number, x in enumerate(numbers) if x * 2 + 1 >= 0}
    assert {number: row["p"] for number, row in scored.items()} == pytest.approx(good)
    assert dead.keys() == set(range(len(numbers))) - good.keys()


FLAVORS = ["logistic", "forest on arrays", "lightgbm", "lightgbm classifier", "xgboost", "xgboost classifier", "onnx"]
METHODS = {"logistic": "predict_proba", "forest on arrays": "predict_proba", "lightgbm classifier": "predict_proba",
           "xgboost classifier": "predict_proba"}  # fmt: skip
LIGHTGBM_TYPES = ("collections.OrderedDict", "lightgbm.basic.Booster", "lightgbm.sklearn.LGBMClassifier")


@pytest.fixture(scope="module")
def flavors(tmp_path_factory) -> dict[str, ModelRef]:
    """A model of each flavor whose features differ much in scale: a swapped column changes each score."""
    folder = tmp_path_factory.mktemp("flavors")
    seed = np.random.default_rng(3)
    frame = pd.DataFrame(
        {"age": seed.uniform(18, 90, 300), "income": seed.uniform(1e4, 1e5, 300), "rate": seed.normal(size=300)}
    )
    label = ((frame["income"] > 5e4) ^ (frame["rate"] > 1)).astype(int)
    return {kind: save_flavor(kind, folder / kind.replace(" ", "-"), frame, label) for kind in FLAVORS}


def save_flavor(kind: str, folder: Path, frame: pd.DataFrame, label: pd.Series) -> ModelRef:
    import lightgbm
    import xgboost
    from skl2onnx import to_onnx
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LinearRegression, LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    options = {"signature": infer_signature(frame, label.astype(float)), "pip_requirements": []}
    pickled = {**options, "serialization_format": "cloudpickle"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if kind == "logistic":
            model = make_pipeline(StandardScaler(), LogisticRegression()).fit(frame, label)
            mlflow.sklearn.save_model(model, folder, **options, serialization_format="skops")
        elif kind == "forest on arrays":
            model = RandomForestClassifier(5, max_depth=4, random_state=1).fit(frame.to_numpy(), label)
            mlflow.sklearn.save_model(model, folder, **pickled)
        elif kind == "lightgbm":
            parameters = {"objective": "binary", "num_leaves": 7, "verbose": -1, "num_threads": 1}
            mlflow.lightgbm.save_model(lightgbm.train(parameters, lightgbm.Dataset(frame, label), 8), folder, **options)
        elif kind == "lightgbm classifier":
            model = lightgbm.LGBMClassifier(n_estimators=8, verbose=-1, n_jobs=1).fit(frame, label)
            mlflow.lightgbm.save_model(model, folder, **options)
        elif kind == "xgboost":
            data = xgboost.DMatrix(frame, label)
            model = xgboost.train({"objective": "binary:logistic", "max_depth": 3, "nthread": 1}, data, 8)
            mlflow.xgboost.save_model(model, folder, **options)
        elif kind == "xgboost classifier":
            model = xgboost.XGBClassifier(n_estimators=8, max_depth=3, n_jobs=1).fit(frame, label)
            mlflow.xgboost.save_model(model, folder, **options)
        else:
            model = LinearRegression().fit(frame, label)
            mlflow.onnx.save_model(to_onnx(model, frame.to_numpy().astype("float32")[:1]), folder, **options)
    return reference(kind, folder, METHODS.get(kind, "predict"), LIGHTGBM_TYPES)


def own_scores(ref: ModelRef, rows: list[dict]) -> list[float | Exception]:
    """The model's own scores by its pyfunc's enforcement and its own method, row by row where some row is refused."""
    model = mlflow.pyfunc.load_model(ref.archive)
    frame = frame_of(rows, dict.fromkeys(("age", "income", "rate"), KINDS["double"]))
    try:
        if ref.method == "predict":
            found = model.predict(frame)
            return list(found.iloc[:, 0] if isinstance(found, pd.DataFrame) else np.asarray(found).reshape(-1))
        raw = model.get_raw_model()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return list(raw.predict_proba(frame)[:, 1])
    except Exception as error:  # noqa: BLE001 - a model may raise anything
        return [error] if len(rows) == 1 else [own_scores(ref, [row])[0] for row in rows]


odd = st.sampled_from([math.inf, -math.inf, None, 0.0, -0.0, 1e300, -1e300, 5e-324])
number = st.floats(-1e6, 1e6) | odd


@settings(ordinary, max_examples=60)
@given(
    st.sampled_from(FLAVORS), st.sampled_from(["reference", "native", "compiled"]), st.permutations(["age", "income", "rate"]),
    st.lists(st.fixed_dictionaries({"age": number, "income": number, "rate": number}), min_size=1, max_size=6), st.booleans(),
)  # fmt: skip
@pytest.mark.filterwarnings("ignore")
def test_every_flavor_scores_as_by_itself_on_every_backend(flavors, kind, backend, order, rows, example):
    ref = flavors[kind]
    kinds = dict.fromkeys(("age", "income", "rate"), KINDS["double"])
    if example:  # ordinary rows first, as a worker's first batch has them
        rows = [{"age": 40.0, "income": 6e4, "rate": 0.1}, {"age": 20.0, "income": 2e4, "rate": -0.1}, *rows]
    expected = own_scores(ref, rows)
    output = "double from [1]" if ref.method == "predict_proba" else "double"
    spec = spec_of(ref, ("age", "income", "rate"), {"p": output}, backend=backend, models_in_memory=20)
    table = table_of(rows, kinds).select(["id", *order])
    scored, dead = scored_rows(ref, table, spec, {"p": pa.float64()})
    for place, right in enumerate(expected):
        if isinstance(right, Exception):
            assert place in dead, f"{kind} refuses {rows[place]}: {right}; {backend} scored {scored.get(place)}"
        elif backend == "compiled":
            score = scored[place]["p"]  # NaN is published as null
            assert same(score, float(right)) or score == pytest.approx(float(right), rel=1e-6, abs=1e-6)
        else:
            assert same(scored[place]["p"], float(right)), (kind, backend, rows[place])


def test_text_that_is_not_utf8_is_an_error_that_says_so(tmp_path):
    ref = save(tmp_path / "model", Describe(), [ColSpec(KINDS["string"].mlflow, "x")])
    broken = pa.array([b"fine", b"\xff\xfe"], pa.binary()).view(pa.string())
    table = pa.table({"id": pa.array([0, 1], pa.int64()), "x": broken})
    with pytest.raises(RowErrorBudget, match="FS5001 .* not valid UTF-8"):
        scored_rows(ref, table, spec_of(ref, ("x",), {"seen": "string"}), {"seen": pa.string()})


class Buffered(mlflow.pyfunc.PythonModel):
    """Writes its results into a buffer of its own, as libraries do to save memory."""

    def predict(self, context, model_input, params=None):
        if not hasattr(self, "out"):
            self.out = np.empty(100)
        np.multiply(model_input["x"], 2, out=self.out[: len(model_input)])
        return self.out[: len(model_input)]


def test_a_model_that_reuses_its_buffer_does_not_change_earlier_scores(tmp_path):
    ref = save(tmp_path / "model", Buffered(), [ColSpec(KINDS["double"].mlflow, "x")])
    table = table_of([{"x": float(number)} for number in range(50)], {"x": KINDS["double"]})
    scored, _ = scored_rows(ref, table, spec_of(ref, ("x",), {"p": "double"}, batch_rows=7), {"p": pa.float64()})
    assert [scored[number]["p"] for number in range(50)] == [2.0 * number for number in range(50)]


NOON = dt.datetime(2020, 1, 1, 12)  # noqa: DTZ001
NESTED = [
    ("map<string,int>", pa.map_(pa.string(), pa.int32()), [{"a": 1}, {}, None], [[("a", 1)], [], None]),
    ("map<string,int>", pa.map_(pa.string(), pa.int32()), [{"a": 1.5}], None),
    ("map<string,string>", pa.map_(pa.string(), pa.string()), [{"a": "b"}], [[("a", "b")]]),
    ("map<int,int>", pa.map_(pa.int32(), pa.int32()), [{1: 2}], [[(1, 2)]]),
    ("map<string,date>", pa.map_(pa.string(), pa.date32()), [{"a": NOON}], None),
    ("map<string,timestamp>", pa.map_(pa.string(), pa.timestamp("us", "UTC")), [{"a": NOON}], [[("a", NOON.replace(tzinfo=dt.UTC))]]),
    ("array<double>", pa.list_(pa.float64()), [[1.5, None], [], None], [[1.5, None], [], None]),
    ("array<double>", pa.list_(pa.float64()), [np.array([1.5, np.nan]), np.array([])], [[1.5, None], []]),
    ("array<int>", pa.list_(pa.int32()), [[1.5]], None),
    ("struct<a:int>", pa.struct([("a", pa.int32())]), [{"a": 1, "b": 2}, None], [{"a": 1}, None]),
    ("struct<a:float>", pa.struct([("a", pa.float32())]), [{"a": 1e300}], None),
    ("date", pa.date32(), [dt.date(2020, 1, 1), NOON], None),
    ("timestamp", pa.timestamp("us", "UTC"), [dt.date(2020, 1, 1), NOON],
     [dt.datetime(2020, 1, 1, tzinfo=dt.UTC), NOON.replace(tzinfo=dt.UTC)]),
    ("bigint", pa.int64(), [decimal.Decimal("1.5"), 2], None),
    ("bigint", pa.int64(), [2**53 + 1, 1.0, None], [2**53 + 1, 1, None]),
    ("bigint", pa.int64(), [2**53 + 1, 1.5], None),
    ("double", pa.float64(), pd.array([0.0, 1.0], dtype="Float64") / 0.0, [None, math.inf]),
    ("double", pa.float64(), pd.Series([0.0, 1.0], dtype="float64[pyarrow]") / 0.0, [None, math.inf]),
    ("double", pa.float64(), pa.array([math.nan, 1.0]), [None, 1.0]),
    ("string", pa.string(), pd.concat([pd.Series(["a"], dtype="string[pyarrow]")] * 2), ["a", "a"]),
    ("array<double>", pa.list_(pa.float64()), pa.array([[0.0], [1.0], None, [2.0]]).slice(1), [[1.0], None, [2.0]]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("declared", "kind", "values", "published"),
    NESTED,
    ids=[f"{number} {case[0]}" for number, case in enumerate(NESTED)],
)
def test_objects_are_published_exactly_or_not_at_all(declared, kind, values, published):
    def made():
        return outputs_to_arrow(values, [Output("p", declared)], [kind], len(values), "m")[0]

    if published is None:
        with pytest.raises(ModelError, match="FS5002"):
            made()
    else:
        assert made().to_pylist() == published


class Panics(mlflow.pyfunc.PythonModel):
    """Raises what is no Exception on a negative number, as extensions in Rust do."""

    def predict(self, context, model_input, params=None):
        if (model_input["x"] < 0).any():
            raise type("PanicException", (BaseException,), {})("index out of bounds")
        return model_input["x"]


@pytest.mark.parametrize("backends", ["reference", "guarded"])
def test_a_panic_is_an_error_of_the_row(tmp_path, backends):
    ref = save(tmp_path / "model", Panics(), [ColSpec(KINDS["double"].mlflow, "x")])
    table = table_of([{"x": 1.0}, {"x": -1.0}, {"x": 2.0}], {"x": KINDS["double"]})
    scored, dead = scored_rows(ref, table, spec_of(ref, ("x",), {"p": "double"}, backend=backends), {"p": pa.float64()})
    assert (sorted(scored), dead) == ([0, 2], {1: "PanicException"})


def test_a_tuple_of_columns_is_not_taken_for_rows():
    columns = (np.array([1.0, 2.0]), np.array([3.0, 4.0]))
    with pytest.raises(ModelError, match="FS3006"):
        outputs_to_arrow(columns, [Output("p", "double", "[0]")], [pa.float64()], 2, "m")


def test_a_key_of_the_data_is_no_number_of_a_row():
    frame = pd.DataFrame({"k": [1, 0], "y": [10.0, 20.0]}).set_index("k")
    assert outputs_to_arrow(frame, [Output("p", "double", "y")], [pa.float64()], 2, "m")[0].to_pylist() == [10.0, 20.0]


def test_a_row_with_a_date_that_python_has_not_is_a_dead_letter(tmp_path):
    ref = save(tmp_path / "model", Panics(), [ColSpec(KINDS["double"].mlflow, "x")])
    far = pa.array([0, 4_000_000], pa.int32()).cast(pa.date32())
    table = table_of([{"x": 1.0}, {"x": -1.0}], {"x": KINDS["double"]}).append_column("valid_to", far)
    spec = replace(spec_of(ref, ("x",), {"p": "double"}), keep=("id", "valid_to"))
    report = TaskReport(0, 0)
    list(
        score_batches(
            table.to_batches(),
            spec,
            pa.schema([("id", pa.int64()), ("valid_to", pa.date32()), ("p", pa.float64())]),
            report,
        )
    )
    assert (report.rows_scored, len(report.dead_letters)) == (1, 1)


def test_predict_proba_gets_nan_for_integers_that_are_null(tmp_path):
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    frame = pd.DataFrame({"hour": [1.0, 5.0, np.nan, 20.0], "x": [0.1, 0.4, 0.2, 0.9]})
    model = make_pipeline(SimpleImputer(), LogisticRegression()).fit(frame, [0, 0, 1, 1])
    columns = [ColSpec(KINDS["integer"].mlflow, "hour"), ColSpec(KINDS["double"].mlflow, "x")]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlflow.sklearn.save_model(
            model,
            tmp_path / "model",
            pip_requirements=[],
            serialization_format="cloudpickle",
            signature=ModelSignature(Schema(columns)),
        )
    ref = reference("m", tmp_path / "model", "predict_proba")
    kinds = {"hour": KINDS["integer"], "x": KINDS["double"]}
    rows = [{"hour": None, "x": 0.5}, {"hour": 7, "x": 0.5}]
    for backends in ("reference", "native"):
        spec = spec_of(ref, ("x", "hour"), {"p": "double from [1]"}, backend=backends)
        scored, dead = scored_rows(ref, table_of(rows, kinds), spec, {"p": pa.float64()})
        right = model.predict_proba(pd.DataFrame({"hour": [np.nan, 7.0], "x": [0.5, 0.5]}))[:, 1]
        assert not dead
        assert [scored[0]["p"], scored[1]["p"]] == pytest.approx(list(right), rel=1e-12)
