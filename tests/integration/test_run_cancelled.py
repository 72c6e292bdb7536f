"""A run that a person or a scheduler ends: one line on standard error, exit 130, and a record in the history."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys

import pytest

from firesteel.pipelines.publish.lease import read_states
from firesteel.pipelines.publish.state_store import SinkInterval
from support import forks
from support.held import holding
from support.runs import firesteel
from support.scoring_project import DAY, ScoringProject
from support.waiting import runs as alive
from support.waiting import wait_for

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

NEXT_DAY = "2024-01-02"


def project_with_a_model_that_waits(folder, operator: str, at_once: int) -> ScoringProject:
    project = ScoringProject(folder, f"file://{folder}/data", "held")
    project.write_points(rows=100, files=1)
    shutil.copytree(folder / f"data/points/dt={DAY}", folder / f"data/points/dt={NEXT_DAY}")
    project.plan(operator)
    spec = folder / "pipeline.yaml"
    begin = "begin: 2024-01-01"
    spec.write_text(spec.read_text().replace(begin, f"{begin}, batch_concurrency: {at_once}"))
    return project


@pytest.mark.parametrize(
    ("operator", "at_once", "how"),
    [("direct", 1, "Ctrl-C, twice"), ("arrow", 2, "SIGTERM")],
)
def test_a_cancelled_run_says_so_in_one_line_and_in_the_history(tmp_path, operator, at_once, how):
    project = project_with_a_model_that_waits(tmp_path, operator, at_once)
    marks = tmp_path / "marks"
    words = [sys.executable, "-m", "firesteel.jobs.cli.main", "run", "--start", DAY, "--end", NEXT_DAY]
    with (tmp_path / "stderr").open("w") as stderr:
        driver = forks.Popen(
            words, cwd=tmp_path, stdout=stderr, stderr=stderr, start_new_session=True, env=forks.own_workers()
        )
    try:
        wait_for(lambda: bool(holding(marks)) or driver.poll() is not None, "a task is in mid-batch", 200)
        if how == "SIGTERM":
            driver.terminate()
        else:
            for _ in range(2):
                os.killpg(driver.pid, signal.SIGINT)
        try:
            code = driver.wait(100)
        except subprocess.TimeoutExpired:
            driver.send_signal(signal.SIGABRT)  # the driver writes the stacks of its threads
            driver.wait(20)
            raise AssertionError((tmp_path / "stderr").read_text()) from None
        # A worker that outlives its driver for a moment must not be told to go on and stage its file.
        wait_for(lambda: not any(map(alive, holding(marks))), "the workers have ended with their driver")
    finally:
        (marks / "go").touch()
        driver.kill()
    said = (tmp_path / "stderr").read_text()
    assert code == 130, said
    lines = [line for line in said.splitlines() if line and "incubator" not in line]
    assert lines == ["Cancelled. Published intervals stay published; the others are unchanged."]
    history = json.loads(firesteel("history", "--json", folder=tmp_path).stdout)
    assert {record["state"] for record in history} == {"cancelled"}
    assert {record["interval"] for record in history} == ({DAY, NEXT_DAY} if at_once > 1 else {DAY})
    assert "cancelled" in firesteel("status", folder=tmp_path).stdout
    assert all(state.released for state in read_states(SinkInterval(project.store, "scores", DAY)))
    assert not list(project.store.storage.walk(f"{project.store.base}/staging"))
    assert not (tmp_path / "data" / "scores").exists()
