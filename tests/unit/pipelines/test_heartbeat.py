"""What the storage says of a run that somebody waits for: running, ended, dead."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from firesteel.conf.errors import GateFailed, LeaseConflict
from firesteel.pipelines.publish.heartbeat import KEEP_S, RunHeartbeat, runs
from firesteel.pipelines.publish.lease import Attempt, Lease
from firesteel.pipelines.publish.ledger import write_record
from firesteel.pipelines.publish.records import LedgerRecord, PublishedFile
from firesteel.pipelines.publish.state_store import SinkInterval, StateStore
from firesteel.pipelines.publish.status import interval_status
from firesteel.pipelines.result import Counts
from firesteel.pipelines.storage.open import locate
from support.publishing import edit

RUN = "20260502T031000-ab59cc"


@pytest.fixture
def store(tmp_path):
    storage, base = locate(f"file://{tmp_path}")
    return StateStore(storage, base, "p", "default")


def states(store, name=RUN):
    return [(run.started.run_id, run.state, run.ended.exit_code if run.ended else None) for run in runs(store, name)]


def test_a_run_is_running_until_it_says_how_it_ended(store):
    assert states(store) == []
    with RunHeartbeat(store, RUN) as heartbeat:
        assert states(store) == [(RUN, "running", None)]
        heartbeat.end(0, {"state": "published"})
        heartbeat.end(1, {"state": "failed"})
    assert states(store) == [(RUN, "ended", 0)]
    assert runs(store, RUN)[0].ended.brief == {"state": "published"}


@pytest.mark.parametrize(
    ("error", "code"), [(GateFailed("FS7001", "bad"), 3), (KeyboardInterrupt(), 130), (OSError("secret"), 1)]
)
def test_an_error_on_its_way_out_is_how_it_ended(store, error, code):
    with pytest.raises(type(error)), RunHeartbeat(store, RUN):
        raise error
    assert states(store) == [(RUN, "ended", code)]
    assert ("FS7001" in runs(store, RUN)[0].ended.brief["error"]) == (code == 3)
    assert "secret" not in json.dumps(runs(store, RUN)[0].ended.brief)


def test_a_killed_process_leaves_a_dead_run(store, tmp_path):
    code = f"""
import os, signal
from firesteel.pipelines.publish.state_store import StateStore
from firesteel.pipelines.publish.ledger import write_record
from firesteel.pipelines.publish.heartbeat import RunHeartbeat
from firesteel.pipelines.storage.open import locate
storage, base = locate("file://{tmp_path}")
with RunHeartbeat(StateStore(storage, base, "p", "default"), "{RUN}"):
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    assert states(store) == [(RUN, "dead", None)]


def test_a_run_elsewhere_is_dead_when_its_beats_stop(store, tmp_path):
    with RunHeartbeat(store, RUN) as heartbeat:
        heartbeat.close()
    started = tmp_path / "heartbeat" / "default" / RUN / "started.json"
    edit(started, machine="another")
    assert states(store) == [(RUN, "running", None)]
    os.utime(started, (1_700_000_000,) * 2)
    assert states(store) == [(RUN, "dead", None)]
    started.with_name("beat").touch()
    assert states(store) == [(RUN, "running", None)]


def test_one_id_is_announced_once_and_may_be_taken_over(store):
    with RunHeartbeat(store, RUN) as client:
        with pytest.raises(LeaseConflict, match="FS7505"):
            RunHeartbeat(store, RUN).__enter__()
        with RunHeartbeat(store, RUN).taken_over() as driver:
            driver.end(3, {"state": "failed"})
        client.end(0, {})
    assert states(store) == [(RUN, "ended", 3)]


def test_runs_of_one_task_are_found_by_what_their_ids_share(store):
    for run_id in (RUN, "20260502T031000-ffffff", "xab59cc", "20260502T041000-ab59cc"):
        with RunHeartbeat(store, run_id) as heartbeat:
            heartbeat.end(0, {})
    assert [name for name, _, _ in states(store, "ab59cc")] == [RUN, "20260502T041000-ab59cc"]


def test_runs_of_long_ago_are_forgotten_when_another_begins(store, tmp_path):
    with RunHeartbeat(store, "old") as heartbeat:
        heartbeat.end(0, {})
    folder = tmp_path / "heartbeat" / "default" / "old"
    then = folder.stat().st_mtime - KEEP_S - 60
    for path in (*folder.iterdir(), folder):
        os.utime(path, (then, then))
    with RunHeartbeat(store, RUN):
        assert states(store, "old") == []
        assert states(store) == [(RUN, "running", None)]


def test_interval_status_says_who_holds_an_interval_and_that_nothing_is_published(store):
    attempt = Attempt(RUN, "hash", "ada", "there", "2026-05-02T03:10:00+00:00")
    lease = Lease.acquire(SinkInterval(store, "scores", "2013-06-01"), attempt, ttl_s=60, purpose="run")
    try:
        found = interval_status(store, {"scores": "file:///scores"}, ("2013-06-01", "2013-06-02"), "")
    finally:
        lease.release()
    held, free = found["intervals"]
    assert held["held_by"]["run_id"] == RUN
    assert (held["newest"], held["published"], free["held_by"]) == (None, None, None)
    assert interval_status(store, {"scores": "file:///scores"}, ("2013-06-01",), "")["intervals"][0]["held_by"] is None


def test_interval_status_names_the_partitions_that_have_files_and_not_those_that_were_planned(store):
    place = SinkInterval(store, "scores", "2013-06-01")
    files = (
        PublishedFile("dt=2013-06-01/origin=JFK/a.parquet", 5),
        PublishedFile("dt=2013-06-01/origin=LGA/b.parquet", 7),
    )
    record = LedgerRecord(
        "p",
        "default",
        "scores",
        "2013-06-01",
        1,
        RUN,
        "hash",
        "published",
        "t",
        "t",
        Counts(3, 3),
        ("dt=2013-06-01",),
        files,
        location="file:///scores",
    )
    write_record(place, record)
    (interval,) = interval_status(store, {"scores": "file:///scores"}, ("2013-06-01",), "")["intervals"]
    assert interval["published"] == interval["newest"]
    assert interval["published"]["partitions"] == ["dt=2013-06-01/origin=JFK", "dt=2013-06-01/origin=LGA"]
    assert (
        interval["published"]["files"],
        interval["published"]["bytes"],
        interval["published"]["rows"]["scored"],
    ) == (2, 12, 3)
