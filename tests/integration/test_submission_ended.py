"""A submission that somebody ends: its driver aborts while its JVM lives, and everything says that it was ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import mlflow
import pytest

from firesteel.pipelines.publish.heartbeat import runs
from firesteel.pipelines.publish.lease import read_states
from firesteel.pipelines.publish.state_store import SinkInterval
from support import forks
from support.held import holding
from support.scoring_project import DAY, ScoringProject
from support.waiting import runs as alive
from support.waiting import wait_for

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]


@pytest.fixture
def held(tmp_path) -> ScoringProject:
    project = ScoringProject(tmp_path, f"file://{tmp_path}/data", "held")
    project.write_points(rows=100, files=1)
    project.plan("direct")
    return project


@pytest.mark.parametrize("by", ["SIGTERM to the client", "Ctrl-C in its terminal"])
def test_a_submission_that_is_ended_was_cancelled_and_has_not_failed(held, by):
    marks = held.folder / "marks"
    words = [sys.executable, "-m", "firesteel.jobs.cli.main", "submit", "--start", DAY, "--run", "--run-id", "ended"]
    with (held.folder / "said").open("w") as said:
        client = subprocess.Popen(
            words, cwd=held.folder, stdout=said, stderr=said, start_new_session=True, env=forks.own_workers()
        )
    try:
        wait_for(lambda: len(holding(marks)) == 2 or client.poll() is not None, "both tasks are in mid-batch", 200)
        if by == "SIGTERM to the client":
            client.terminate()
        else:
            os.killpg(client.pid, signal.SIGINT)
        code = client.wait(100)
        # A worker that outlived its driver for a moment must not be told to go on and stage its file.
        wait_for(lambda: not any(map(alive, holding(marks))), "the workers have ended with their driver")
    finally:
        (marks / "go").touch()
        client.kill()
    text = (held.folder / "said").read_text()
    assert code == 130, text
    assert "Cancelled. Published intervals stay published" in text
    (state,) = runs(held.store, "ended")
    assert (state.ended.exit_code, state.ended.brief.get("error", "")) == (130, ""), text
    tracked = mlflow.MlflowClient(f"sqlite:///{held.folder}/mlflow.db").search_runs(["1"])
    assert {run.info.status for run in tracked} == {"KILLED"}, text
    assert all(each.released for each in read_states(SinkInterval(held.store, "scores", DAY)))
    assert not list(held.store.storage.walk(f"{held.store.base}/staging"))
    assert not (held.folder / "data" / "scores").exists()
