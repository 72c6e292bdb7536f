"""Figures, histograms put together, and the layout of the graph."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from firesteel.conf.quantities import byte_size, duration, plural
from firesteel.jobs.gates.distribution import describe
from firesteel.jobs.report import graph
from firesteel.jobs.report.formats import moment, number, share
from firesteel.jobs.report.histogram import combine, draw
from firesteel.pipelines.result import IntervalResult
from support.sample_run import published, sample_plan


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (byte_size(0), "0 B"),
        (byte_size(1536), "1.5 KiB"),
        (byte_size(5 << 30), "5.0 GiB"),
        (duration(0.04), "40 ms"),
        (duration(1.44), "1.4 s"),
        (duration(59.6), "1 min 0 s"),
        (duration(200), "3 min 20 s"),
        (duration(7500), "2 h 5 min"),
        (share(1, 8), "12.5 %"),
        (share(0, 0), "-"),
        (plural(1, "row"), "1 row"),
        (plural(2000, "row"), "2,000 rows"),
        (number(0.123456), "0.1235"),
        (number(123456.7), "123,457"),
        (moment("2013-06-04T10:11:12.5+00:00"), "2013-06-04 10:11:12 UTC"),
        (moment("yesterday"), "yesterday"),
    ],
)
def test_figures_read_well(text: str, wanted: str) -> None:
    assert text == wanted


def interval(*bars: tuple[float, float, int], nulls: int = 0) -> IntervalResult:
    total = sum(count for _, _, count in bars)
    mean = sum((left + right) / 2 * count for left, right, count in bars) / total if total else None
    facts = {
        "rows": total + nulls,
        "nulls": nulls,
        "not_finite": 0,
        "min": bars[0][0] if bars else None,
        "max": bars[-1][1] if bars else None,
        "mean": mean,
        "histogram": [list(bar) for bar in bars],
    }
    return IntervalResult("i", "published", "", "x", distributions=(("p", facts),))  # type: ignore[arg-type]


def test_intervals_with_the_same_bins_add_up_exactly() -> None:
    (found,) = combine([interval((0.0, 0.5, 3), (0.5, 1.0, 1)), interval((0.5, 1.0, 4), nulls=2)])
    assert found.bins == ((0.0, 0.5, 3.0), (0.5, 1.0, 5.0))
    assert (found.exact, found.rows, found.nulls, found.low, found.high) == (True, 10, 2, 0.0, 1.0)


def test_intervals_with_other_bins_are_spread_and_said_so() -> None:
    (found,) = combine([interval((0.0, 0.2, 2), (0.2, 0.4, 2)), interval((0.0, 0.5, 5), (0.5, 1.0, 5))])
    assert not found.exact or [round(bar[2], 6) for bar in found.bins] == [9, 5]
    assert sum(bar[2] for bar in found.bins) == pytest.approx(14)


def test_constants_and_empty_columns() -> None:
    (constant,) = combine([interval((0.5, 0.5, 7))])
    assert constant.bins == ((0.5, 0.5, 7),)
    assert "Histogram of p" in draw(constant, "k", 340)
    assert combine([interval()]) == ()


@given(
    st.lists(st.lists(st.integers(0, 1000), min_size=1, max_size=25), min_size=1, max_size=4),
    st.sampled_from([0.01, 0.05, 0.2, 1.0, 500.0]),
)
def test_putting_histograms_together_loses_no_value(counts: list[list[int]], width: float) -> None:
    parts = [
        interval(*((step * width * (n + 1), (step + 1) * width * (n + 1), c) for step, c in enumerate(each)))
        for n, each in enumerate(counts)
    ]
    parts = [part for part in parts if part.distributions[0][1]["mean"] is not None]  # type: ignore[index,call-overload]
    for found in combine(parts):
        assert sum(bar[2] for bar in found.bins) == pytest.approx(found.values)
        draw(found, "k", 340)


def test_the_graph_layers_relations_after_what_they_read() -> None:
    plan = sample_plan(1)
    nodes = graph.nodes_of(plan, {"flights": "passed", "sink:scores": "failed"})
    places, width, height = graph._layout(nodes, down=False)
    assert (
        places["flights"][0]
        == places["weather"][0]
        < places["features"][0]
        < places["scored"][0]
        < places["sink:scores"][0]
    )
    assert places["flights"][1] < places["weather"][1]
    assert width > height
    down, tall, long = graph._layout(nodes, down=True)
    assert down["features"][1] < down["scored"][1]
    assert tall <= 362 < long  # fits a phone
    assert "gate failed" in graph.draw(nodes, "k", down=True)


def test_long_names_are_cut_in_the_picture_and_whole_in_its_title() -> None:
    plan = sample_plan(1)
    name = "a_relation_with_a_very_long_name_indeed"
    plan = replace(plan, sources=(replace(plan.sources[0], name=name),))
    drawn = graph.draw(graph.nodes_of(plan, {}), "k", down=True)
    assert f"<title>{name}</title>" in drawn
    assert ">a_relation_with_a_ver…</text>" in drawn


def test_published_intervals_of_the_sample_add_up() -> None:
    plan = sample_plan(2)
    (found,) = combine([published(plan, 1), published(plan, 2)])
    assert found.values == sum(published(plan, day).counts.scored for day in (1, 2))


@settings(max_examples=300, deadline=None)
@given(
    days=st.lists(
        st.lists(st.floats(-1e300, 1e300) | st.sampled_from([math.nan, math.inf]), max_size=8), min_size=1, max_size=3
    )
)
@example(days=[[2.0**53 + 2] * 3])
@example(days=[[0.0, 1.0], [1e12, 1e12 + 1]])
@example(days=[[-1e300, 1e300]])
@example(days=[[1e300, 1e300], [1.0]])
@example(days=[[0.0, 5e-324]])
@example(days=[[0.0, 1e-289], [0.0, 1e-15]])
def test_scores_of_any_size_can_be_drawn(days: list[list[float]]) -> None:
    facts = [describe([np.array(values, np.float64)], len(values)) for values in days]
    for each in combine([IntervalResult("i", "published", "", "x", distributions=(("p", one),)) for one in facts]):
        assert len(each.bins) <= 250
        assert sum(bar[2] for bar in each.bins) == pytest.approx(each.values)
        drawn = str(draw(each, "k", 900))
        assert "nan" not in drawn
        assert "inf" not in drawn
