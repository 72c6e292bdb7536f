"""Champion against challenger on the page and in text."""

from __future__ import annotations

from dataclasses import replace

import pytest

from firesteel.jobs.report.agreement import combine_agreements, compare_models, draw, output_line, summarize_rows
from firesteel.jobs.report.write import render
from firesteel.jobs.tracking.metrics import interval_metrics, run_metrics
from firesteel.pipelines.plan.model import ChallengerPlan, OutputColumn, ScoreStepPlan
from firesteel.pipelines.result import Agreement, OutputAgreement
from support.sample_run import published, sample_plan, sample_result

P = OutputAgreement("p_delay", 900, 0.5, 0.9, 0.02, 0.3, 0.97, tuple((n / 100, n / 100 + 0.01) for n in range(100)))
LABEL = OutputAgreement("late", 900, 0.8)
FOUND = Agreement("models:/flight_delay@challenger", "8", "8" * 64, 1000, 0, 0, "", 0.05, (), (P, LABEL))


def plan_with(days=2, outputs=()):
    plan = sample_plan(days)
    challenger = ChallengerPlan(FOUND.uri, replace(plan.models[0], version="8"), 0.05, ("distance",), outputs)
    steps = tuple(
        replace(step, challenger=challenger) if isinstance(step, ScoreStepPlan) else step for step in plan.steps
    )
    return replace(plan, steps=steps)


def result_with(plan, *agreements):
    intervals = [replace(published(plan, day), agreement=each) for day, each in enumerate(agreements, 1)]
    return sample_result(plan, tuple(intervals))


def test_intervals_together_are_weighted_by_their_rows():
    few = replace(
        FOUND,
        rows=100,
        failed=3,
        left_out=2,
        problem="FS5006 it failed",
        errors=(("ValueError", 3),),
        outputs=(
            replace(P, compared=100, within=0.1, alike=0.1, mean_difference=0.2, max_difference=2.0, correlation=None),
        ),
    )
    whole = combine_agreements([FOUND, few])
    assert (whole.rows, whole.failed, whole.left_out, whole.problem) == (1100, 3, 2, "FS5006 it failed")
    p, label = whole.outputs
    assert (p.compared, p.max_difference, p.correlation) == (1000, 2.0, 0.97)
    assert p.within == pytest.approx((1000 * 0.9 + 100 * 0.1) / 1100)
    assert p.mean_difference == pytest.approx((900 * 0.02 + 100 * 0.2) / 1000)
    assert (label.alike, label.within, label.mean_difference) == (0.8, None, None)
    assert combine_agreements([]) is None


def test_the_page_shows_numbers_picture_and_what_is_published():
    plan = plan_with()
    page = render(result_with(plan, FOUND, FOUND), plan)
    assert "Champion against challenger" in page
    assert "2,000 rows compared. The challenger's scores are not published." in page
    assert "0.97" in page
    assert page.count('class="point"') == 2 * 200
    assert page.count("Results by interval") >= 1
    assert ">delay, challenger<" in page
    loud = plan_with(outputs=(OutputColumn("next_p_delay", "double"),))
    assert "The challenger's scores are published as <code>next_p_delay</code>." in render(
        result_with(loud, FOUND), loud
    )


def test_a_page_without_a_challenger_says_nothing_of_one():
    plan = sample_plan(1)
    assert "challenger" not in render(sample_result(plan, (published(plan, 1),)), plan).lower()
    assert compare_models(sample_result(plan, (published(plan, 1),)), plan) is None


def test_one_that_failed_says_how_and_needs_no_picture():
    failed = replace(
        FOUND,
        rows=0,
        failed=100,
        left_out=800,
        problem="FS5006 <b>it</b> failed.",
        outputs=(),
        errors=(("KeyError", 100),),
    )
    assert summarize_rows(failed) == (
        "0 rows compared; 100 failed (KeyError 100); 800 not scored by the challenger; FS5006 <b>it</b> failed"
    )
    plan = plan_with()
    page = render(result_with(plan, failed), plan)
    assert "FS5006 &lt;b&gt;it&lt;/b&gt; failed" in page
    assert 'class="point"' not in page


@pytest.mark.parametrize(
    "pairs",
    [
        ((0.5, 0.5),),
        ((0.0, 0.0), (0.0, 0.0)),
        ((-1.7e308, 1.7e308), (1.7e308, -1.7e308)),
        ((5e-324, 0.0),),
        ((1e15, 1e15 + 1),),
        ((-3.0, 12.0), (7.0, 7.0)),
    ],
)
def test_odd_samples_are_drawn_within_the_picture(pairs):
    text = str(draw(replace(P, sample=pairs), "k", 520))
    assert "nan" not in text
    assert "inf" not in text
    for part in text.split("<circle")[1:]:
        x, y = (float(part.split(f'{name}="')[1].split('"')[0]) for name in ("cx", "cy"))
        assert 60 <= x <= 520
        assert 10 <= y <= 375


@pytest.mark.parametrize(
    ("output", "said"),
    [
        (P, "90 % within 0.05, mean difference 0.02, largest 0.3, correlation 0.97"),
        (LABEL, "80 % agree"),
        (replace(LABEL, alike=None), "no rows to compare"),
        (
            replace(P, mean_difference=None, max_difference=None, within=1.0),
            "100 % within 0.05 (no row has both scores)",
        ),
        (
            replace(P, max_difference=None, correlation=None),
            "90 % within 0.05, mean difference 0.02, largest greater than a double can hold",
        ),
    ],
)
def test_one_line_says_it(output, said):
    assert output_line(output, 0.05) == said


def test_metrics_are_of_the_interval_and_of_the_run():
    plan = plan_with()
    result = result_with(plan, FOUND, replace(FOUND, rows=3000))
    first = interval_metrics(result.intervals[0])
    assert (first["challenger.rows"], first["challenger.p_delay.within"], first["challenger.late.alike"]) == (
        1000,
        0.9,
        0.8,
    )
    assert "challenger.late.correlation" not in first
    whole = run_metrics(result)
    assert (whole["challenger.rows"], whole["challenger.p_delay.correlation"]) == (4000, 0.97)
    assert whole["challenger.p_delay.within"] == pytest.approx(0.9)
