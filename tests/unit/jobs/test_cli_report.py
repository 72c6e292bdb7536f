from __future__ import annotations

import json

from firesteel.jobs.cli.main import invoke
from firesteel.jobs.run.plan_runner import RUNS_FOLDER


def test_report_names_the_page_of_a_run_and_of_the_newest(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for run in ("20130601T000000-a", "20130602T000000-b"):
        folder = tmp_path / RUNS_FOLDER / run
        folder.mkdir(parents=True)
        (folder / "result.json").write_text(json.dumps({"run_id": run}), encoding="utf-8")
    assert invoke(["report"]) == 0
    assert capsys.readouterr().out.endswith("20130602T000000-b/report.html\n")
    assert invoke(["report", "20130601T000000-a", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"run_id": "20130601T000000-a"}


def test_report_of_a_run_that_is_not_there_names_those_that_are(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert invoke(["report", "x"]) == 2
    assert "no report of run x" in capsys.readouterr().err
