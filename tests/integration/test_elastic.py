"""Executors of a real standalone cluster come for a burst and go after it, and the run says so."""

from __future__ import annotations

import json

import mlflow
import pytest

from firesteel.jobs.embedded.standalone import EmbeddedStandalone
from support.bursty import Bursty, there
from support.quick_jvm import quick_executors
from support.runs import firesteel

pytestmark = pytest.mark.timeout(600)  # five JVMs start: seconds on an idle machine, minutes on a busy one

DAYS = {"2024-01-01": 1, "2024-01-02": 16, "2024-01-03": 1}
WANTED = {"2024-01-01": 1, "2024-01-02": 4, "2024-01-03": 1}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """One Worker with room for four executors."""
    with quick_executors(EmbeddedStandalone(tmp_path_factory.mktemp("elastic"), cores=4, memory="3g")) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def burst(cluster, tmp_path_factory):
    """A quiet day, a burst that needs four executors at once, and a day that is not over before three of them have gone."""
    project = Bursty(tmp_path_factory.mktemp("burst"), crowd=True)
    project.write(DAYS, WANTED)
    executors = {"min": 1, "max": 4, "initial": 1, "memory": "512m", "idle_timeout": "2s"}
    project.plan(
        "2024-01-01",
        "2024-01-03",
        {"master": cluster.master, "executors": executors},
        # Without history a burst has as many tasks as there are cores at its beginning.
        {"spark.default.parallelism": "8", "spark.driver.memory": "600m"},
    )
    done = firesteel("run", "--start", "2024-01-01", "--end", "2024-01-03", folder=project.folder, timeout_s=580)
    assert done.returncode == 0, done.stderr
    return project, done


def test_one_executor_becomes_four_and_one_again(burst):
    project, _ = burst
    assert project.rows() == {day: files * 20 for day, files in DAYS.items()}
    (path,) = project.folder.glob(".firesteel/runs/*/result.json")
    use = json.loads(path.read_text())["executors"]
    spans = {stage["interval"]: stage for stage in use["stages"]}
    assert there(use, spans["2024-01-01"]["end_s"] - 0.001) == 1
    assert there(use, spans["2024-01-02"]["end_s"] - 0.001) == 4
    assert there(use, spans["2024-01-03"]["end_s"] - 0.001) == 1
    assert (use["peak"], use["lost"], use["tasks"]) == (4, 0, 10)
    gone = [life for life in use["executors"] if life["removed_s"] is not None]
    assert [life["why"] for life in gone] == ["idle"] * 3
    assert all(life["idle_s"] >= 2.0 for life in gone)
    assert len(use["scale_in_s"]) == 3
    assert any(wait > 0 for wait in use["scale_out_s"])
    alone, together = use["seconds"], 4 * use["seconds"]
    assert alone < use["executor_seconds"] < together


def test_terminal_mlflow_and_report_show_it(burst):
    project, done = burst
    assert "  executors    peak 4 executors, " in done.stdout
    client = mlflow.MlflowClient(f"sqlite:///{project.folder}/mlflow.db")
    (experiment,) = client.search_experiments(filter_string="name LIKE 'firesteel/%'")
    (run,) = client.search_runs([experiment.experiment_id], "params.pipeline = 'bursty'")
    assert (run.data.metrics["executors_peak"], run.data.metrics["executors_lost"]) == (4, 0)
    assert run.data.metrics["seconds_to_scale_in"] >= 2.0
    (page,) = project.folder.glob(".firesteel/runs/*/report.html")
    text = page.read_text()
    assert "Executor lifetimes" in text
    assert text.count('class="gone idle"') == 6  # once for wide screens, once for narrow ones


def test_the_event_log_lies_beside_the_report(burst):
    project, _ = burst
    assert len([*project.folder.glob(".firesteel/runs/*/events/eventlog_v2_*/events_1_*.zstd")]) == 1
