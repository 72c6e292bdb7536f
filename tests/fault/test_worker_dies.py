"""Rows that end the Python worker which scores them: a segfault, SIGKILL, an exit, a loop in C. They cost themselves."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from firesteel.conf.errors import ModelError
from firesteel.jobs.run.plan_runner import run_plan
from firesteel.pipelines import Pipeline
from firesteel.pipelines.storage.open import locate
from firesteel.udfs.deadline import BatchTimeout
from firesteel.udfs.digest import digest_of
from firesteel.udfs.guard import Guard, WorkerDied
from firesteel.udfs.spec import ModelRef
from support.deadly import EXITS, HANGS, KILLED, RAISES, SEGFAULT, save_deadly
from support.runs import firesteel
from support.scoring_project import DAY, ScoringProject

pytestmark = pytest.mark.fault

PLAIN = "SELECT id, a, CAST(b AS DOUBLE) AS b, c, dt, origin FROM points"
ROWS = 400
DEADLY = {50: SEGFAULT, 51: KILLED, 200: EXITS, 300: RAISES, 399: SEGFAULT}
LETTERS = {
    50: ("WorkerDied", "ended by SIGSEGV"),
    51: ("WorkerDied", "ended by SIGKILL"),
    200: ("WorkerDied", "ended itself with code 3"),
    300: ("ValueError", "as models do"),
    399: ("WorkerDied", "ended by SIGSEGV"),
}


def project_of(folder: Path, deadly: dict[int, float]) -> ScoringProject:
    """Two files; the second has no row that does harm."""
    project = ScoringProject(folder, f"file://{folder}/data", "deadly")
    storage, base = locate(project.root)
    for number in range(2):
        ids = range(number * ROWS, (number + 1) * ROWS)
        values = [deadly.get(each, each / 7) for each in ids]
        kinds = {"id": pa.int64(), "a": pa.float64(), "b": pa.int32(), "c": pa.float64()}
        table = pa.table({name: pa.array(values if name == "a" else ids, kind) for name, kind in kinds.items()})
        sink = io.BytesIO()
        pq.write_table(table, sink)
        storage.create(f"{base}/points/dt={DAY}/origin=JFK/part-{number}.parquet", sink.getvalue())
    return project


def check(project: ScoringProject, dead_letters: dict[int, tuple[str, str]]) -> None:
    found = project.published()
    right = [each for each in range(2 * ROWS) if each not in dead_letters]
    assert found.column("id").to_pylist() == right
    assert found.column("p").to_pylist() == [each / 7 for each in right]
    assert {number: (error, text) for number, error, text in project.dead()} == dead_letters
    storage, base = locate(f"{project.root}/_firesteel/points/staging")
    assert not list(storage.walk(base))


@pytest.mark.parametrize("operator", ["direct", "arrow", "pandas"])
def test_each_deadly_row_is_a_dead_letter_and_all_others_are_published(spark, tmp_path, runs, operator):
    """`local[2]` tries a task once: the driver scores the interval again."""
    project = project_of(tmp_path, DEADLY)
    told = []
    result = run_plan(project.plan(operator, sql=PLAIN), spark=spark, runs=runs, on_event=told.append)
    assert result.state == "published", result.error
    assert (result.counts.dead_letter, result.counts.balanced) == (len(LETTERS), True)
    check(project, LETTERS)
    assert [event.facts.get("again") for event in told if event.kind == "scoring"] == [None, "a Python worker died"]
    facts = dict(result.intervals[0].scoring)
    reasons = [fact["reason"] for fact in facts["backends"]]
    assert "a worker crashed; each call runs in its own process" in reasons
    assert len(reasons) == 1 or operator == "direct", "tasks that were done before are not done again"


def test_a_task_that_is_tried_again_finds_the_row_by_itself_and_other_tasks_run_as_ever(standalone, tmp_path):
    """A cluster tries a task four times: the job goes on, and the driver scores nothing again."""
    project = project_of(tmp_path, DEADLY)
    project.plan("direct", sql=PLAIN)
    path = project.folder / "pipeline.yaml"
    path.write_text(path.read_text().replace("local[2]", standalone.master))
    done = firesteel("run", "--start", DAY, "--json", folder=project.folder)
    assert done.returncode == 0, done.stdout + done.stderr
    check(project, LETTERS)
    (interval,) = json.loads(done.stdout)["intervals"]
    assert interval["counts"]["dead_letter"] == len(LETTERS)
    facts = dict(interval["scoring"])
    assert [fact["reason"] for fact in facts["backends"]] == [
        "a worker crashed; each call runs in its own process",
        "the model has no native model behind its pyfunc",
    ]


def test_a_loop_in_native_code_is_cut_by_the_timeout(spark, tmp_path, runs):
    project = project_of(tmp_path, {7: HANGS})
    project.plan("arrow", sql=PLAIN)
    path = project.folder / "pipeline.yaml"
    path.write_text(path.read_text().replace("      batch: {rows: 64}", "      batch: {rows: 64}\n      timeout: 2s"))
    result = run_plan(Pipeline.load(path).plan(DAY), spark=spark, runs=runs)
    assert result.state == "published", result.error
    check(project, {7: ("BatchTimeout", "no result within 2 s")})


def test_where_a_failing_row_fails_the_run_a_death_does_and_says_what_to_do(spark, tmp_path, runs):
    project = project_of(tmp_path, {7: SEGFAULT})
    project.plan("arrow", sql=PLAIN)
    path = project.folder / "pipeline.yaml"
    path.write_text(path.read_text().replace("{action: dead_letter, max_rows: 1000}", "{action: fail}"))
    result = run_plan(Pipeline.load(path).plan(DAY), spark=spark, runs=runs)
    assert (result.state, result.exit_code) == ("failed", 1)
    assert "FS9002" in result.error
    assert "a Python worker died" in result.error
    assert "dead_letter" in result.error


@pytest.fixture
def guard(tmp_path):
    save_deadly(tmp_path / "m")
    made = Guard(ModelRef("m", digest_of(tmp_path / "m").hex, str(tmp_path / "m"), format="pickle"), 2.0)
    yield made
    made.close()


def test_the_guard_outlives_what_it_guards(guard):
    import pandas as pd

    def frame(*values):
        return pd.DataFrame({"a": values, "b": 0.0, "c": 0.0})

    for value, error in ((SEGFAULT, WorkerDied), (EXITS, WorkerDied), (HANGS, BatchTimeout), (KILLED, WorkerDied)):
        with pytest.raises(error):
            guard.predict(frame(1.0, value))
        assert guard.predict(frame(1.0, 2.0)).tolist() == [1.0, 2.0]
    with pytest.raises(Exception, match="as models do") as caught:
        guard.predict(frame(RAISES))
    assert type(caught.value).__name__ == "ValueError"


def test_a_model_that_is_not_the_planned_one_is_not_loaded_behind_it(tmp_path):
    save_deadly(tmp_path / "m")
    with pytest.raises(ModelError, match="FS3011"):
        Guard(ModelRef("m", "0" * 64, str(tmp_path / "m"), format="pickle"), None)
