from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from firesteel.conf import redaction
from firesteel.conf.redaction import Redactor
from firesteel.jobs.lineage.events import Events
from firesteel.jobs.lineage.names import dataset_name, run_uuid
from firesteel.jobs.lineage.parent import parent_from_environment
from firesteel.jobs.lineage.sender import to_json_value
from firesteel.pipelines.result import ExpectationResult, GateResult
from support.lineage import traced_plan
from support.openlineage_models import check_event
from support.sample_run import failed, published, sample_result

RUN = "20130604T101112-7f3a21"
AIRFLOW = "https://airflow.example.org/eu/daily.score/0196b2a6-9a04-7d3b-8f53-000000000001"


def events(**changes) -> Events:
    parent, problem = parent_from_environment({"OPENLINEAGE_PARENT_ID": AIRFLOW})
    assert not problem
    made = Events(
        traced_plan(),
        RUN,
        "firesteel.prod",
        parent,
        "http://mlflow.example.org:5000",
        "1ce021d8584b4c16",
        "http://mlflow.example.org:5000/#/experiments/1/runs/1ce021d8584b4c16",
        lambda: datetime(2013, 6, 4, 10, 11, 12, tzinfo=UTC),
    )
    return replace(made, **changes)


def all_events() -> list[dict]:
    """Every kind of event of a run of three days, the last of which fails."""
    from openlineage.client.event_v2 import RunState

    made = events()
    days = made.plan.intervals
    done = published(made.plan, 1, dead=2)
    bad = failed(made.plan, 3, "FS7001 output_ok: a critical expectation failed. Nothing was published.")
    result = sample_result(made.plan, (done, bad), error=bad.error)
    return [
        to_json_value(each)
        for each in (
            made.pipeline(RunState.START),
            made.started(days[0]),
            made.finished(days[0], done),
            made.aborted(days[1], "cancelled"),
            made.finished(days[2], bad),
            made.pipeline(RunState.FAIL, result),
            *made.recovered("2013-06-02", "20130603T000000-0badc0", published=False),
            *made.recovered("2013-06-02", "20130603T000000-0badc0", published=True),
        )
    ]


def test_the_events_of_a_run_are_these(golden):
    text = json.dumps(all_events(), indent=1, sort_keys=True)
    golden("lineage_events.json", text.replace(f"urn:firesteel:{_version()}", "urn:firesteel:VERSION") + "\n")


def _version() -> str:
    from firesteel.conf.version import VERSION

    return VERSION


@pytest.mark.parametrize("index", range(10))
def test_every_event_is_one_of_the_official_clients(index):
    event = all_events()[index]
    assert check_event(event).eventType.value == event["eventType"]


def test_a_key_that_the_clients_classes_do_not_know_would_be_seen():
    event = all_events()[2]
    event["outputs"][0]["outputFacets"]["outputStatistics"]["rows"] = 3
    with pytest.raises(AssertionError, match="unknown"):
        check_event(event)


def test_a_score_comes_from_its_features_and_from_the_model_and_a_key_from_itself():
    output = all_events()[2]["outputs"][0]
    fields = output["facets"]["columnLineage"]["fields"]
    flights = ("hdfs://namenode:8020", "/ml/flights")
    model = ("mlflow://mlflow.example.org:5000", "flight_delay")

    def edges(column):
        return [
            ((field["namespace"], field["name"]), field["field"], field["transformations"][0].get("subtype"))
            for field in fields[column]["inputFields"]
        ]

    assert edges("flight_id") == [(flights, "flight_id", "IDENTITY")]
    assert edges("p_delay") == [
        (flights, "dep_delay", "TRANSFORMATION"),
        (flights, "distance", "TRANSFORMATION"),
        (("hdfs://namenode:8020", "/ml/weather"), "temp", "TRANSFORMATION"),
        (model, "predict_proba", "TRANSFORMATION"),
    ]
    decides = output["facets"]["columnLineage"]["dataset"]
    assert {(entry["field"], entry["transformations"][0]["type"]) for entry in decides} == {
        ("dt", "INDIRECT"),
        ("origin", "INDIRECT"),
    }
    read = {(event["namespace"], event["name"]) for event in all_events()[2]["inputs"]}
    assert model in read  # every end of an edge is a data set of the event
    assert flights in read


def test_what_was_published_has_its_statistics_and_its_version_and_what_failed_has_neither():
    done, bad = all_events()[2], all_events()[4]
    output = done["outputs"][0]
    assert output["outputFacets"]["outputStatistics"] | {"_producer": "", "_schemaURL": ""} == {
        "_producer": "", "_schemaURL": "", "rowCount": 895, "size": 41_873, "fileCount": 3,
    }  # fmt: skip
    assert output["facets"]["version"]["datasetVersion"] == "01ab" * 16
    assert bad["outputs"][0]["outputFacets"].keys() == {"subset"}
    assert "version" not in bad["outputs"][0]["facets"]
    assert bad["run"]["facets"]["errorMessage"]["message"].startswith("FS7001 output_ok")
    assert bad["eventType"] == "FAIL"


def test_two_intervals_of_other_files_read_other_versions_of_a_source():
    versions = [event["inputs"][0]["facets"]["version"]["datasetVersion"] for event in all_events()[2:5]]
    assert len(set(versions)) == 3


def test_a_cancelled_interval_is_aborted_and_did_not_fail():
    made = events()
    result = failed(made.plan, 1, "FS7503 the run was cancelled by ann. Nothing was published.")
    assert to_json_value(made.finished(made.plan.intervals[0], result))["eventType"] == "ABORT"


def test_an_interval_is_within_the_pipelines_run_and_that_within_the_orchestrators():
    start, interval = all_events()[0], all_events()[1]
    parent = start["run"]["facets"]["parent"]
    assert (parent["job"]["namespace"], parent["job"]["name"]) == ("https://airflow.example.org/eu", "daily.score")
    within = interval["run"]["facets"]["parent"]
    assert within["run"]["runId"] == start["run"]["runId"]
    assert within["root"]["run"]["runId"] == parent["run"]["runId"]


def test_a_dead_run_is_buried_under_the_ids_that_it_gave_itself():
    theirs = events(run_id="20130603T000000-0badc0", parent=None)
    day = theirs.plan.intervals[1]
    one, whole = (to_json_value(each) for each in events().recovered(day.id, "20130603T000000-0badc0", published=False))
    assert one["run"]["runId"] == to_json_value(theirs.started(day))["run"]["runId"]
    assert one["run"]["facets"]["parent"]["run"]["runId"] == whole["run"]["runId"] == theirs.run_name.run_id
    assert [one["eventType"], whole["eventType"]] == ["FAIL", "FAIL"]


def test_observed_values_that_are_rows_stay_here():
    made = events()
    gate = GateResult(
        "input_ok",
        "flights",
        success=False,
        expectations=(
            ExpectationResult(
                "expect_column_values_to_be_unique",
                "flight_id",
                "critical",
                success=False,
                observed=["row-4711"],
                note="first: row-4711",
            ),
        ),
    )
    result = replace(failed(made.plan, 1, "FS7001"), gates=(gate,))
    event = to_json_value(made.finished(made.plan.intervals[0], result))
    assert "row-4711" not in json.dumps(event)
    assert event["inputs"][0]["inputFacets"]["dataQualityAssertions"]["assertions"][0]["success"] is False


def test_a_secret_that_reached_an_error_is_its_reference_in_the_event(monkeypatch):
    monkeypatch.setattr(redaction, "_REDACTOR", Redactor())
    redaction.remember("${secret:store/key}", 'top "secret" key')
    made = events()
    result = failed(made.plan, 1, 'FS9002 refused: top "secret" key')
    event = to_json_value(made.finished(made.plan.intervals[0], result))
    assert event["run"]["facets"]["errorMessage"]["message"] == "FS9002 refused: ${secret:store/key}"


@pytest.mark.parametrize(
    ("uri", "namespace", "name"),
    [
        ("hdfs://nn:8020/ml/scores", "hdfs://nn:8020", "/ml/scores"),
        ("hdfs://nn/ml/scores", "hdfs://nn:8020", "/ml/scores"),
        ("hdfs://ns1/ml", "hdfs://ns1", "/ml"),
        ("hdfs:///ml", "hdfs://ns1", "/ml"),
        ("file:///tmp/scores/", "file", "/tmp/scores"),
        ("file:/tmp/scores", "file", "/tmp/scores"),
    ],
)
def test_data_sets_are_named_as_the_naming_specification_says(tmp_path, monkeypatch, uri, namespace, name):
    (tmp_path / "core-site.xml").write_text(
        "<configuration><property><name>fs.defaultFS</name><value>hdfs://ns1</value></property></configuration>"
    )
    (tmp_path / "hdfs-site.xml").write_text(
        "<configuration><property><name>dfs.nameservices</name><value>ns1, ns2</value></property></configuration>"
    )
    monkeypatch.setenv("HADOOP_CONF_DIR", str(tmp_path))
    assert (dataset_name(uri).namespace, dataset_name(uri).name) == (namespace, name)


def test_run_ids_follow_from_names_and_sort_by_time():
    first, second = run_uuid("a", "b", "20130604T101112-7f3a21"), run_uuid("a", "b", "20130604T101113-000000")
    assert first == run_uuid("a", "b", "20130604T101112-7f3a21") != run_uuid("a", "c", "20130604T101112-7f3a21")
    assert first < second


@pytest.mark.parametrize("text", ["", "x", "a/b/not-a-uuid", "b/0196b2a6-9a04-7d3b-8f53-000000000001"])
def test_a_parent_that_cannot_be_read_is_left_out_and_said(text):
    parent, problem = parent_from_environment({"OPENLINEAGE_PARENT_ID": text})
    assert parent is None
    assert bool(problem) is bool(text)
