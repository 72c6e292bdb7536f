"""How a submission on a cluster ended: the ledger's word over everybody else's, on a real ledger in local files."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from firesteel.conf.errors import GateFailed, LeaseConflict
from firesteel.jobs.submit.driver import run_submitted
from firesteel.jobs.submit.result_store import DriverError, ResultStore
from firesteel.jobs.submit.verdict import decide, latest_tokens
from firesteel.pipelines.publish.ledger import write_record
from firesteel.pipelines.publish.records import LedgerRecord
from firesteel.pipelines.publish.state_store import SinkInterval, StateStore
from firesteel.pipelines.storage.open import locate
from support.sample_run import failed, published, sample_plan, sample_result

AT = "2013-06-04T10:11:12+00:00"
REFUSED = "FS7001 gate output_ok: 12 rows are out of range. Look at the report."


@pytest.fixture
def plan(tmp_path):
    return sample_plan(days=2, root=f"file://{tmp_path}")


def record(plan, day: int, state: str = "published", *, token: int = 1, error: str = "", plan_hash: str = "") -> None:
    """Put an attempt into the ledger."""
    interval = plan.intervals[day - 1]
    storage, base = locate(plan.storage)
    place = SinkInterval(StateStore(storage, base, plan.pipeline, plan.profile), "scores", interval.id)
    write_record(
        place,
        LedgerRecord(
            plan.pipeline, plan.profile, "scores", interval.id, token, f"run-{token}", plan_hash or interval.plan_hash,
            state, AT, AT, error=error,
        ),
    )  # fmt: skip


def test_all_intervals_in_the_ledger_are_success_whatever_the_cluster_says(plan):
    before = latest_tokens(plan)
    record(plan, 1)
    record(plan, 2)
    assert decide(plan, before, None, "application_1 FAILED").exit_code == 0


def test_success_of_the_cluster_is_failure_when_the_ledger_does_not_hold_it(plan):
    record(plan, 2, token=1)  # of an earlier run: it says nothing of this one
    before = latest_tokens(plan)
    record(plan, 1)
    verdict = decide(plan, before, None, "application_1 FINISHED SUCCEEDED")
    assert verdict.exit_code == 1
    assert verdict.text.startswith("FS9031")
    assert (
        "application_1 FINISHED SUCCEEDED, and the ledger has no record of scores 2013-06-02 for this plan"
        in verdict.text
    )


def test_a_failed_attempt_gives_the_exit_code_of_its_error(plan):
    before = latest_tokens(plan)
    record(plan, 1)
    record(plan, 2, "failed", error=REFUSED)
    verdict = decide(plan, before, None, "application_1 FINISHED SUCCEEDED")
    assert (verdict.exit_code, verdict.text) == (3, REFUSED)


def test_an_attempt_of_another_plan_is_not_success(plan):
    before = latest_tokens(plan)
    record(plan, 1)
    record(plan, 2, plan_hash="f" * 64)
    assert decide(plan, before, None, "spark-submit ended with 0").exit_code == 1


def test_what_the_driver_left_says_why_nothing_is_in_the_ledger(plan):
    before = latest_tokens(plan)
    results = ResultStore.of(plan, "S7")
    results.write_error(LeaseConflict("FS7501", "held by another.", hint="Wait."))
    outcome = results.fetch()
    assert outcome == DriverError("FS7501", "held by another.", "Wait.", 7)
    verdict = decide(plan, before, outcome, "application_1 FAILED")
    assert (verdict.exit_code, verdict.text) == (7, "FS7501 held by another. Wait.")
    assert results.fetch() is None


def test_a_driver_that_claims_success_is_not_believed(plan):
    before = latest_tokens(plan)
    outcome = sample_result(plan, (published(plan, 1), published(plan, 2)))
    assert decide(plan, before, outcome, "application_1 FINISHED SUCCEEDED").exit_code == 1


def test_result_and_report_come_to_where_runs_of_this_machine_leave_them(plan, tmp_path):
    (tmp_path / "container").mkdir()
    page = tmp_path / "container" / "report.html"
    page.write_text("<p>é</p>")
    result = sample_result(plan, (published(plan, 1), failed(plan, 2, REFUSED)), report=str(page), error=REFUSED)
    results = ResultStore.of(plan, "S7")
    results.write(result)
    fetched = results.fetch(tmp_path / "runs")
    folder = tmp_path / "runs" / result.run_id
    assert fetched == replace(result, report=str(folder / "report.html"))
    assert (folder / "report.html").read_bytes() == page.read_bytes()
    assert (folder / "result.json").read_text() == fetched.to_json()
    assert not list((tmp_path / "_firesteel").rglob("submissions/*"))


@pytest.fixture
def second_attempt(monkeypatch):
    monkeypatch.setenv("CONTAINER_ID", "container_e01_1700000000000_0001_02_000001")
    monkeypatch.setattr("firesteel.jobs.submit.driver.load_delivered_secrets", lambda: None)  # there is no JVM here


def test_a_second_driver_lets_the_result_of_the_first_stand(plan, second_attempt, tmp_path):
    result = sample_result(plan, (published(plan, 1), failed(plan, 2, REFUSED)), error=REFUSED)
    ResultStore.of(plan, "S7").write(result)
    assert run_submitted(plan, "S7") == result


def test_a_second_driver_lets_the_error_of_the_first_stand(plan, second_attempt):
    ResultStore.of(plan, "S7").write_error(GateFailed("FS7001", "12 rows are out of range."))
    with pytest.raises(GateFailed, match="FS7001 the first attempt failed: 12 rows are out of range"):
        run_submitted(plan, "S7")


def test_a_driver_uses_the_configuration_that_was_sent_along_and_not_its_nodes(
    plan, second_attempt, tmp_path, monkeypatch
):
    result = sample_result(plan, (published(plan, 1), published(plan, 2)))
    ResultStore.of(plan, "S7").write(result)
    monkeypatch.setenv("HADOOP_CONF_DIR", "/etc/hadoop/of/the/node")
    sent = tmp_path / "container" / "__spark_conf__" / "__hadoop_conf__"
    sent.mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "container")
    run_submitted(plan, "S7")
    assert os.environ["HADOOP_CONF_DIR"] == "/etc/hadoop/of/the/node"
    (sent / "core-site.xml").write_text("<configuration/>")
    run_submitted(plan, "S7")
    assert os.environ["HADOOP_CONF_DIR"] == str(sent)
