"""How a run was scored, in the words of terminal and report."""

from __future__ import annotations

from dataclasses import replace

from firesteel.jobs.cli.console import show_result
from firesteel.jobs.report.scored import scored_by, worker_seconds
from support.sample_run import failed, published, sample_plan, sample_result


def test_operators_and_forms_are_told_once_with_their_reasons():
    plan = sample_plan(3)
    direct = replace(
        published(plan, 3), scoring=(("operator", "direct"), ("operator_reason", "maps only"), ("rows_by_backend", {}))
    )
    result = sample_result(plan, (published(plan, 1), published(plan, 2), direct))
    arrow, other = scored_by(result)
    assert (arrow.operator, arrow.reason, arrow.intervals) == ("arrow", "features joins two relations", 2)
    folded, pyfunc = arrow.backends
    assert (folded.name, folded.difference) == ("folded linear", 3e-16)
    assert (pyfunc.rows, pyfunc.reason) == (16, "batches that the chosen backend does not support")
    assert (other.operator, other.backends) == ("direct", ())


def test_the_workers_phases_stand_in_the_order_of_a_rows_way():
    plan = sample_plan(2)
    found = worker_seconds((published(plan, 1), failed(plan, 2, "FS7001")))
    assert list(found) == ["load", "read", "decode", "model", "encode", "write"]
    assert found["model"] == 6.2


def test_the_terminal_says_it(capsys):
    plan = sample_plan(1)
    show_result(sample_result(plan, (published(plan, 1),)), as_json=False)
    said = capsys.readouterr().out
    assert "operator     arrow: features joins two relations" in said
    assert "backend      folded linear, 889 rows: agrees with pyfunc within 1e-06, largest difference 3e-16" in said


def test_a_run_without_a_model_says_nothing():
    plan = sample_plan(1)
    assert scored_by(sample_result(plan, (replace(published(plan, 1), scoring=()),))) == ()


def test_rows_of_a_run_that_died_are_told(capsys):
    plan = sample_plan(2)
    intervals = [published(plan, number) for number in (1, 2)]
    resumed = tuple(replace(interval, scoring=(*interval.scoring, ("resumed_rows", 700))) for interval in intervals)
    show_result(sample_result(plan, resumed), as_json=False)
    assert "resumed      1,400 rows scored by a dead run" in capsys.readouterr().out
