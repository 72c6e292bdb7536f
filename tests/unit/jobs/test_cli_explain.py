"""`explain` and `diff` as people see them."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from firesteel.jobs.cli.console import plain_console, show_plan
from firesteel.jobs.cli.draw import trees
from firesteel.jobs.cli.main import invoke
from firesteel.jobs.report.explain import write_explanation
from firesteel.jobs.run.stages import interval_stages
from firesteel.pipelines import Pipeline
from firesteel.pipelines.plan.model import ChallengerPlan, ScoreStepPlan
from support.data import write_days
from support.specs import EXAMPLE, FixedBackend, example_with

ROOT = ("--param", "root=file:///data")


def test_explain_draws_a_spec_without_data(capsys, golden):
    assert invoke(["explain", str(EXAMPLE / "pipeline.yaml"), *ROOT, "--rules", "--lineage"]) == 0
    golden("explain.txt", re.sub(r"code \w{12}", "code HASH", capsys.readouterr().out))


def test_explain_gives_the_sketch_as_json(capsys):
    assert invoke(["explain", str(EXAMPLE / "pipeline.yaml"), *ROOT, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["pipeline"], found["intervals"]) == ("flight_delay_scores", [])


def test_explain_draws_a_plan_file_with_partitions_bytes_and_version(tmp_path, capsys):
    write_days(tmp_path / "data", ["2013-06-01"])
    path = example_with(tmp_path / "p", {})
    plan = Pipeline.load(path, params={"root": f"file://{tmp_path}/data"}, backend=FixedBackend()).plan("2013-06-01")
    file = tmp_path / "plan.json"
    file.write_text(plan.to_json(), encoding="utf-8")
    assert invoke(["explain", str(file)]) == 0
    shown = capsys.readouterr().out
    assert "3 files," in shown
    assert "in 3 partitions" in shown
    assert "v7, sha256 dddddddddddd, skops" in shown
    assert "requests local[2]; scan tasks 1, shuffle partitions 4" in shown
    assert "features joins weather" in shown


def test_a_plan_as_a_page_says_all_that_is_drawn(tmp_path):
    write_days(tmp_path / "data", ["2013-06-01"])
    path = example_with(tmp_path / "p", {})
    plan = Pipeline.load(path, params={"root": f"file://{tmp_path}/data"}, backend=FixedBackend()).plan("2013-06-01")
    text = write_explanation(plan, interval_stages(plan), tmp_path / "out" / "plan.html").read_text(encoding="utf-8")
    assert text.count("<svg") == 2
    for word in ("features + scored", "weather.wind_speed", "not published yet", "http-equiv"):
        assert word in text
    assert "http://" not in text.replace("http://www.w3.org/2000/svg", "")


@pytest.mark.parametrize(
    ("changes", "end"),
    [
        ({}, "Both are equivalent: no published interval is affected."),
        (
            {"max_value: 1}": "max_value: 0.9}"},
            "Only gates differ: the gates of every published interval would run again.",
        ),
        (
            {"rows: 8192": "rows: 4096"},
            "Every published interval would be scored again. Use --start and --end to list the intervals of a range.",
        ),
    ],
)
def test_diff_says_which_intervals_are_touched(tmp_path, capsys, changes, end):
    paths = [str(example_with(tmp_path / name, each)) for name, each in (("old", {}), ("new", changes))]
    assert invoke(["diff", *paths, *ROOT]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == end
    assert invoke(["diff", *paths, *ROOT, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["equal_code"] is (not changes)


def test_sparks_plan_of_a_spec_needs_an_interval(capsys):
    assert invoke(["explain", str(EXAMPLE / "pipeline.yaml"), *ROOT, "--spark"]) == 2
    assert "FS1014" in capsys.readouterr().err


def long_names(folder):
    """A plan whose lines are longer than any terminal: a source far down in the storage."""
    root = f"file://{folder}/{'a-folder-with-a-long-name/' * 12}data"
    return Pipeline.load(example_with(folder / "p", {}), params={"root": root}, backend=FixedBackend()).sketch(), root


def test_a_plan_shows_the_warnings_about_its_models(tmp_path, capsys):
    plan, _ = long_names(tmp_path)
    warned = replace(plan.models[0], warnings=("packages differ: numpy==1 [x].",))
    challenger = ChallengerPlan("models:/x", replace(warned, warnings=("no good.",)), 0.1)
    steps = tuple(
        replace(step, challenger=challenger) if isinstance(step, ScoreStepPlan) else step for step in plan.steps
    )
    show_plan(replace(plan, models=(warned,), steps=steps))
    shown = capsys.readouterr().out
    assert "Warning: model delay: packages differ: numpy==1 [x].\nWarning: challenger of delay: no good.\n" in shown


def test_a_plan_is_shown_whole_where_there_is_no_terminal(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    plan, root = long_names(tmp_path)
    show_plan(plan)
    shown = capsys.readouterr().out
    assert f"parquet {root}/flights\n" in shown
    assert "…" not in shown


def test_a_terminal_wraps_the_tree_between_words(tmp_path):
    plan, root = long_names(tmp_path)
    console = plain_console()
    with console.capture() as captured:
        for tree in trees(plan, 60):
            console.print(tree)
    lines = captured.get().splitlines()
    assert any(line.endswith(f" {root}/flights") for line in lines), "a path is one word"
    assert all(len(line.rstrip()) <= 60 for line in lines if root not in line)
    words = " ".join(captured.get().translate(str.maketrans("└─├│", "    ")).split())
    assert (
        "SQL, 10 columns: flight_id, dt, origin, dep_hour, distance, dep_delay, wind_speed, precip, visib, temp"
        in words
    )
