"""A backfill in several calls: which intervals each does."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from firesteel.conf.errors import SpecError
from firesteel.jobs.run.backfill import select_part, skip_all
from firesteel.pipelines.spec.model import Interval
from support.sample_run import sample_plan


@pytest.fixture
def pipeline():
    interval = Interval(column="dt", begin="2013-01-01", lookback=3)
    return SimpleNamespace(loaded=SimpleNamespace(spec=SimpleNamespace(interval=interval)))


def test_a_part_has_its_intervals_and_no_others(pipeline):
    plan = sample_plan(5)
    part = select_part(pipeline, plan, "2013-06-02..2013-06-03")
    assert [interval.id for interval in part.intervals] == ["2013-06-02", "2013-06-03"]
    assert part.models == plan.models
    assert [interval.id for interval in select_part(pipeline, plan, "2013-06-05..2013-06-30").intervals] == [
        "2013-06-05"
    ]


@pytest.mark.parametrize(
    ("part", "problem"),
    [
        ("2013-06-01", "is not a range FIRST..LAST"),
        ("2013-07-01..2013-07-31", "has no interval of the backfill, 2013-06-01 to 2013-06-05"),
    ],
)
def test_a_part_that_is_none_is_refused(pipeline, part, problem):
    with pytest.raises(SpecError, match=f"FS1014.*{problem}"):
        select_part(pipeline, sample_plan(5), part)


def test_what_is_only_planned_does_nothing_and_says_so():
    before = sample_plan(2)
    after = skip_all(before)
    assert [interval.action for interval in before.intervals] == ["score", "score"]
    assert [(interval.action, interval.reason) for interval in after.intervals] == [
        ("skip", f"planned: {interval.reason}") for interval in before.intervals
    ]
