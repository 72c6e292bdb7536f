"""MLflow goes away, with a real server: what is scored is published all the same, and MLflow has its record later."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from firesteel.conf.errors import RuntimeFault
from firesteel.jobs.run.plan_runner import run_plan
from firesteel.jobs.tracking.connect import connect
from firesteel.pipelines.plan.model import TrackingPlan
from firesteel.pipelines.storage.open import locate
from support.artifact_stores import BUCKET, s3_server
from support.mlflow_server import MlflowServer
from support.mlflow_store import new_store
from support.runs import firesteel
from support.scoring_project import DAY, ScoringProject, rows_of

pytestmark = pytest.mark.fault


def kept(project: ScoringProject) -> list[str]:
    storage, base = locate(f"{project.root}/_firesteel/points/tracking")
    return [file.name for file in storage.walk(base)]


def recorded(uri: str, run_id: str):
    client = connect(uri)
    (experiment,) = client.search_experiments(filter_string="name = 'away'")
    found = client.search_runs([experiment.experiment_id], f"tags.`firesteel.run_id` = '{run_id}'")
    parents = [run for run in found if "firesteel.interval" not in run.data.tags]
    assert (len(parents), len(found)) == (1, 2)
    return client, parents[0], next(run for run in found if run not in parents)


def test_a_record_that_mlflow_did_not_take_is_kept_and_delivered_later(spark, tmp_path, runs):
    project = ScoringProject(tmp_path, f"file://{tmp_path}/data")
    project.write_points(rows=60)
    plain = project.plan("direct")
    assert run_plan(plain, spark=spark, runs=runs).state == "published"
    quiet = rows_of(project.published())
    with MlflowServer(tmp_path / "server") as server:
        tracking = TrackingPlan(server.uri, "away")
        plan = replace(project.plan("direct", force=True), tracking=tracking)

        def leave(event) -> None:
            if event.kind == "staged":
                server.kill()

        midway = run_plan(plan, spark=spark, runs=runs, on_event=leave)
        assert (midway.state, midway.exit_code) == ("published", 0)
        assert rows_of(project.published()) == quiet
        assert kept(project) == [f"{midway.run_id}.json"]

        with pytest.raises(RuntimeFault, match="FS9003"):
            run_plan(plan, spark=spark, runs=runs)  # required, as by default
        optional = replace(plan, tracking=replace(tracking, required=False))
        without = run_plan(optional, spark=spark, runs=runs)
        assert (without.state, without.mlflow_run_id, without.mlflow_uri) == ("published", "", "")
        assert rows_of(project.published()) == quiet
        assert kept(project) == sorted(f"{each.run_id}.json" for each in (midway, without))

        storage, base = locate(f"{project.root}/_firesteel/points/tracking/default")
        storage.create(f"{base}/00-cut-short.json", b'{"plan": {}')
        server.start()
        spec = project.folder / "pipeline.yaml"
        spec.write_text(re.sub(r'uri: "sqlite:[^"]*"}}', f'uri: "{server.uri}"}}}}', spec.read_text()))
        done = firesteel("recover", folder=project.folder)
        assert done.returncode == 0, done.stdout + done.stderr
        assert kept(project) == ["00-cut-short.json"]  # in nobody's way, and for a person
        assert "00-cut-short.json cannot be read and stays in the storage" in done.stderr
        storage.delete(f"{base}/00-cut-short.json")
        for result in (midway, without):
            assert f"sent the record of run {result.run_id} to MLflow." in done.stdout
            client, parent, child = recorded(server.uri, result.run_id)
            assert [run.info.status for run in (parent, child)] == ["FINISHED", "FINISHED"]
            assert parent.data.metrics["rows_in"] == child.data.metrics["rows_in"] == result.counts.rows_in
            assert parent.data.tags["firesteel.published"].startswith(f"{project.root}/scores")
            assert parent.data.tags["mlflow.note.content"].startswith("**Published**")
            assert child.data.tags["firesteel.interval"] == DAY
            text = client.download_artifacts(parent.info.run_id, "result.json", str(tmp_path))
            assert json.loads(open(text).read())["run_id"] == result.run_id
        last = run_plan(plan, spark=spark, runs=runs)
        assert recorded(server.uri, last.run_id)[1].info.status == "FINISHED"
        assert kept(project) == []


def test_an_s3_store_that_dies_during_a_run_costs_a_warning(spark, tmp_path, runs, monkeypatch, caplog):
    project = ScoringProject(tmp_path, f"file://{tmp_path}/data")
    project.write_points(rows=60)
    with s3_server(monkeypatch) as (die, revive):
        uri = new_store(tmp_path / "tracking.db")
        connect(uri).create_experiment("away", artifact_location=f"s3://{BUCKET}/{tmp_path.name}")
        plan = replace(project.plan("direct"), tracking=TrackingPlan(uri, "away"))
        result = run_plan(plan, spark=spark, runs=runs, on_event=lambda event: event.kind == "staged" and die())
        assert (result.state, result.exit_code) == ("published", 0)
        assert "the MLflow record of the run is incomplete" in caplog.text
        assert kept(project) == [f"{result.run_id}.json"]
        client, parent, child = recorded(uri, result.run_id)
        assert [run.info.status for run in (parent, child)] == ["FINISHED", "FINISHED"]
        revive()
        assert (
            run_plan(replace(project.plan("direct", force=True), tracking=plan.tracking), spark=spark, runs=runs).state
            == "published"
        )
        assert kept(project) == []
        names = {artifact.path for artifact in client.list_artifacts(parent.info.run_id)}
        assert names == {"plan.json", "spec.yaml", "result.json", "report.html"}
