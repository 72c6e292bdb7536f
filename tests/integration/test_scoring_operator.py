"""The operator on real Spark with real MLflow models."""

from __future__ import annotations

from pathlib import Path

import mlflow.pyfunc
import mlflow.sklearn
import numpy as np
import pandas as pd
import pytest
from chispa import assert_df_equality
from mlflow.models import infer_signature
from pyspark.errors import PySparkException
from pyspark.sql import functions as F  # noqa: N812
from sklearn.linear_model import LinearRegression

from firesteel.conf.errors import ModelError, RowErrorBudget
from firesteel.udfs.model import ModelRef, digest_of, distribute_model
from firesteel.udfs.score import score, worker_error
from firesteel.udfs.spec import ErrorBudget, Output, ScoreSpec
from firesteel.udfs.trust import artifact_of

pytestmark = pytest.mark.integration


class Picky(mlflow.pyfunc.PythonModel):
    """Fails on negative numbers; returns twice the number otherwise."""

    def predict(self, context, model_input, params=None):
        if (model_input["x"] < 0).any():
            raise ValueError("a negative number")
        return model_input["x"] * 2


class Echo(mlflow.pyfunc.PythonModel):
    """Returns its integers as it was given them."""

    def predict(self, context, model_input, params=None):
        return model_input["n"]


@pytest.fixture(scope="module")
def linear(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("linear") / "model"
    frame = pd.DataFrame({"a": [0.0, 1.0, 2.0], "b": [1.0, 0.0, 1.0]})
    model = LinearRegression().fit(frame, [1.0, 2.0, 5.0])
    mlflow.sklearn.save_model(
        model, folder, serialization_format="skops", signature=infer_signature(frame, model.predict(frame))
    )
    return folder


def pyfunc(folder: Path, model: mlflow.pyfunc.PythonModel) -> Path:
    mlflow.pyfunc.save_model(folder, python_model=model)
    return folder


def spec_for(spark, folder: Path, features, outputs, **options) -> ScoreSpec:
    digest = digest_of(folder).hex
    ref = ModelRef("m", digest, distribute_model(spark, folder, digest), format=artifact_of(folder).format)
    return ScoreSpec(ref, features, options.pop("keep", ("id",)), outputs, **options)


def test_scores_equal_the_models_own_and_the_session_is_left_alone(spark, linear):
    frame = (
        spark.range(1000)
        .select("id", (F.col("id") / 10).alias("a"), (F.col("id") % 3).cast("double").alias("b"))
        .repartition(3)
    )
    spec = spec_for(spark, linear, ("a", "b"), (Output("y", "double"),), batch_rows=64)
    scored = score(frame, spec)
    local = frame.toPandas()
    expected = spark.createDataFrame(
        pd.DataFrame({"id": local["id"], "y": mlflow.sklearn.load_model(str(linear)).predict(local[["a", "b"]])})
    )
    assert_df_equality(scored.df.orderBy("id"), expected.orderBy("id"), ignore_nullable=True)


def test_a_filter_on_the_score_evaluates_every_row_once(spark, linear):
    frame = spark.range(1000).select("id", F.col("id").cast("double").alias("a"), F.lit(0.0).alias("b"))
    scored = score(frame, spec_for(spark, linear, ("a", "b"), (Output("y", "double"),)))
    few = scored.df.where("y > 100 AND id % 2 = 0").select("id", (F.col("y") + F.col("y")).alias("z"))
    assert 0 < few.count() < 1000
    report = scored.report()
    assert (report.rows_in, report.rows_scored) == (1000, 1000)


def test_a_model_is_loaded_once_per_worker_and_not_per_task(spark, linear):
    frame = spark.range(400).select("id", F.col("id").cast("double").alias("a"), F.lit(0.0).alias("b")).repartition(8)
    spec = spec_for(spark, linear, ("a", "b"), (Output("y", "double"),))
    first, second = score(frame, spec), score(frame, spec)
    assert first.df.count() == second.df.count() == 400
    assert first.report().loads + second.report().loads <= 2


def test_nullable_integers_beyond_2_to_the_53_are_exact(spark, tmp_path):
    frame = spark.createDataFrame([(1, 2**53 + 1), (2, None), (3, 7)], "id long, n long").coalesce(1)
    scored = score(
        frame, spec_for(spark, pyfunc(tmp_path / "m", Echo()), ("n",), (Output("same", "bigint"),), keep=("id", "n"))
    )
    assert [tuple(row) for row in scored.df.orderBy("id").collect()] == [
        (1, 2**53 + 1, 2**53 + 1),
        (2, None, None),
        (3, 7, 7),
    ]


def test_rows_that_fail_become_dead_letters_and_all_others_are_scored(spark, tmp_path):
    frame = (
        spark.range(500)
        .select("id", F.when(F.col("id").isin(7, 8, 499), -1.0).otherwise(1.0).alias("x"))
        .repartition(2)
    )
    budget = ErrorBudget("dead_letter", max_rows=10)
    scored = score(
        frame, spec_for(spark, pyfunc(tmp_path / "m", Picky()), ("x",), (Output("y", "double"),), on_error=budget)
    )
    assert scored.df.count() == 497
    report = scored.report()
    assert (report.rows_in, report.rows_scored, len(report.dead_letters)) == (500, 497, 3)
    assert {dict(letter.row)["id"] for letter in report.dead_letters} == {7, 8, 499}
    assert {(letter.error, letter.message) for letter in report.dead_letters} == {("ValueError", "a negative number")}


@pytest.mark.parametrize(
    ("budget", "code"), [(ErrorBudget("fail"), "FS5001"), (ErrorBudget("dead_letter", max_rows=2), "FS5003")]
)
def test_the_budget_of_bad_rows_stops_the_job_with_a_typed_error(spark, tmp_path, budget, code):
    frame = spark.range(100).select("id", F.lit(-1.0).alias("x")).coalesce(1)
    scored = score(
        frame, spec_for(spark, pyfunc(tmp_path / "m", Picky()), ("x",), (Output("y", "double"),), on_error=budget)
    )
    with pytest.raises(PySparkException) as caught:
        scored.df.count()
    found = worker_error(caught.value)
    assert isinstance(found, RowErrorBudget)
    assert found.code == code


def test_an_output_that_does_not_fit_is_a_typed_error(spark, linear):
    frame = spark.range(3).select("id", F.lit(1.0).alias("a"), F.lit(1.0).alias("b"))
    scored = score(frame, spec_for(spark, linear, ("a", "b"), (Output("y", "double", "[1]"),)))
    with pytest.raises(PySparkException) as caught:
        scored.df.count()
    found = worker_error(caught.value)
    assert isinstance(found, ModelError)
    assert "an array of shape (" in str(found)


def test_files_that_changed_after_shipping_are_not_loaded(spark, tmp_path):
    folder = pyfunc(tmp_path / "m", Picky())
    frame = spark.range(3).select("id", F.lit(1.0).alias("x"))
    ref = ModelRef("m", "0" * 64, str(folder), format="skops")
    scored = score(frame, ScoreSpec(ref, ("x",), ("id",), (Output("y", "double"),)))
    with pytest.raises(PySparkException) as caught:
        scored.df.count()
    assert "FS3011" in str(worker_error(caught.value))


def test_a_model_whose_packages_are_not_there_says_so(spark, tmp_path):
    folder = tmp_path / "m"
    (tmp_path / "data").write_bytes(b"x")
    mlflow.pyfunc.save_model(folder, loader_module="json", data_path=tmp_path / "data")
    (folder / "MLmodel").write_text(
        (folder / "MLmodel").read_text().replace("loader_module: json", "loader_module: no_such_module")
    )
    scored = score(spark.range(3), spec_for(spark, folder, ("id",), (Output("y", "double"),)))
    with pytest.raises(PySparkException) as caught:
        scored.df.count()
    assert "FS3012 model m cannot be loaded in a worker: ModuleNotFoundError" in str(worker_error(caught.value))


def test_an_empty_frame_has_the_schema_and_no_rows(spark, linear):
    frame = spark.createDataFrame([], "id long, a double, b double")
    scored = score(frame, spec_for(spark, linear, ("a", "b"), (Output("y", "double"),)))
    assert scored.df.schema.simpleString() == "struct<id:bigint,y:double>"
    assert scored.df.count() == 0


def test_a_deterministic_pandas_udf_would_score_rows_twice(spark):
    """Why the operator is no pandas_udf; the numbers of ADR 2."""
    from pyspark.sql.functions import pandas_udf

    seen = spark.sparkContext.accumulator(0)

    @pandas_udf("double")
    def twice(values: pd.Series) -> pd.Series:
        seen.add(len(values))
        return values * 2

    frame = spark.range(1000).select("id", twice(F.col("id").cast("double")).alias("y"))
    assert frame.where("y >= 20").count() == 990
    frame.where("y >= 20").write.format("noop").mode("overwrite").save()
    assert seen.value > 2000  # two actions over 1,000 rows
    assert np.isclose(frame.agg(F.max("y")).first()[0], 1998)
