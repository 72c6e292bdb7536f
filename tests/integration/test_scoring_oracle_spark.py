"""The oracle of scoring through real Spark: types that Spark converts by itself, odd names, nulls."""

from __future__ import annotations

import warnings
from dataclasses import replace

import cloudpickle
import mlflow
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from mlflow.models import ModelSignature
from mlflow.types.schema import ColSpec, Schema

from firesteel.udfs.digest import digest_of
from firesteel.udfs.model import ModelRef, distribute_model
from firesteel.udfs.score import score
from support import oracle
from support.oracle import KINDS, Describe, predicted, spec_of, table_of

pytestmark = pytest.mark.integration
ROWS = 60


def generated_rows() -> list[dict]:
    """Rows of all kinds, the same in each run; a third of the values null."""
    found: list[dict] = []
    row = st.fixed_dictionaries({name: st.none() | kind.some | kind.some for name, kind in KINDS.items()})

    @settings(
        max_examples=ROWS,
        derandomize=True,
        database=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(row)
    def collect(each):
        found.append(each)

    collect()
    return found


@pytest.fixture(scope="module")
def describing(tmp_path_factory) -> dict[str, object]:
    """One model for each kind, whose column has an odd name."""
    folder = tmp_path_factory.mktemp("describing")
    cloudpickle.register_pickle_by_value(oracle)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for number, (name, kind) in enumerate(KINDS.items()):
                mlflow.pyfunc.save_model(
                    folder / str(number), python_model=Describe(), pip_requirements=[],
                    signature=ModelSignature(Schema([ColSpec(kind.mlflow, f"the.`{name}`", required=False)])),
                )  # fmt: skip
    finally:
        cloudpickle.unregister_pickle_by_value(oracle)
    return {name: folder / str(number) for number, name in enumerate(KINDS)}


@pytest.mark.parametrize(
    "name", ["boolean", "datetime", "naive datetime", "objects", "map", "matrix", "long", "string"]
)
def test_spark_hands_each_type_over_as_the_pyfunc_sees_it(spark, describing, name):
    kind, rows = KINDS[name], [{f"the.`{name}`": row[name]} for row in generated_rows()]
    kinds = {f"the.`{name}`": kind}
    expected = predicted(mlflow.pyfunc.load_model(str(describing[name])), rows, kinds)
    table = table_of(rows, kinds)
    frame = spark.createDataFrame(table.append_column("kept.too", pa.array([str(i) for i in range(len(rows))])))
    digest = digest_of(describing[name]).hex
    ref = ModelRef("m", digest, distribute_model(spark, describing[name], digest), format="pickle")
    spec = replace(spec_of(ref, tuple(kinds), {"seen.by.it": "string"}), keep=("id", "kept.too"))
    scored = score(frame.coalesce(1), spec)
    found = {row["id"]: row for row in scored.df.collect()}
    dead = {dict(letter.row)["id"] for letter in scored.report().dead_letters}
    assert found.keys() | dead == set(range(len(rows)))
    assert dead == {number for number, right in enumerate(expected) if isinstance(right, Exception)}
    assert {number: row["seen.by.it"] for number, row in found.items()} == {
        number: right for number, right in enumerate(expected) if not isinstance(right, Exception)
    }
    assert all(row["kept.too"] == str(number) for number, row in found.items())
