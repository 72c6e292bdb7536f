"""A suite that the installed Great Expectations has written, in a run, and the Data Docs of what came out."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from firesteel.jobs.cli.main import invoke
from firesteel.jobs.gates.validations import FILE, read_validations
from firesteel.jobs.run.plan_runner import RUNS_FOLDER, run_plan
from support.scoring_project import ScoringProject

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore:module 'sre_.*' is deprecated:DeprecationWarning"),
]

WRITE = """
import sys
import great_expectations as gx
import great_expectations.expectations as gxe

context = gx.get_context(mode="file", project_root_dir=sys.argv[1])
suite = context.suites.add(gx.ExpectationSuite(name="points"))
suite.add_expectation(gxe.ExpectColumnValuesToNotBeNull(column="id", notes="the key"))
suite.add_expectation(gxe.ExpectColumnValuesToBeBetween(
    column="b", min_value=0, severity="warning", condition_parser="spark", row_condition="a > 0"))
suite.add_expectation(gxe.ExpectColumnMedianToBeBetween(column="a", min_value=-5, max_value=5, severity="info"))
"""
GATES = """
gates:
  input_ok: {on: points, suite: gx/expectations/points.json, expect: [{type: drift, column: c}]}
  output_ok: {on: "sink:scores", expect: [{type: expect_column_values_to_be_between, column: p, min_value: 0, max_value: 1},
    {type: row_count_matches, of: features, less: dead_letter}]}
"""


def test_a_suite_is_run_as_it_was_written_and_data_docs_are_built(spark, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    script = tmp_path / "write.py"  # with `python -c` its import ends the process: see gates/gx.py
    script.write_text(WRITE, encoding="utf-8")
    subprocess.run([sys.executable, str(script), str(tmp_path)], check=True, capture_output=True)
    written = json.loads((tmp_path / "gx" / "expectations" / "points.json").read_text())
    assert len(written["expectations"]) == 3
    project = ScoringProject(tmp_path, f"file://{tmp_path}/data")
    project.write_points()
    result = run_plan(project.plan(gates=GATES), spark=spark)
    assert result.state == "published", result.error
    inputs, outputs = result.intervals[0].gates
    not_null, between, median, drift = inputs.expectations
    assert (not_null.success, median.success, median.severity, drift.success) == (True, True, "warning", True)
    points = spark.read.parquet(f"{project.root}/points").where("a > 0")
    assert (between.element_count, between.unexpected_count) == (points.count(), points.where("b < 0").count())

    found = read_validations(tmp_path / RUNS_FOLDER / result.run_id / FILE)
    assert [(each.suite_name, each.success, len(each.results)) for each in found] == [
        ("input_ok", True, 4),
        ("output_ok", True, 2),
    ]
    assert found[0].results[1].result["unexpected_count"] == between.unexpected_count
    assert found[0].get_failed_validation_results().results == [found[0].results[1]]
    assert outputs.expectations[1].observed == result.counts.scored

    capsys.readouterr()
    assert invoke(["data-docs", result.run_id]) == 0
    index = capsys.readouterr().out.strip()
    assert index == str(tmp_path / RUNS_FOLDER / result.run_id / "data_docs" / "index.html")
    (page,) = (tmp_path / RUNS_FOLDER).rglob("validations/input_ok/**/2024-01-01.html")
    text = page.read_text(encoding="utf-8")
    assert "values must never be null" in text
    assert "drift: PSI at most 0.2 against the last success" in text
    assert "no baseline: this is the first success" in text
    assert str(between.unexpected_count) in text
    assert invoke(["data-docs", "nope"]) == 2
