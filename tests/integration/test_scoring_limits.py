"""Deadlines, retries, warm-up and the models that a worker keeps: on real Spark, with real MLflow models."""

from __future__ import annotations

import contextlib
import threading

import mlflow.pyfunc
import pyarrow as pa
import pytest
from pyspark.errors import PySparkException
from pyspark.sql import functions as F  # noqa: N812

from firesteel.udfs import model as models
from firesteel.udfs.deadline import BatchTimeout, with_timeout
from firesteel.udfs.digest import digest_of
from firesteel.udfs.model import ModelRef, distribute_model, load_model
from firesteel.udfs.report import TaskReport
from firesteel.udfs.score import score, score_batches, worker_error
from firesteel.udfs.spec import ErrorBudget, Output, ScoreSpec

pytestmark = pytest.mark.integration

# Workers import this module to find the models' classes, and have no tests/ on their path: `support` is imported late.


class Hangs(mlflow.pyfunc.PythonModel):
    """Never answers when x is 13, whatever it catches."""

    def predict(self, context, model_input, params=None):
        if (model_input["x"] == 13).any():
            with contextlib.suppress(Exception):
                threading.Event().wait()
        return model_input["x"] * 2


class Flaky(mlflow.pyfunc.PythonModel):
    """Fails on every first call with a batch, as a service behind a model may."""

    seen = 0

    def predict(self, context, model_input, params=None):
        type(self).seen += 1
        if type(self).seen % 2:
            raise ConnectionError("try again")
        return model_input["x"] * 2


def saved(folder, model) -> ModelRef:
    mlflow.pyfunc.save_model(folder, python_model=model, pip_requirements=[])
    return ModelRef("m", digest_of(folder).hex, str(folder), format="pickle")


def test_a_row_that_hangs_is_cut_and_the_worker_lives_on(spark, tmp_path):
    ref = saved(tmp_path / "m", Hangs())
    shipped = ModelRef("m", ref.digest, distribute_model(spark, tmp_path / "m", ref.digest), format=ref.format)
    frame = spark.range(16).select("id", F.col("id").cast("double").alias("x")).coalesce(1)
    budget = ErrorBudget("dead_letter", max_rows=3)
    spec = ScoreSpec(shipped, ("x",), ("id",), (Output("y", "double"),), on_error=budget, timeout_s=0.5)
    first = score(frame, spec)
    assert sorted(row["id"] for row in first.df.collect()) == [each for each in range(16) if each != 13]
    dead_letters = first.report().dead_letters
    assert [(dict(letter.row)["id"], letter.error, letter.message) for letter in dead_letters] == [
        (13, "BatchTimeout", "no result within 0.5 s")
    ]
    # On local[2] a task whose worker dies is not tried again: one task, one worker, one load for all of it.
    report = first.report()
    assert (report.rows_in, report.rows_scored) == (16, 15)
    assert report.loads <= 1


def test_a_deadline_leaves_no_timer_and_no_handler_behind():
    import signal

    before = signal.getsignal(signal.SIGALRM)
    with pytest.raises(BatchTimeout):
        with_timeout(0.05, lambda _: threading.Event().wait())(None)
    assert with_timeout(5.0, lambda batch: batch)(7) == 7
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert signal.getsignal(signal.SIGALRM) == before


def batches() -> list[pa.RecordBatch]:
    return pa.table({"id": pa.array(range(8)), "x": [float(each) for each in range(8)]}).to_batches()


@pytest.mark.parametrize(("retries", "dead"), [(0, 8), (1, 0)])
def test_a_batch_is_tried_again_before_it_is_halved(tmp_path, retries, dead):
    ref = saved(tmp_path / "m", Flaky() if retries else Broken())
    budget = ErrorBudget("dead_letter", max_rows=8, retries=retries)
    spec = ScoreSpec(ref, ("x",), ("id",), (Output("y", "double"),), on_error=budget)
    report = TaskReport(0, 0)
    schema = pa.schema([("id", pa.int64()), ("y", pa.float64())])
    found = [row for batch in score_batches(batches(), spec, schema, report) for row in batch.to_pylist()]
    assert (len(found), len(report.dead_letters)) == (8 - dead, dead)


class Broken(mlflow.pyfunc.PythonModel):
    """Always fails."""

    def predict(self, context, model_input, params=None):
        raise ConnectionError("down")


def test_warm_up_scores_the_example_or_says_that_there_is_none(spark, tmp_path):
    from support.models import FEATURES, save

    frame = spark.range(3).select("id", *(F.col("id").cast("double").alias(name) for name in FEATURES))

    def spec_of(ref: ModelRef, folder) -> ScoreSpec:
        shipped = ModelRef(ref.name, ref.digest, distribute_model(spark, folder, ref.digest), format=ref.format)
        return ScoreSpec(shipped, FEATURES, ("id",), (Output("y", "double"),), warmup=True)

    with_example = score(frame, spec_of(save("ridge", tmp_path / "a", example=True), tmp_path / "a"))
    assert with_example.df.count() == 3
    assert dict(with_example.report().seconds)["warm up"] > 0
    without = score(frame, spec_of(save("lightgbm", tmp_path / "b"), tmp_path / "b"))
    with pytest.raises(PySparkException) as caught:
        without.df.count()
    assert "FS3003 model lightgbm has no input example" in str(worker_error(caught.value))


def test_a_worker_keeps_as_many_models_as_it_may(tmp_path, monkeypatch):
    from support.models import save

    monkeypatch.setattr(models, "_CACHE", type(models._CACHE)())
    first, second = save("ridge", tmp_path / "a"), save("lightgbm", tmp_path / "b")
    assert [load_model(ref, keep=2)[1] for ref in (first, second, first, second)] == [True, True, False, False]
    assert [load_model(ref, keep=1)[1] for ref in (first, second, first)] == [False, True, True]
