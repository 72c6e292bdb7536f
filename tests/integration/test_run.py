"""The whole line on local files: real Spark, real MLflow, real Great Expectations."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import mlflow
import pyarrow.parquet as pq
import pytest

from firesteel.conf.errors import ModelError, PlanDrift
from firesteel.conf.partitions import partition_name
from firesteel.jobs.run import score_stage
from firesteel.jobs.run.plan_runner import run_plan
from firesteel.jobs.spark.written import rows_written
from firesteel.pipelines import Pipeline
from firesteel.pipelines.publish.ledger import Ledger
from firesteel.pipelines.publish.transaction import StateStore
from firesteel.pipelines.storage.open import locate
from support.data import write_days
from support.mlflow_store import new_store
from support.picky import PICKY
from support.runs import DAY, firesteel

pytestmark = pytest.mark.integration


def area_of(pipeline) -> StateStore:
    return StateStore(*locate(pipeline.loaded.spec.storage), pipeline.name, pipeline.loaded.profile)


def test_a_run_scores_gates_publishes_and_tracks(project, spark, runs):
    pipeline = project.pipeline()
    result = run_plan(pipeline.plan(DAY, "2013-06-02"), spark=spark, runs=runs)
    assert (result.state, result.exit_code, result.error) == ("published", 0, "")
    assert (result.counts.rows_in, result.counts.scored, result.counts.balanced) == (120, 120, True)
    published = project.published()
    assert {path.rpartition("/")[0] for path in published} == {
        f"dt=2013-06-0{day}/origin={origin}" for day in (1, 2) for origin in ("EWR", "JFK", "LGA")
    }
    assert len(published) == 6  # one file a partition, no small-file storm
    frames = [pq.read_table(io.BytesIO(data)) for data in published.values()]
    assert frames[0].column_names == ["flight_id", "p_delay", "_run_id", "_model_version", "_plan_hash"]
    scores = [value for frame in frames for value in frame["p_delay"].to_pylist()]
    assert all(0 <= value <= 1 for value in scores)
    assert len(set(scores)) > 10
    ids = [value for frame in frames for value in frame["flight_id"].to_pylist()]
    assert len(ids) == len(set(ids)) == 120
    assert project.leftovers() == []
    assert [gate.success for interval in result.intervals for gate in interval.gates] == [True] * 4
    client = mlflow.MlflowClient(tracking_uri=project.tracking)
    tracked = client.get_run(result.mlflow_run_id)
    assert tracked.info.status == "FINISHED"
    assert tracked.data.metrics["scored"] == 120
    assert {item.path for item in client.list_artifacts(result.mlflow_run_id)} >= {
        "plan.json",
        "spec.yaml",
        "report.html",
    }
    assert "flight_delay_scores" in Path(result.report).read_text(encoding="utf-8")


def test_the_second_run_does_nothing_and_says_why(project, spark, runs):
    pipeline = project.pipeline()
    assert run_plan(pipeline.plan(DAY), spark=spark, runs=runs).state == "published"
    before = project.published()
    again = run_plan(pipeline.plan(DAY), spark=spark, runs=runs)
    assert (again.state, again.exit_code) == ("skipped", 0)
    assert again.intervals[0].reason.startswith("already published with the same plan hash")
    assert project.published() == before
    assert len(Ledger(area_of(pipeline)).history("scores")) == 1


def test_a_rerun_replaces_every_planned_partition_empty_ones_included_and_no_other(project, spark, runs):
    pipeline = project.pipeline()
    run_plan(pipeline.plan(DAY, "2013-06-02"), spark=spark, runs=runs)
    before = project.published()
    root = Path(project.root.removeprefix("file://"))
    for file in (root / "flights" / f"dt={DAY}" / "origin=JFK").iterdir():
        file.unlink()
    result = run_plan(pipeline.plan(DAY, "2013-06-02"), spark=spark, runs=runs)
    assert [interval.state for interval in result.intervals] == ["published", "skipped"]
    after = project.published()
    assert not any(f"dt={DAY}/origin=JFK" in path for path in after)
    assert {path: data for path, data in after.items() if "dt=2013-06-02" in path} == {
        path: data for path, data in before.items() if "dt=2013-06-02" in path
    }
    assert project.rows() == 100


def test_zero_rows_empty_the_planned_partitions_only_where_the_spec_allows_it(project, spark, runs):
    run_plan(project.pipeline().plan(DAY), spark=spark, runs=runs)
    before = project.published()
    result = run_plan(project.pipeline(min_distance="5000").plan(DAY), spark=spark, runs=runs)
    assert (result.state, result.exit_code) == ("failed", 3)
    assert "FS7005 scores 2013-06-01: 0 rows would be published, expected at least one, where 60 are" in result.error
    assert project.published() == before
    allowed = project.pipeline(
        {"mode: replace_partitions": "mode: replace_partitions\n    on_empty: allow"}, min_distance="5000"
    )
    result = run_plan(allowed.plan(DAY), spark=spark, runs=runs)
    assert result.state == "published", result.error
    assert result.counts.rows_in == 0
    assert project.published() == {}


def test_a_failed_output_gate_publishes_nothing(project, spark, runs):
    pipeline = project.pipeline()
    stands = run_plan(pipeline.plan(DAY), spark=spark, runs=runs).run_id
    before = project.published()
    strict = project.pipeline({"min_value: 0, max_value: 1": "min_value: 0, max_value: 0.000001"})
    result = run_plan(strict.plan(DAY, force=True), spark=spark, runs=runs)
    assert (result.state, result.exit_code) == ("failed", 3)
    assert result.error.startswith("FS7001")
    assert "Nothing was published" in result.error
    assert project.published() == before
    assert project.leftovers() == []
    assert [record.state for record in Ledger(area_of(strict)).history("scores")] == ["failed", "published"]
    tracked = mlflow.MlflowClient(tracking_uri=project.tracking).get_run(result.mlflow_run_id)
    assert tracked.info.status == "FAILED"
    status = firesteel("status", "--param", f"root={project.root}", folder=project.folder)
    assert f"{DAY} of scores: readers see the rows of run {stands}, published on " in status.stdout


def test_a_failed_input_gate_stops_before_scoring_and_a_warning_does_not(project, spark, runs):
    warn = project.pipeline({"mostly: 0.8": "mostly: 0.99"})
    result = run_plan(warn.plan(DAY), spark=spark, runs=runs)
    assert result.state == "published"
    assert [check.success for check in result.intervals[0].gates[0].expectations] == [True, False]
    critical = project.pipeline({"mostly: 0.8, severity: warning": "mostly: 0.99"})
    result = run_plan(critical.plan(DAY, force=True), spark=spark, runs=runs)
    assert (result.state, result.exit_code) == ("failed", 3)
    assert "score and stage" not in dict(result.intervals[0].seconds)


def test_nulls_against_the_contract_are_counted_and_nothing_is_published(project, spark, runs):
    pipeline = project.pipeline({"dep_delay: double,": "dep_delay: double!,"})
    result = run_plan(pipeline.plan(DAY), spark=spark, runs=runs)
    assert result.exit_code == 4
    assert "FS4003 flights 2013-06-01: 9 nulls in `dep_delay` of 60 rows" in result.error.replace("  ", " ")
    assert project.published() == {}


def test_an_input_that_moves_after_the_plan_is_refused(project, spark, runs):
    plan = project.pipeline().plan(DAY)
    write_days(Path(project.root.removeprefix("file://")), [DAY], rows=25)
    result = run_plan(plan, spark=spark, runs=runs)
    assert result.exit_code == 6
    assert "FS6001" in result.error
    assert "3 changed (dt=2013-06-01/origin=EWR/part-0.parquet)" in result.error
    assert project.published() == {}


def test_an_input_that_moves_during_the_run_is_refused(project, spark, runs):
    plan = project.pipeline().plan(DAY)

    def meddle(event):
        if event.kind == "staged":
            write_days(Path(project.root.removeprefix("file://")), [DAY], rows=25)

    result = run_plan(plan, spark=spark, runs=runs, on_event=meddle)
    assert result.exit_code == 6
    assert project.published() == {}
    assert project.leftovers() == []


@pytest.mark.parametrize("moment", ["interval_started", "staged"])
def test_an_input_of_equal_length_and_time_is_refused_before_the_score_and_before_the_publish(
    project, spark, runs, moment
):
    by_content = "path: ${param.root}/flights\n    verify: checksum"
    plan = project.pipeline({"path: ${param.root}/flights": by_content}).plan(DAY)
    path = Path(project.root.removeprefix("file://")) / f"flights/dt={DAY}/origin=EWR/part-0.parquet"

    def meddle(event):
        if event.kind == moment:
            data, facts = bytearray(path.read_bytes()), path.stat()
            data[100] ^= 1
            path.write_bytes(data)
            os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))

    result = run_plan(plan, spark=spark, runs=runs, on_event=meddle)
    assert result.exit_code == 6, result.error
    assert "1 with other content (dt=2013-06-01/origin=EWR/part-0.parquet)" in result.error
    assert project.published() == {}
    assert project.leftovers() == []


def test_an_alias_that_moves_after_the_plan_is_refused(project, spark, runs, tmp_path):
    tracking = f"sqlite:///{shutil.copy(project.tracking.removeprefix('sqlite:///'), tmp_path)}"
    mine = replace(project, tracking=tracking)
    plan = mine.pipeline().plan(DAY)
    client = mlflow.MlflowClient(tracking_uri=tracking, registry_uri=tracking)
    version = client.get_model_version_by_alias("flight_delay", "champion")
    client.create_model_version("flight_delay", version.source, run_id=version.run_id)
    client.set_registered_model_alias("flight_delay", "champion", "2")
    with pytest.raises(PlanDrift, match="FS6002"):
        run_plan(plan, spark=spark, runs=runs)
    assert mine.published() == {}


def test_a_version_that_is_deleted_after_the_plan_is_applied_from_the_copy_of_an_earlier_run(
    project, spark, runs, tmp_path, caplog
):
    tracking = f"sqlite:///{shutil.copy(project.tracking.removeprefix('sqlite:///'), tmp_path)}"
    pipeline = replace(project, tracking=tracking).pipeline()
    assert run_plan(pipeline.plan(DAY), spark=spark, runs=runs).state == "published"
    plan = pipeline.plan("2013-06-02")
    client = mlflow.MlflowClient(tracking_uri=tracking, registry_uri=tracking)
    client.delete_model_version("flight_delay", "1")
    caplog.clear()
    result = run_plan(plan, spark=spark, runs=runs)
    assert (result.state, result.exit_code) == ("published", 0)
    warning = "models:/flight_delay/1 is no longer in the registry: the run uses the copy in the storage"
    assert warning in caplog.text
    assert warning in client.get_run(result.mlflow_run_id).data.tags["firesteel.warning"]
    store = area_of(pipeline)
    assert store.storage.delete(f"{store.base}/models")
    with pytest.raises(PlanDrift, match="FS6002"):
        run_plan(plan, spark=spark, runs=runs)


def test_model_bytes_that_change_after_the_plan_are_refused(project, spark, runs, tmp_path):
    tracking = new_store(tmp_path / "mlflow.db")
    from firesteel.jobs.demo.model import train_model

    train_model(tracking)
    plan = replace(project, tracking=tracking).pipeline().plan(DAY)
    target = next(path for path in tmp_path.rglob("*.skops"))
    target.write_bytes(target.read_bytes() + b"x")
    with pytest.raises(ModelError, match="FS3011"):
        run_plan(plan, spark=spark, runs=runs)
    assert project.published() == {}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"flight_delay@champion": "flight_delay@chmpion"}, "FS3005 pipeline.yaml:"),
        ({"models:/flight_delay@": "models:/fligth_delay@"}, "FS3001 pipeline.yaml:"),
        ({"formats: [skops, onnx]": "formats: [onnx]"}, "FS3009 pipeline.yaml:"),
    ],
)
def test_a_model_that_cannot_be_had_is_named_at_plan_time(project, changes, expected):
    with pytest.raises(ModelError) as caught:
        project.pipeline(changes).plan(DAY)
    assert str(caught.value).startswith(expected)
    assert caught.value.exit_code == 2


def test_a_callers_session_is_left_as_it_was(project, spark, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = {key: spark.conf.get(key) for key in ("spark.sql.session.timeZone", "spark.sql.shuffle.partitions")}
    pipeline = project.pipeline()
    result = pipeline.run(pipeline.plan(DAY), spark=spark)
    assert Path(result.report).is_relative_to(tmp_path / ".firesteel" / "runs")
    assert {key: spark.conf.get(key) for key in before} == before
    assert not spark.catalog.tableExists("features")
    assert spark.range(3).count() == 3


def test_steps_after_the_score_count_what_they_drop(project, spark, runs):
    pipeline = project.pipeline(
        {
            "gates:\n": "  late: {sql: SELECT * FROM scored WHERE flight_id LIKE '%1'}\n\ngates:\n",
            "from: scored": "from: late",
            "      - {type: row_count_matches, of: features, less: dead_letter}\n": "",
        }
    )
    result = run_plan(pipeline.plan(DAY), spark=spark, runs=runs)
    assert result.state == "published", result.error
    counts = result.counts
    assert counts.rows_in == 60
    assert 0 < counts.dropped < 60
    assert counts.scored == project.rows() == 60 - counts.dropped


def test_a_step_after_the_score_that_duplicates_rows_publishes_nothing(project, spark, runs):
    pipeline = project.pipeline(
        {
            "gates:\n": "  twice: {sql: SELECT s.* FROM scored s JOIN weather w ON s.origin = w.origin}\n\ngates:\n",
            "from: scored": "from: twice",
            "      - {type: row_count_matches, of: features, less: dead_letter}\n": "",
        }
    )
    result = run_plan(pipeline.plan(DAY), spark=spark, runs=runs)
    assert (result.state, result.exit_code) == ("failed", 3)
    assert result.error.startswith("FS7002")
    assert re.search(r" -[\d,]+ dropped", result.error)
    assert project.published() == {}


def test_the_command_line_runs_skips_and_shows_status(project):
    project.pipeline()
    options = ["--param", f"root={project.root}"]
    done = firesteel("run", "--start", DAY, *options, "--json", folder=project.folder)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["counts"]["scored"] == 60
    again = firesteel("run", "--start", DAY, *options, folder=project.folder)
    assert again.returncode == 0, again.stderr
    assert "SKIPPED" in again.stdout
    assert "already published with the same plan hash" in again.stdout
    status = firesteel("status", *options, "--json", folder=project.folder)
    assert [record["state"] for record in json.loads(status.stdout)] == ["published"]


def test_without_a_jdk_one_sentence_says_so_and_nothing_is_written(project, tmp_path):
    project.pipeline()
    done = firesteel(
        "run",
        "--start",
        DAY,
        "--param",
        f"root={project.root}",
        folder=project.folder,
        environ={"JAVA_HOME": "", "PATH": str(tmp_path)},
    )
    assert done.returncode == 1
    assert "FS9001" in done.stderr
    assert "Traceback" not in done.stderr
    assert project.published() == {}
    assert project.leftovers() == []


def test_an_hdfs_that_is_not_there_is_named(project):
    project.pipeline()
    done = firesteel("plan", "--start", DAY, "--param", "root=hdfs://127.0.0.1:1/ml", folder=project.folder)
    assert done.returncode == 1
    assert done.stderr.startswith("FS8001")
    assert "127.0.0.1" in done.stderr
    assert "Traceback" not in done.stderr


def test_rows_that_fail_become_dead_letters_and_the_rest_is_published(project, picky, spark, runs):
    retained = {"mode: replace_partitions": "mode: replace_partitions\n    retain: {dead_letter: 30d}"}
    pipeline = replace(project, tracking=picky).pipeline(
        {**PICKY, **retained, "max_fraction: 0.001": "max_fraction: 0.1"}
    )
    ancient = Path(pipeline.loaded.spec.storage.removeprefix("file://"), "dead_letter/scored/2012-01-01/x.jsonl")
    ancient.parent.mkdir(parents=True)
    ancient.write_text("{}\n")
    os.utime(ancient, (0, 0))
    result = run_plan(pipeline.plan(DAY), spark=spark, runs=runs)
    assert result.state == "published", result.error
    assert not ancient.exists()
    counts = result.counts
    assert (counts.rows_in, counts.scored, counts.dead_letter, counts.balanced) == (60, 57, 3, True)
    assert project.rows() == 57
    storage, base = locate(pipeline.loaded.spec.storage)
    dead_letters = [
        json.loads(line)
        for status in storage.walk(f"{base}/dead_letter")
        for line in storage.read(status.path).splitlines()
    ]
    assert sorted(letter["row"]["flight_id"] for letter in dead_letters) == [
        f"{DAY}-{origin}-7" for origin in ("EWR", "JFK", "LGA")
    ]
    assert {(letter["error"], letter["model_version"]) for letter in dead_letters} == {("ValueError", "1")}


def test_where_every_row_fails_the_count_of_rows_in_stays(project, picky, spark, runs):
    """Spark removes the observation of a stage whose shuffle was empty, with the stage (AQEPropagateEmptyRelation)."""
    pipeline = replace(project, tracking=picky).pipeline(
        {**PICKY, "max_fraction: 0.001": "max_fraction: 1.0"},
        {"WHERE f.distance >= :min_distance": "WHERE f.distance >= :min_distance AND f.distance = 107"},
    )
    result = run_plan(pipeline.plan(DAY), spark=spark, runs=runs)
    assert result.state == "published", result.error
    counts = result.counts
    assert (counts.rows_in, counts.scored, counts.dead_letter) == (3, 0, 3)
    assert project.rows() == 0


@pytest.mark.parametrize("budget", ["max_rows: 1000, max_fraction: 0.001", "max_rows: 2, max_fraction: 1.0"])
def test_more_bad_rows_than_the_budget_publish_nothing_and_exit_5(project, picky, spark, runs, budget):
    pipeline = replace(project, tracking=picky).pipeline({**PICKY, "max_rows: 1000, max_fraction: 0.001": budget})
    result = run_plan(pipeline.plan(DAY), spark=spark, runs=runs)
    assert (result.state, result.exit_code) == ("failed", 5)
    assert result.error.startswith("FS5003")
    assert project.published() == {}
    assert project.leftovers() == []


def test_partition_directories_are_named_as_spark_names_them(spark, tmp_path):
    values = ["01", "a b", "é}", "x=y", "50%", "a/b", "10:30", "it's", "q?", "[z]", "a+b;c,d"]
    spark.createDataFrame([(value, 1) for value in values], "k string, n int").write.partitionBy("k").parquet(
        str(tmp_path / "t")
    )
    assert {path.name for path in (tmp_path / "t").iterdir() if path.is_dir()} == {
        partition_name("k", value) for value in values
    }
    back = spark.read.schema("n int, k string").parquet(str(tmp_path / "t"))
    assert {row["k"] for row in back.collect()} == set(values)


def test_the_demo_is_made_from_nothing_by_one_command(tmp_path):
    done = firesteel("init", "demo", "--demo", "flights", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "336,776 flights" in done.stdout
    assert "PUBLISHED" in done.stdout
    assert "754 in = 754 scored" in done.stdout
    assert len([*(tmp_path / "demo" / ".firesteel" / "runs").glob("*/report.html")]) == 1
    again = firesteel("init", "demo", "--demo", "flights", "--no-run", folder=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "nothing to do" in again.stdout
    assert "already registered" in again.stdout


WITHOUT_A_MODEL = """
spec_version: 1
name: long_flights
storage: {root}/_firesteel/long
interval: {{column: dt, unit: day, begin: 2013-06-01}}
sources:
  flights:
    path: {root}/flights
    partitions: {{dt: date, origin: string}}
    select: {{dt: "${{interval.ds}}"}}
    contract: {{mode: additive, columns: {{flight_id: string!, distance: int!}}}}
steps:
  long: {{sql: "SELECT flight_id, distance, dt, origin FROM flights WHERE distance >= 0"}}
sinks:
  out: {{from: long, path: "{root}/out", partition_by: [dt, origin]}}
tracking: {{mlflow: {{uri: "{tracking}"}}}}
"""


@pytest.mark.parametrize("told", ["what was written", "a part twice", "nothing"])
def test_rows_without_a_model_are_counted_by_who_wrote_them_or_once_more(
    project, spark, runs, tmp_path, monkeypatch, told
):
    asked = []

    def lying(session):
        asked.append(rows_written(session))
        return {"what was written": asked[-1], "a part twice": asked[-1] + 7, "nothing": None}[told]

    monkeypatch.setattr(score_stage, "rows_written", lying)
    spec = tmp_path / "long.yaml"
    spec.write_text(WITHOUT_A_MODEL.format(root=project.root, tracking=project.tracking), encoding="utf-8")
    result = run_plan(Pipeline.load(spec).plan(DAY), spark=spark, runs=runs)
    assert (result.state, result.counts.rows_in, result.counts.scored) == ("published", 60, 60), result.error
    assert asked == [60]


def test_a_plan_is_appended_once_however_often_it_is_asked_for(project, spark, runs, tmp_path):
    once = {"mode: replace_partitions": "mode: append_once"}
    pipeline = project.pipeline(once)
    plan = pipeline.plan(DAY)
    assert run_plan(plan, spark=spark, runs=runs).state == "published"
    first = project.published()
    assert project.rows() == 60
    for again in (plan, pipeline.plan(DAY), pipeline.plan(DAY, force=True)):
        assert run_plan(again, spark=spark, runs=runs).state == "skipped"
        assert project.published() == first
    write_days(tmp_path / "data", [DAY], rows=30)  # another input is another plan
    result = run_plan(pipeline.plan(DAY), spark=spark, runs=runs)
    assert (result.state, result.counts.scored, result.intervals[0].files) == ("published", 90, 3)
    assert project.published().items() >= first.items()
    assert project.rows() == 150
    assert run_plan(plan, spark=spark, runs=runs).state == "skipped"
    assert project.rows() == 150
