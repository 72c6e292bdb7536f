"""The public API on real Spark: `score` beside the model's own predictions, `read`, `frame`, `show` and `run --sample`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import mlflow.pyfunc
import mlflow.sklearn
import numpy as np
import pandas as pd
import pytest
from pyspark.errors import PythonException
from pyspark.sql import functions as F  # noqa: N812

import firesteel
from firesteel.jobs.preview.sample import score_sample
from firesteel.jobs.run.plan_runner import run_plan
from firesteel.pipelines.publish.recover import person, recover
from firesteel.pipelines.publish.rollback import rollback
from firesteel.pipelines.publish.state_store import StateStore
from firesteel.pipelines.storage.open import locate
from support.data import write_days
from support.models import save, training
from support.runs import DAY, Project
from support.scoring_project import ScoringProject

pytestmark = pytest.mark.integration
DAYS = ("2013-06-01", "2013-06-02", "2013-06-03")


@pytest.fixture(scope="module")
def ridge(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("ridge") / "model"
    save("ridge", folder)
    return folder


@pytest.fixture(scope="module")
def points(spark):
    """Rows with a column that no model takes, and the features under names in another case and order."""
    local, _ = training()
    local = local.assign(id=range(len(local)), note="x").rename(columns={"b": "B"})[["note", "c", "B", "a", "id"]]
    return spark.createDataFrame(local).repartition(3)


def test_scores_are_the_pyfuncs_own_and_every_column_stays(spark, points, ridge):
    scored = firesteel.score(points, str(ridge), {"p": "double"})
    assert scored.dtypes == [*points.dtypes, ("p", "double")]
    rows = scored.toPandas().sort_values("id")
    expected = mlflow.pyfunc.load_model(str(ridge)).predict(rows.rename(columns={"B": "b"})[["a", "b", "c"]])
    np.testing.assert_allclose(rows["p"], expected, rtol=1e-12)  # BLAS adds in an order that depends on the batch
    assert len(rows) == 400
    assert scored.where("p > 0").count() == (expected > 0).sum()


def test_a_registered_model_is_scored_by_its_alias(spark, flight_model, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", flight_model)
    names = ["wind_speed", "precip", "visib", "temp"]
    local = pd.DataFrame({"dep_hour": np.arange(40) % 24, "distance": 100 + np.arange(40)}, dtype="int32")
    local = local.assign(dep_delay=np.arange(40.0) - 10, **dict.fromkeys(names, 5.0))
    schema = "dep_hour int, distance int, dep_delay double, " + ", ".join(f"{name} double" for name in names)
    outputs = {"on_time": "double from [0]", "late": "double from [1]"}
    uri = "models:/flight_delay@champion"
    scored = firesteel.score(
        spark.createDataFrame(local, schema), uri, outputs, keep=["distance"], method="predict_proba"
    )
    mlflow.set_tracking_uri(flight_model)
    model = mlflow.sklearn.load_model(uri)
    expected = model.predict_proba(local[list(model.feature_names_in_)])
    rows = scored.toPandas().sort_values("distance")
    assert list(rows) == ["distance", "on_time", "late"]
    np.testing.assert_allclose(rows[["on_time", "late"]], expected, rtol=1e-12)
    with pytest.raises(firesteel.ModelError, match=r"FS3005 models:/flight_delay@nobody: the alias does not exist"):
        firesteel.score(scored, "models:/flight_delay@nobody", outputs)


def test_what_does_not_fit_is_said_at_once_and_before_any_row_is_read(spark, points, ridge):
    with pytest.raises(
        firesteel.ModelError, match="FS3002 model model .* needs `a: double`, but the DataFrame does not have this"
    ) as one:
        firesteel.score(points.drop("a"), str(ridge), {"p": "double"})
    assert one.value.exit_code == 2
    with pytest.raises(firesteel.ModelError, match=r"but the DataFrame has `string`\. Add CAST\(a AS DOUBLE\)"):
        firesteel.score(points.withColumn("a", F.lit("x")), str(ridge), {"p": "double"})
    with pytest.raises(firesteel.SpecErrors) as several:
        firesteel.score(
            points, str(ridge), {"p": "doubel", "ID": "int", "": "double"}, keep=["id", "nota"], features=["a", "z"]
        )
    codes = [error.code for error in several.value.errors]
    assert codes == ["FS1004", "FS1013", "FS2004", "FS3002", "FS3002", "FS3002"], several.value
    assert "Did you mean `note`?" in str(several.value)
    with pytest.raises(firesteel.SpecError, match="FS1005 outputs is empty"):
        firesteel.score(points, str(ridge), {})
    with pytest.raises(firesteel.SpecError, match="FS1013 `id` is in `keep` or in the DataFrame twice"):
        firesteel.score(points.select("*", "id"), str(ridge), {"p": "double"})
    with pytest.raises(firesteel.ModelError, match="FS3001"):
        firesteel.score(points, str(ridge.parent / "none"), {"p": "double"})


def test_a_pickle_is_loaded_only_where_it_is_trusted(spark, points, tmp_path):
    save("forest", tmp_path / "forest")
    outputs = {"p": "double from [1]"}
    with pytest.raises(firesteel.ModelError, match="FS3009 model forest is stored as pickle"):
        firesteel.score(points, str(tmp_path / "forest"), outputs, method="predict_proba")
    scored = firesteel.score(
        points, str(tmp_path / "forest"), outputs, method="predict_proba", trust_formats=["pickle"]
    )
    assert 0 <= scored.agg(F.min("p")).first()[0] <= 1


def test_rows_that_fail_end_the_job_or_are_left_out_up_to_a_number(spark, picky):
    distance = F.when(F.col("id") < 5, 107).otherwise(F.col("id")).cast("int").alias("distance")
    frame = spark.range(0, 100, 1, 2).select("id", distance)
    options = {"trust_formats": ["pickle"], "tracking_uri": picky}
    with pytest.raises(PythonException, match="FS5001 model picky failed on a row"):
        firesteel.score(frame, "models:/picky/1", {"p": "double"}, **options).count()
    left = firesteel.score(frame, "models:/picky/1", {"p": "double"}, max_failed_rows=5, **options)
    assert sorted(row.id for row in left.collect()) == list(range(5, 100))
    with pytest.raises(PythonException, match="FS5003"):
        firesteel.score(frame, "models:/picky/1", {"p": "double"}, max_failed_rows=4, **options).count()


@pytest.fixture(scope="module")
def published(spark, tmp_path_factory, flight_model) -> Project:
    """Three published days, of which the second was published twice, and rolled back once."""
    folder = tmp_path_factory.mktemp("published")
    write_days(folder / "data", list(DAYS))
    project = Project(folder / "project", f"file://{folder / 'data'}", flight_model)
    pipeline = project.pipeline()
    assert run_plan(pipeline.plan(DAYS[0], DAYS[2]), spark=spark, runs=folder / "runs").state == "published"
    again = run_plan(pipeline.plan(DAYS[1], force=True), spark=spark, runs=folder / "runs")
    assert again.state == "published"
    return project


def days(frame) -> dict[str, int]:
    return {str(row.dt): row.n for row in frame.groupBy("dt").agg(F.count("*").alias("n")).collect()}


def test_read_gives_the_current_version_of_every_interval(spark, published):
    sink = published.pipeline().sinks["scores"]
    for place in (sink, sink.path, Path(sink.path.removeprefix("file://"))):
        frame = firesteel.read(spark, place)
        assert days(frame) == dict.fromkeys(DAYS, 60)
        assert set(frame.columns) == {column.name for column in sink.columns}
    assert days(firesteel.read(spark, sink, [DAYS[2]])) == {DAYS[2]: 60}
    listed = spark.read.parquet(sink.path)
    assert listed.exceptAll(firesteel.read(spark, sink.path).select(listed.columns)).count() == 0


def area_of(pipeline) -> StateStore:
    return StateStore(*locate(pipeline.loaded.spec.storage), pipeline.name, pipeline.loaded.profile)


def runs_of(spark, sink, day: str) -> set[str]:
    """The ids of the runs whose rows are published for a day."""
    return {row["_run_id"] for row in firesteel.read(spark, sink, [day]).select("_run_id").distinct().collect()}


def test_read_has_the_earlier_rows_after_a_rollback(spark, published):
    pipeline = published.pipeline()
    sink = pipeline.sinks["scores"]
    first, second = runs_of(spark, sink, DAYS[0]), runs_of(spark, sink, DAYS[1])
    assert first != second
    rollback(area_of(pipeline), "scores", sink.path, DAYS[1], person("rollback"), keep_versions=2)
    assert runs_of(spark, sink, DAYS[1]) == first
    assert days(firesteel.read(spark, sink)) == dict.fromkeys(DAYS, 60)


def test_read_refuses_an_interval_of_which_a_part_is_published_until_it_is_recovered(spark, published, tmp_path):
    pipeline = published.pipeline()
    sink = pipeline.sinks["scores"]

    def interrupted(event):
        if event.kind == "partition_published":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_plan(pipeline.plan(DAYS[2], force=True), spark=spark, runs=tmp_path, on_event=interrupted, run_id="cut-off")
    with pytest.raises(firesteel.StorageError, match=f"FS8011 .* {DAYS[2]}: "):
        firesteel.read(spark, sink, timeout_s=0)
    assert days(firesteel.read(spark, sink, DAYS[:2], timeout_s=0)) == dict.fromkeys(DAYS[:2], 60)
    recover(area_of(pipeline), "scores", sink.path, DAYS[2])
    assert days(firesteel.read(spark, sink)) == dict.fromkeys(DAYS, 60)
    assert runs_of(spark, sink, DAYS[2]) == {"cut-off"}


def test_read_of_a_sink_that_nothing_was_published_in(spark, tmp_path):
    with pytest.raises(firesteel.StorageError, match="FS8003"):
        firesteel.read(spark, tmp_path)


def test_a_frame_has_the_rows_that_a_run_scores_and_leaves_the_session_alone(spark, published):
    pipeline = published.pipeline()
    before = published.published()
    assert pipeline.frame("flights", DAY, spark=spark).count() == 60
    features = pipeline.frame("features", DAY, spark=spark)
    assert features.count() == 60
    scored = pipeline.frame("scored", DAY, spark=spark)
    rows = firesteel.read(spark, pipeline.sinks["scores"], [DAY]).select(scored.columns)
    assert sorted(scored.collect()) == sorted(rows.collect())
    half = pipeline.frame("features", DAY, sample=0.5, spark=spark)
    assert 0 < half.count() < 60
    assert half.exceptAll(features).count() == 0
    assert 0 < pipeline.frame("scored", DAY, sample=0.5, spark=spark).count() < 60
    assert not spark.catalog.tableExists("features")
    assert published.published() == before


def test_a_frame_says_what_is_wrong(published):
    pipeline = published.pipeline()
    with pytest.raises(
        firesteel.SpecError, match="FS1010 flight_delay_scores has no step or source `featurs`. Did you mean `features`"
    ):
        pipeline.frame("featurs", DAY)
    with pytest.raises(firesteel.SpecError, match="FS1004 sample is 1.5"):
        pipeline.frame("features", DAY, sample=1.5)


def test_a_sample_is_written_beside_the_ledger_and_published_nowhere(spark, published):
    root = Path(published.root.removeprefix("file://"))
    tracked = mlflow.MlflowClient(published.tracking)

    def records() -> tuple[dict[str, bytes], list[Path], int]:
        ledger = sorted(root.glob("_firesteel/*/ledger/**/*.json"))
        return (
            published.published(),
            ledger,
            len(tracked.search_runs([e.experiment_id for e in tracked.search_experiments()])),
        )

    before = records()
    plan = published.pipeline().plan(DAYS[0], DAYS[1], force=True)
    sampled = score_sample(plan, 0.5, spark)
    assert [interval.interval for interval in sampled] == list(DAYS[:2])
    for interval in sampled:
        assert 0 < interval.rows == interval.rows_in < 60
        assert interval.path.startswith(f"{published.root}/_firesteel/flight_delay_scores/sample/sample-")
        rows = spark.read.parquet(interval.path)
        assert rows.count() == interval.rows
        assert {str(row.dt) for row in rows.select("dt").collect()} == {interval.interval}
        assert 0 <= rows.agg(F.min("p_delay")).first()[0] <= 1
    assert records() == before


def test_rows_that_the_model_fails_on_are_counted_in_a_sample(spark, tmp_path):
    project = ScoringProject(tmp_path, f"file://{tmp_path}/data")
    project.write_points()
    (sampled,) = score_sample(project.plan(force=True), 1.0, spark)
    assert sampled.rows_in == sampled.rows + sampled.failed
    assert sampled.failed > 0


USER = """
import sys, firesteel
from firesteel.jobs.cli.main import invoke
from pyspark.sql import SparkSession

root, day = sys.argv[1:]
frame = firesteel.Pipeline.load("pipeline.yaml", params={"root": root}).frame("features", day)
print(frame.count(), SparkSession.getActiveSession() is not None)
print("--")
show = ["show", "scored", "--param", f"root={root}", "--interval", day, "--limit", "3"]
assert invoke(show) == 0
print("--")
assert invoke([*show, "--json"]) == 0
print("--")
assert invoke(["run", "--param", f"root={root}", "--start", day, "--sample", "50%", "--json"]) == 0
assert invoke(["show", "scord", "--param", f"root={root}", "--interval", day]) == 2
"""


def test_a_frame_starts_spark_and_show_and_run_sample_print_rows_and_a_folder(published):
    """In one process, so that one JVM starts: each command stops its Spark."""
    words = [sys.executable, "-c", USER, published.root, DAY]
    done = subprocess.run(words, capture_output=True, text=True, timeout=500, check=False, cwd=published.folder)
    assert done.returncode == 0, done.stderr
    frame, table, rows, sampled = done.stdout.split("--\n")
    assert frame == "60 True\n"
    head, *lines, count = table.splitlines()
    assert head.split() == ["flight_id", "dt", "origin", "p_delay"]
    assert (len(lines), count) == (3, "3 rows")
    assert [row["flight_id"] for row in json.loads(rows)] == [line.split()[0] for line in lines]
    (interval,) = json.loads(sampled)
    assert 0 < interval["rows"] == interval["rows_in"] < 60
    assert Path(interval["path"].removeprefix("file://")).is_dir()
    assert "FS1010 flight_delay_scores has no step or source `scord`. Did you mean `scored`?" in done.stderr
    assert not (published.folder / ".firesteel").exists()
