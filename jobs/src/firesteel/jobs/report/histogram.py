"""Combine the score histograms of all intervals and draw them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from firesteel.jobs.gates.distribution import LEAST_SPAN
from firesteel.jobs.report.formats import count, number
from firesteel.jobs.report.svg import element, picture

if TYPE_CHECKING:
    from collections.abc import Iterable

    from markupsafe import Markup

    from firesteel.pipelines.result import IntervalResult

Bins = tuple[tuple[float, float, float], ...]

MOST_BINS = 200


@dataclass(frozen=True, slots=True)
class Distribution:
    """The distribution of one score column over all intervals. `exact` is False if the merge had to split bins."""

    name: str
    rows: int
    nulls: int
    not_finite: int
    low: float
    high: float
    mean: float
    bins: Bins
    exact: bool

    @property
    def values(self) -> int:
        """Return the number of finite values, which is the sum of the histogram."""
        return self.rows - self.nulls - self.not_finite

    @property
    def description(self) -> str:
        """Return the distribution as text."""
        text = f"{count(self.values)} values from {number(self.low)} to {number(self.high)}, mean {number(self.mean)}."
        fullest = max(self.bins, key=lambda bar: bar[2], default=None)
        if fullest and self.values and len(self.bins) > 1:
            text += f" Most frequent: {number(fullest[0])} to {number(fullest[1])} ({count(fullest[2])} values)."
        return text


def combine(intervals: Iterable[IntervalResult]) -> tuple[Distribution, ...]:
    """Return the distribution of each column over all intervals, without columns that have no values."""
    parts: dict[str, list[dict[str, Any]]] = {}
    for interval in intervals:
        for name, facts in interval.distributions:
            if isinstance(facts, dict):
                parts.setdefault(name, []).append(facts)
    distributions = (_one(name, facts) for name, facts in parts.items())
    return tuple(distribution for distribution in distributions if distribution is not None)


def _one(name: str, parts: list[dict[str, Any]]) -> Distribution | None:
    filled = [part for part in parts if part.get("histogram")]
    if not filled:
        return None
    counts = [sum(bar[2] for bar in part["histogram"]) for part in filled]
    total = sum(counts)
    bins, exact = _merge([part["histogram"] for part in filled])
    return Distribution(
        name=name,
        rows=sum(int(part.get("rows", 0)) for part in parts),
        nulls=sum(int(part.get("nulls", 0)) for part in parts),
        not_finite=sum(int(part.get("not_finite", 0)) for part in parts),
        low=min(part["min"] for part in filled),
        high=max(part["max"] for part in filled),
        mean=sum((part["mean"] or 0.0) * n for part, n in zip(filled, counts, strict=True)) / total if total else 0.0,
        bins=bins,
        exact=exact,
    )


def _merge(histograms: list[list[list[float]]]) -> tuple[Bins, bool]:
    """Sum histograms over common bins of the largest bin width."""
    low = min(histogram[0][0] for histogram in histograms)
    high = max(histogram[-1][1] for histogram in histograms)
    if high - low < LEAST_SPAN:
        return ((low, high, sum(bar[2] for histogram in histograms for bar in histogram)),), True
    width = max(right - left for histogram in histograms for left, right, _ in histogram)
    # Constants that differ between intervals, or intervals with distant values, would need too many bins.
    if width <= 0 or high / width - low / width > MOST_BINS:
        width = high / 20 - low / 20
    first, last = math.floor(low / width + 1e-9), math.ceil(high / width - 1e-9)
    digits = max(12, 12 - math.floor(math.log10(width)))
    edges = [round(step * width, digits) for step in range(first, max(last, first + 1) + 1)]
    edges[0], edges[-1] = min(edges[0], low), max(edges[-1], high)  # rounding must not exclude the extremes
    sums = [0.0] * (len(edges) - 1)
    exact = True
    for left, right, filled in (bar for histogram in histograms for bar in histogram):
        for index, (start, end) in enumerate(pairwise(edges)):
            part = _overlap(left, right, start, end, last=index == len(sums) - 1)
            exact = exact and (part < 1e-6 or part > 1 - 1e-6 or not filled)
            sums[index] += filled * part
    return tuple((start, end, total) for (start, end), total in zip(pairwise(edges), sums, strict=True)), exact


def _overlap(left: float, right: float, start: float, end: float, *, last: bool) -> float:
    """Return the fraction of [left, right] that lies in [start, end)."""
    if right > left:
        return max(0.0, min(right, end) - max(left, start)) / (right - left)
    return float(start <= left < end or (last and left == end))


def draw(distribution: Distribution, key: str, width: int) -> Markup:
    """Draw a histogram `width` pixels wide. Text does not scale, so narrow screens need their own chart."""
    height, left, right, top, bottom = 244, 56, 14, 32, 44
    inner_w, inner_h = width - left - right, height - top - bottom
    low, high = distribution.bins[0][0], distribution.bins[-1][1]
    if high - low < LEAST_SPAN:
        margin = max(0.5, abs(low) / 1e6)  # near 2**53 half a unit is lost to rounding
        low, high = low - margin, high + margin
    tallest = max((bar[2] for bar in distribution.bins), default=0) or 1
    ceiling, ticks = _ticks(tallest)

    def x(value: float) -> float:
        return left + (value / 2 - low / 2) / (high / 2 - low / 2) * inner_w  # halves avoid an overflow of the span

    def y(value: float) -> float:
        return top + inner_h - value / ceiling * inner_h

    parts: list[Markup] = []
    for tick in ticks:
        parts.append(element("line", x1=left, x2=width - right, y1=y(tick), y2=y(tick), class_="grid"))
        parts.append(element("text", count(tick), x=left - 8, y=y(tick) + 4, class_="tick", text_anchor="end"))
    for start, end, filled in distribution.bins:
        if filled <= 0:
            continue
        a, b = (x(start), x(end)) if end > start else (x(start) - 10, x(start) + 10)
        bar_height = max(1.0, inner_h - (y(filled) - top))
        label = f"{number(start)} to {number(end)}: {count(filled)}"
        parts.append(
            element(
                "rect",
                element("title", label),
                x=a + 0.75,
                y=top + inner_h - bar_height,
                width=max(1.0, b - a - 1.5),
                height=bar_height,
                class_="bar",
            )
        )
    parts.append(element("line", x1=left, x2=width - right, y1=top + inner_h, y2=top + inner_h, class_="axis"))
    labels = 5 if width >= 480 else 3
    for step in range(labels):
        value = low + (high - low) * step / (labels - 1)
        anchor = "start" if step == 0 else "end" if step == labels - 1 else "middle"
        parts.append(
            element("text", number(value), x=x(value), y=top + inner_h + 18, class_="tick", text_anchor=anchor)
        )
    middle = x(distribution.mean)
    anchor = "end" if middle > width / 2 else "start"
    parts.append(element("line", x1=middle, x2=middle, y1=top - 4, y2=top + inner_h, class_="mean"))
    parts.append(
        element(
            "text",
            f"mean {number(distribution.mean)}",
            x=middle + (-5 if anchor == "end" else 5),
            y=top - 8,
            class_="tick strong",
            text_anchor=anchor,
        )
    )
    parts.append(
        element("text", distribution.name, x=left + inner_w / 2, y=height - 6, class_="label", text_anchor="middle")
    )
    parts.append(element("text", "rows", x=left - 8, y=top - 14, class_="label", text_anchor="end"))
    return picture(
        width, height, f"Histogram of {distribution.name}", distribution.description, *parts, class_="chart", key=key
    )


def _ticks(tallest: float) -> tuple[float, list[float]]:
    power = 10.0 ** math.floor(math.log10(tallest / 4)) if tallest > 4 else 1.0
    step = next(multiple * power for multiple in (1, 2, 5, 10) if multiple * power * 4 >= tallest)
    ceiling = math.ceil(tallest / step) * step
    return ceiling, [step * index for index in range(round(ceiling / step) + 1)]
