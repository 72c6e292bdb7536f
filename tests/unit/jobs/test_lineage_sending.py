"""Where events go: real servers on loopback, real files."""

from __future__ import annotations

import json
import logging
import os
import socket
import time
from dataclasses import replace

import pytest

from firesteel.conf import redaction
from firesteel.conf.errors import RuntimeFault
from firesteel.conf.redaction import Redactor
from firesteel.jobs.lineage.record import LineageRecord
from firesteel.jobs.lineage.sender import MAX_QUEUED, Sender
from firesteel.pipelines.events import Event, ignore
from firesteel.pipelines.plan.model import LineagePlan
from support.lineage import lineage_server, traced_plan
from support.openlineage_models import check_event
from support.sample_run import failed, published, sample_result

RUN = "20130604T101112-7f3a21"
TOKEN = "tok/1 en+2"
JOB, WHOLE = "flight_delay_scores.scores", "flight_delay_scores"


@pytest.fixture(autouse=True)
def _secret(monkeypatch):
    monkeypatch.setattr(redaction, "_REDACTOR", Redactor())
    monkeypatch.setenv("FIRESTEEL_SECRET_LINEAGE_KEY", TOKEN)


def http(url: str, **changes) -> LineagePlan:
    asked = LineagePlan("http", url, "firesteel", 5.0, endpoint="api/v1/lineage", auth="${secret:lineage/key}")
    return replace(asked, **changes)


def run(openlineage: LineagePlan, days: int = 1):
    """A run of some days as the runner tells it."""
    plan = traced_plan(openlineage, days=days)
    with LineageRecord.open(plan, RUN) as record:
        done = []
        for day, interval in enumerate(plan.intervals, start=1):
            record.interval_started(interval)
            done.append(published(plan, day))
            record.interval_finished(interval, done[-1])
        return record.finish(sample_result(plan, tuple(done)))


def lines(folder) -> list[dict]:
    return [json.loads(line) for path in sorted(folder.rglob("*.jsonl")) for line in path.read_text().splitlines()]


def kinds(events) -> list[tuple[str, str]]:
    return [(event["job"]["name"], event["eventType"]) for event in events]


def test_a_server_gets_every_event_in_order_with_the_token():
    with lineage_server() as server:
        result = run(http(server.url), days=2)
    assert server.kinds() == [
        (WHOLE, "START"), (JOB, "START"), (JOB, "COMPLETE"), (JOB, "START"), (JOB, "COMPLETE"), (WHOLE, "COMPLETE"),
    ]  # fmt: skip
    assert set(server.requests) == {("/api/v1/lineage", f"Bearer {TOKEN}")}
    assert (result.lineage.sent, result.lineage.lost) == (6, 0)
    assert all(check_event(event) for event in server.events)


def test_a_file_has_one_line_an_event_and_nothing_beside_it_is_left(tmp_path):
    result = run(LineagePlan("file", f"file://{tmp_path}/_lineage", "firesteel"))
    written = tmp_path / "_lineage" / f"{RUN}.jsonl"
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [written]
    assert kinds(lines(tmp_path)) == [(WHOLE, "START"), (JOB, "START"), (JOB, "COMPLETE"), (WHOLE, "COMPLETE")]
    assert str(result.lineage) == f"4 events to file://{written}"
    assert all(check_event(line) for line in lines(tmp_path))


def test_a_run_that_is_killed_leaves_whole_lines_of_what_it_had_sent(tmp_path):
    child = os.fork()
    if not child:
        plan = traced_plan(LineagePlan("file", f"file://{tmp_path}", "firesteel", required=True))
        record = LineageRecord.open(plan, RUN)
        record.interval_started(plan.intervals[0])
        while len(list(tmp_path.rglob("*.jsonl"))) < 2:
            time.sleep(0.01)
        os.kill(os.getpid(), 9)
    os.waitpid(child, 0)
    assert kinds(lines(tmp_path)) == [(WHOLE, "START"), (JOB, "START")]


def closed_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def test_no_server_costs_one_warning_and_is_counted(caplog):
    with caplog.at_level(logging.WARNING):
        result = run(http(closed_port()))
    assert (result.lineage.sent, result.lineage.lost) == (0, 4)
    assert result.lineage.reason == "Connection refused"
    assert len(caplog.records) == 1
    assert caplog.records[0].message.startswith("4 of 4 lineage events did not reach http://127.0.0.1")
    assert result.state == "published"


def test_a_server_that_does_not_answer_slows_a_run_by_its_timeout_and_no_more():
    with lineage_server() as server:
        server.delay_s = 60
        started = time.monotonic()
        result = run(http(server.url, timeout_s=0.5), days=3)
        assert time.monotonic() - started < 3
    assert (result.lineage.sent, result.lineage.lost) == (0, 8)


@pytest.mark.parametrize(("status", "asked"), [(401, 4), (500, 12)])
def test_a_fault_is_tried_again_and_a_refusal_is_not(status, asked):
    with lineage_server() as server:
        server.answer = status
        result = run(http(server.url, timeout_s=20))
    assert result.lineage.lost == 4
    assert result.lineage.reason.startswith(f"the server answered {status}")
    assert len(server.requests) == asked


def test_required_lineage_refuses_before_the_run_and_does_not_quote_the_token():
    with lineage_server() as server:
        server.answer = 401
        with pytest.raises(RuntimeFault) as caught:
            run(http(server.url, required=True))
    assert caught.value.code == "FS9040"
    assert "the server answered 401 Unauthorized" in caught.value.what
    assert TOKEN not in str(caught.value)


def test_required_lineage_whose_server_goes_away_later_loses_events_and_no_run():
    with lineage_server() as server:
        plan = traced_plan(http(server.url, required=True, timeout_s=0.5), days=1)
        record = LineageRecord.open(plan, RUN)
        server.answer = 404
        record.interval_started(plan.intervals[0])
        result = record.finish(sample_result(plan, (published(plan, 1),)))
    assert (result.lineage.sent, result.lineage.lost) == (1, 2)


def test_an_interrupt_aborts_what_is_open_and_an_error_fails_it(tmp_path):
    for number, (error, kind) in enumerate(((KeyboardInterrupt(), "ABORT"), (RuntimeFault("FS9002", "no."), "FAIL"))):
        plan = traced_plan(LineagePlan("file", f"file://{tmp_path}/{number}", "firesteel"))
        with pytest.raises(type(error)), LineageRecord.open(plan, RUN) as record:
            record.interval_started(plan.intervals[0])
            raise error
        assert kinds(lines(tmp_path / str(number)))[2:] == [(JOB, "ABORT"), (WHOLE, kind)]


def test_a_failed_run_ends_with_its_error(tmp_path):
    plan = traced_plan(LineagePlan("file", f"file://{tmp_path}", "firesteel"))
    bad = failed(plan, 1, "FS7001 output_ok failed.")
    with LineageRecord.open(plan, RUN) as record:
        record.interval_started(plan.intervals[0])
        record.interval_finished(plan.intervals[0], bad)
        record.finish(sample_result(plan, (bad,), error=bad.error))
    last = lines(tmp_path)[-1]
    assert last["eventType"] == "FAIL"
    assert last["run"]["facets"]["errorMessage"]["message"] == "FS7001 output_ok failed."


def test_runs_that_died_are_buried_once_and_recoveries_by_people_are_not(tmp_path):
    plan = traced_plan(LineagePlan("file", f"file://{tmp_path}", "firesteel"))
    dead = {"token": 1, "run_id": "20130603T000000-0badc0"}
    with LineageRecord.open(plan, RUN) as record:
        watch = record.watching(ignore)
        watch(Event("recovered", "2013-06-01", {**dead, "state": "published"}))
        watch(Event("recovered", "2013-06-02", {**dead, "state": "died"}))
        watch(
            Event("recovered", "2013-06-03", {"token": 2, "run_id": "recover-20130603T000000-0badc0", "state": "died"})
        )
        record.finish(sample_result(plan, ()))
    assert kinds(lines(tmp_path)) == [
        (WHOLE, "START"), (JOB, "COMPLETE"), (WHOLE, "FAIL"), (JOB, "FAIL"), (WHOLE, "COMPLETE"),
    ]  # fmt: skip


def test_events_that_a_dead_server_leaves_waiting_are_bounded(caplog):
    class Stuck:
        place = "nowhere"

        def emit(self, event):
            time.sleep(60)
            return "", False

        def close(self):
            return

    plan = traced_plan(days=1)
    from firesteel.jobs.lineage.events import Events

    event = Events(plan, RUN, "firesteel").started(plan.intervals[0])
    sender = Sender(Stuck(), 0.2, lambda text: None)
    for _ in range(MAX_QUEUED + 20):
        sender.send(event)
    use = sender.close()
    assert (use.sent, use.lost) == (0, MAX_QUEUED + 20)
    assert use.reason == "the event queue is full"


def test_without_openlineage_nothing_is_sent_and_nothing_is_said():
    plan = traced_plan(None)
    with LineageRecord.open(plan, RUN) as record:
        record.interval_started(plan.intervals[0])
        result = record.finish(sample_result(plan, (published(plan, 1),)))
    assert result.lineage is None
    assert record.watching(ignore) is ignore
