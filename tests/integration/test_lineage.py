"""Lineage of real runs: what a real server and a real HDFS were given, and that nothing of it can stop a run."""

from __future__ import annotations

import json
import socket
from dataclasses import replace
from pathlib import Path

import mlflow
import pytest

from firesteel.conf import redaction
from firesteel.conf.redaction import Redactor
from firesteel.jobs.lineage.names import run_uuid
from firesteel.jobs.run.plan_runner import run_plan
from firesteel.jobs.tracking.datasets import manifest_digest
from firesteel.pipelines import Plan
from firesteel.pipelines.storage.open import locate
from support import leaks
from support.lineage import lineage_server
from support.openlineage_models import check_event
from support.runs import DAY, end_driver_at, kill_driver_at

pytestmark = pytest.mark.integration

TOKEN = "tok-7f/31+c9=d2"
ORCHESTRATOR = "airflow/daily.score/0196b2a6-9a04-7d3b-8f53-000000000001"
WHOLE, JOB = "flight_delay_scores", "flight_delay_scores.scores"
FLIGHTS, WEATHER, SCORES = "flights", "weather", "scores"


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    monkeypatch.setattr(redaction, "_REDACTOR", Redactor())
    monkeypatch.setenv("FIRESTEEL_SECRET_LINEAGE_TOKEN", TOKEN)


def planned(project, openlineage: dict, start: str = DAY, end: str | None = None, changes: dict | None = None) -> Plan:
    spec = {"tracking: {": f"tracking: {{openlineage: {json.dumps(openlineage)}, ", **(changes or {})}
    return project.pipeline(spec).plan(start, end)


def http(url: str, **more) -> dict:
    return {"transport": "http", "url": url, "auth": "${secret:lineage/token}", **more}


def test_a_server_learns_what_was_read_which_model_scored_it_and_what_was_published(project, spark, runs, monkeypatch):
    monkeypatch.setenv("OPENLINEAGE_PARENT_ID", ORCHESTRATOR)
    with lineage_server() as server:
        plan = planned(project, http(server.url), end="2013-06-02")
        result = run_plan(plan, spark=spark, runs=runs)
    assert (result.state, result.lineage.sent, result.lineage.lost) == ("published", 6, 0)
    assert server.kinds() == [
        (WHOLE, "START"), (JOB, "START"), (JOB, "COMPLETE"), (JOB, "START"), (JOB, "COMPLETE"), (WHOLE, "COMPLETE"),
    ]  # fmt: skip
    for event in server.events:
        check_event(event)
    assert {authorization for _, authorization in server.requests} == {f"Bearer {TOKEN}"}
    done = server.events[2]
    root = project.root.removeprefix("file://")
    inputs = {each["name"]: each for each in done["inputs"]}
    assert inputs.keys() == {f"{root}/{FLIGHTS}", f"{root}/{WEATHER}", "flight_delay"}
    flights = inputs[f"{root}/{FLIGHTS}"]
    read = next(each for each in plan.intervals[0].inputs if each.source == FLIGHTS)
    assert flights["facets"]["version"]["datasetVersion"] == manifest_digest(
        (file.path, file.length, file.modified_ms) for file in read.files
    )
    statistics = flights["inputFacets"]["inputStatistics"]
    assert (statistics["rowCount"], statistics["fileCount"]) == (60, 3)
    assert statistics["size"] == sum(file.length for file in read.files)
    asserted = flights["inputFacets"]["dataQualityAssertions"]["assertions"]
    assert [(each["assertion"], each["success"]) for each in asserted] == [
        ("expect_column_values_to_be_unique", True), ("expect_column_values_to_not_be_null", True),
    ]  # fmt: skip
    model = inputs["flight_delay"]["facets"]
    assert model["firesteel_model"]["digest"] == plan.models[0].digest
    assert model["version"]["datasetVersion"] == plan.models[0].version
    (output,) = done["outputs"]
    assert (output["namespace"], output["name"]) == ("file", f"{root}/{SCORES}")
    written = output["outputFacets"]["outputStatistics"]
    first = result.intervals[0]
    assert (written["rowCount"], written["fileCount"], written["size"]) == (60, first.files, first.bytes)
    assert output["facets"]["dataQualityAssertions"]["assertions"][2]["assertion"] == "row_count_matches"
    fields = output["facets"]["columnLineage"]["fields"]
    of_score = {(field["name"].rpartition("/")[2], field["field"]) for field in fields["p_delay"]["inputFields"]}
    assert of_score == {
        (FLIGHTS, "distance"), (FLIGHTS, "dep_delay"), (FLIGHTS, "sched_dep_time"), ("flight_delay", "predict_proba"),
        *((WEATHER, column) for column in ("temp", "wind_speed", "precip", "visib")),
    }  # fmt: skip
    assert [field["transformations"][0]["subtype"] for field in fields["flight_id"]["inputFields"]] == ["IDENTITY"]
    own = done["run"]["facets"]["firesteel_run"]
    assert (own["runId"], own["mlflowRunId"], own["planHash"]) == (
        result.run_id, result.mlflow_run_id, plan.intervals[0].plan_hash,
    )  # fmt: skip
    assert done["run"]["facets"]["nominalTime"]["nominalStartTime"].startswith(DAY)
    parent = done["run"]["facets"]["parent"]
    assert parent["run"]["runId"] == run_uuid("firesteel", WHOLE, result.run_id)
    assert parent["root"]["job"] == {"facets": {}, "name": "daily.score", "namespace": "airflow"}
    tags = mlflow.MlflowClient(tracking_uri=project.tracking).get_run(result.mlflow_run_id).data.tags
    assert tags["firesteel.lineage"] == f"6 events to {server.url}/api/v1/lineage"
    assert leaks.in_text(json.dumps(server.events), TOKEN) == []


def test_a_file_on_hdfs_is_one_a_run_and_a_failed_gate_is_in_it(project, spark, runs, hdfs_env, tmp_path):
    place = f"{hdfs_env.uri}/lineage/{tmp_path.name}"
    strict = {"min_value: 0, max_value: 1": "min_value: 0, max_value: 0.000001"}
    plan = planned(project, {"path": place, "namespace": "tests"}, changes=strict)
    result = run_plan(plan, spark=spark, runs=runs)
    assert result.exit_code == 3
    storage, path = locate(place)
    (file,) = storage.walk(path)
    assert f"{storage.base_uri}{file.path}" == result.lineage.place == f"{place}/{result.run_id}.jsonl"
    events = [json.loads(line) for line in storage.read(file.path).decode().splitlines()]
    assert [(event["job"]["name"], event["eventType"]) for event in events] == [
        (WHOLE, "START"), (JOB, "START"), (JOB, "FAIL"), (WHOLE, "FAIL"),
    ]  # fmt: skip
    assert events[2]["run"]["facets"]["errorMessage"]["message"] == result.intervals[0].error
    tests = events[2]["run"]["facets"]["test"]["tests"]
    assert [test["name"] for test in tests if test["status"] == "fail"] == [
        "output_ok.expect_column_values_to_be_between(p_delay)"
    ]
    assert all(check_event(event) for event in events)


def test_without_its_server_a_run_publishes_and_says_so_and_with_required_it_does_not_begin(project, spark, runs):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        gone = f"http://127.0.0.1:{probe.getsockname()[1]}"
    plan = planned(project, http(gone, required=True))
    with pytest.raises(Exception, match="FS9040") as refused:
        run_plan(plan, spark=spark, runs=runs)
    assert TOKEN not in str(refused.value)
    assert project.published() == {}
    openlineage = replace(plan.tracking.openlineage, required=False)
    result = run_plan(replace(plan, tracking=replace(plan.tracking, openlineage=openlineage)), spark=spark, runs=runs)
    assert (result.state, project.rows(), result.lineage.lost) == ("published", 60, 4)
    kept = json.loads(Path(result.report).with_name("result.json").read_text())
    assert kept["lineage"]["reason"] == "Connection refused"


@pytest.mark.long
@pytest.mark.fault
def test_a_run_that_is_ended_aborts_and_one_that_is_killed_is_buried_by_the_next(project, spark, runs, tmp_path):
    with lineage_server() as server:
        plan = planned(project, http(server.url))
        plan_file = tmp_path / "plan.json"
        plan_file.write_text(plan.to_json(), encoding="utf-8")
        ended = end_driver_at(plan_file, "scoring")
        assert ended.returncode == 130, ended.stderr
        assert server.kinds() == [(WHOLE, "START"), (JOB, "START"), (JOB, "ABORT"), (WHOLE, "ABORT")]
        server.events.clear()
        killed = kill_driver_at(plan_file, "staged")
        assert killed.returncode == -9, killed.stderr
        assert server.kinds() == [(WHOLE, "START"), (JOB, "START")]
        dead = {event["job"]["name"]: event["run"]["runId"] for event in server.events}
        server.events.clear()
        result = run_plan(plan, spark=spark, runs=runs)
        assert result.state == "published", result.error
    buried = {event["run"]["runId"]: event for event in server.events if event["run"]["runId"] in dead.values()}
    assert buried.keys() == set(dead.values())
    assert {event["eventType"] for event in buried.values()} == {"FAIL"}
    assert "before it wrote the journal" in buried[dead[JOB]]["run"]["facets"]["errorMessage"]["message"]
    others = [event for event in server.events if event["run"]["runId"] not in dead.values()]
    assert [event["eventType"] for event in others] == ["START", "START", "COMPLETE", "COMPLETE"]
