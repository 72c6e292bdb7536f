"""What an Airflow task does about each end of a run: the ledger first, the exit code second."""

from __future__ import annotations

import json

import pytest

from firesteel.pipelines.brief import CONTRACT, MAX_PARTITIONS, brief
from firesteel.pipelines.result import Counts, IntervalResult, RunResult
from firesteel_airflow.outcome import Policy, decide, decide_by_code
from support.sample_run import sample_plan

RUN = "20260502T031000-ab59cc00"
OTHER = "20260501T031000-11111111"
DAY = "2013-06-01"
DIRECTORY = f"dt={DAY}/origin=JFK"


def record(run_id=RUN):
    return {
        "run_id": run_id, "state": "published", "action": "run", "plan_hash": "h", "ended_at": "t", "files": 1, "bytes": 9,
        "rows": {"in": 10, "scored": 10, "dead_letter": 0, "quarantined": 0, "dropped": 0},
        "partitions": [DIRECTORY], "partitions_total": 1, "mlflow_run_id": "", "error": "",
    }  # fmt: skip


def found(*, code=None, published=None, state="ended", made=None, known=True):
    run = {"run_id": RUN, "state": state, "exit_code": code, "brief": made}
    interval = {
        "interval": DAY,
        "sink": "scores",
        "path": "hdfs://nn/scores",
        "held_by": None,
        "newest": published,
        "published": published,
    }
    return {"pipeline": "p", "profile": "default", "runs": [run] if known else [], "intervals": [interval]}


def run_brief(state="published", exit_code=0, error="", partitions=(DIRECTORY,)):
    interval = IntervalResult(
        DAY,
        state,
        "changed",
        "h",
        Counts(10, 10),
        partitions if state == "published" else (),
        files=int(state == "published"),
        bytes=9,
        error=error,
    )
    result = RunResult(RUN, "p", "default", state, (interval,), "t", 1.0, exit_code, error=error)
    return brief(result, sample_plan())


@pytest.mark.parametrize(
    ("code", "then"), [(1, "retry"), (2, "fail"), (3, "fail"), (4, "retry"), (5, "fail"), (6, "retry"), (7, "retry"), (130, "fail"), (-9, "retry")]
)  # fmt: skip
def test_each_exit_code_has_its_rule(code, then):
    outcome = decide(found(code=code, made={"error": "FS0000 why"}), RUN, code, "", Policy())
    assert (outcome.action, "FS0000 why" in outcome.text) == (then, True)
    assert decide_by_code(code, "FS0000 why", Policy()).action == then


@pytest.mark.parametrize("choice", ["retry", "skip", "fail"])
def test_a_gate_and_an_input_are_the_authors_choice(choice):
    policy = Policy(gate_failure=choice, not_ready=choice)
    assert decide(found(code=3), RUN, 3, "", policy).action == choice
    assert decide(found(code=4), RUN, 4, "", policy).action == choice
    assert decide(found(code=4), RUN, 4, "", Policy(not_ready="reschedule")).action == "reschedule"


def test_a_run_that_somebody_cancelled_is_not_tried_again():
    made = {"error": "FS7503 the run was cancelled by ada@there."}
    assert decide(found(code=7, made=made), RUN, 7, "", Policy()).action == "fail"


@pytest.mark.parametrize("code", [None, 1, -9, 130])
def test_a_driver_that_died_after_its_publish_has_succeeded(code):
    outcome = decide(found(published=record(), state="dead"), RUN, code, "", Policy())
    assert outcome.action == "succeed"
    assert "after it had published" in outcome.text
    assert outcome.result["state"] == "published"
    assert outcome.result["intervals"][0]["partitions"] == [DIRECTORY]


@pytest.mark.parametrize("code", [None, 1, -9])
def test_what_another_run_had_published_is_no_success_of_this_one(code):
    assert decide(found(published=record(OTHER), state="dead"), RUN, code, "", Policy()).action == "retry"


def test_zero_is_believed_only_when_the_ledger_shows_it():
    outcome = decide(found(code=0, made=None), RUN, 0, "", Policy())
    assert outcome.action == "retry"
    assert f"nothing published for scores {DAY}" in outcome.text
    assert decide(found(code=0, published=record(), made=run_brief()), RUN, 0, "", Policy()).action == "succeed"
    assert decide(found(published=record(), known=False), RUN, 0, "", Policy()).action == "succeed"


def test_an_interval_that_was_left_out_for_want_of_input_need_not_be_published():
    assert decide(found(code=0, made=run_brief("skipped")), RUN, 0, "", Policy()).action == "succeed"
    assert decide(found(code=0, made=None), RUN, 0, "", Policy(), pinned=True).action == "succeed"


def test_the_storage_knows_the_exit_code_better_than_spark_submit():
    assert decide(found(code=3, made={"error": "FS7001"}), RUN, 0, "", Policy()).action == "fail"


KEYS = {
    "contract", "run_id", "pipeline", "profile", "state", "exit_code", "started_at", "seconds", "rows", "intervals",
    "intervals_total", "sinks", "gates", "mlflow_run_id", "report", "error",
}  # fmt: skip
INTERVAL_KEYS = {
    "interval", "state", "reason", "rows", "files", "bytes", "partitions", "partitions_total", "error", "published_by",
}  # fmt: skip


@pytest.mark.parametrize(
    ("made", "published"),
    [(run_brief(), record()), (run_brief("skipped"), record(OTHER)), (run_brief("skipped"), None), (None, record())],
)
def test_what_a_task_returns_has_the_same_keys_whatever_happened(made, published):
    result = decide(found(code=0, made=made, published=published), RUN, 0, "", Policy()).result
    assert set(result) == KEYS
    assert all(set(each) == INTERVAL_KEYS for each in result["intervals"])
    assert result["contract"] == CONTRACT == 1
    assert json.loads(json.dumps(result)) == result


def test_a_skipped_interval_says_what_stands_and_by_whom():
    result = decide(found(code=0, made=run_brief("skipped"), published=record(OTHER)), RUN, 0, "", Policy()).result
    (interval,) = result["intervals"]
    assert (interval["state"], interval["published_by"], interval["partitions"]) == ("skipped", OTHER, [DIRECTORY])


def test_a_result_is_small_however_large_the_run_was():
    many = tuple(f"dt={DAY}/origin={number:05d}" for number in range(5000))
    intervals = tuple(
        IntervalResult(
            f"2013-{n:05d}", "published", "r" * 80, "h" * 64, Counts(1, 1), many, files=5000, bytes=1, error="e" * 9000
        )
        for n in range(365)
    )
    result = RunResult(RUN, "p", "default", "published", intervals, "t", 1.0, error="x" * 9000)
    made = brief(result, sample_plan())
    assert len(json.dumps(made)) < 300_000
    assert sum(len(each["partitions"]) for each in made["intervals"]) == MAX_PARTITIONS
    assert (made["intervals_total"], made["intervals"][0]["partitions_total"]) == (365, 5000)
