"""Champion against challenger: the intervals of a run together, in words and as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from firesteel.jobs.gates.distribution import round_edges
from firesteel.jobs.gates.words import percent
from firesteel.jobs.report.figures import count, number
from firesteel.jobs.report.svg import element, picture
from firesteel.pipelines.result import Agreement, OutputAgreement

if TYPE_CHECKING:
    from markupsafe import Markup

    from firesteel.pipelines.plan.model import Plan
    from firesteel.pipelines.result import RunResult

POINTS = 400
"""In a picture; each weighs about 90 bytes of the page."""


@dataclass(frozen=True, slots=True)
class OutputRow:
    """One output: numbers for the table, and pictures for wide and narrow screens (None where there is nothing to draw)."""

    name: str
    compared: str
    within: str
    alike: str
    mean: str
    largest: str
    correlation: str
    wide: Markup | None = None
    narrow: Markup | None = None


@dataclass(frozen=True, slots=True)
class Duel:
    """What a page, or a terminal, says of a challenger."""

    champion: str
    challenger: str
    agreement: Agreement
    headline: str
    rows: tuple[OutputRow, ...]
    by_interval: tuple[tuple[str, tuple[OutputRow, ...]], ...]
    published: tuple[str, ...]


def over_intervals(found: Sequence[Agreement]) -> Agreement | None:
    """The intervals together: rows are summed, fractions weighted by rows; a correlation of several is not made up.

    A correlation over intervals would need the moments of each. The mean of theirs, weighted by rows, is given: what it is on
    a usual day.
    """
    if not found:
        return None
    names = list(dict.fromkeys(each.output for agreement in found for each in agreement.outputs))
    errors: dict[str, int] = {}
    for agreement in found:
        for name, times in agreement.errors:
            errors[name] = errors.get(name, 0) + times
    return replace(
        found[-1],
        rows=sum(each.rows for each in found),
        failed=sum(each.failed for each in found),
        left_out=sum(each.left_out for each in found),
        problem=next((each.problem for each in found if each.problem), ""),
        errors=tuple(sorted(errors.items())),
        outputs=tuple(_together(name, found) for name in names),
    )


def _together(name: str, found: Sequence[Agreement]) -> OutputAgreement:
    parts = [(agreement.rows, each) for agreement in found for each in agreement.outputs if each.output == name]
    share = max(1, POINTS // len(parts))

    def mean(of: str, *, by_rows: bool) -> float | None:
        weighed = [
            (rows if by_rows else each.compared, getattr(each, of))
            for rows, each in parts
            if getattr(each, of) is not None
        ]
        weight = sum(rows for rows, _ in weighed)
        return sum(rows * value for rows, value in weighed) / weight if weight else None

    largest = [each.max_difference for _, each in parts if each.max_difference is not None]
    return OutputAgreement(
        output=name,
        compared=sum(each.compared for _, each in parts),
        alike=mean("alike", by_rows=True),
        within=mean("within", by_rows=True),
        mean_difference=mean("mean_difference", by_rows=False),
        max_difference=max(largest, default=None),
        correlation=mean("correlation", by_rows=False),
        sample=tuple(pair for _, each in parts for pair in each.sample[:share]),
    )


def duel(result: RunResult, plan: Plan) -> Duel | None:
    """The challenger of a run; None where there is none, or nothing was scored."""
    step = plan.score_step
    found = [(each.interval, each.agreement) for each in result.intervals if each.agreement is not None]
    whole = over_intervals([agreement for _, agreement in found])
    if whole is None or step is None or step.challenger is None:
        return None
    model = next(model for model in plan.models if model.name == step.model)
    return Duel(
        champion=f"{model.uri} (v{model.version})",
        challenger=whole.uri + (f" (v{whole.version})" if whole.version else ""),
        agreement=whole,
        headline=headline(whole),
        rows=tuple(_row(each, n) for n, each in enumerate(whole.outputs)),
        by_interval=tuple((interval, tuple(_row(each) for each in one.outputs)) for interval, one in found)
        if len(found) > 1
        else (),
        published=tuple(output.name for output in step.challenger.outputs),
    )


def headline(agreement: Agreement) -> str:
    """How many rows, and why not all: `3,000 rows compared; 12 failed (ValueError 12)`."""
    said = [f"{count(agreement.rows)} rows compared"]
    if agreement.failed:
        said.append(f"{count(agreement.failed)} failed ({', '.join(f'{n} {count(c)}' for n, c in agreement.errors)})")
    if agreement.left_out:
        said.append(f"{count(agreement.left_out)} were scored without it")
    if agreement.problem:
        said.append(agreement.problem.rstrip("."))
    return "; ".join(said)


def words(each: OutputAgreement, tolerance: float) -> str:
    """One output in a line."""
    if each.within is None:
        return f"{percent(each.alike)} agree" if each.alike is not None else "nothing to compare"
    if each.mean_difference is None:
        return f"{percent(each.within)} within {tolerance:g}, by missing scores alone"
    correlation = f", correlation {each.correlation:.4g}" if each.correlation is not None else ""
    largest = number(each.max_difference) if each.max_difference is not None else "beyond a double"
    return (
        f"{percent(each.within)} within {tolerance:g}, mean difference {number(each.mean_difference)}, "
        f"largest {largest}{correlation}"
    )


def _row(each: OutputAgreement, place: int | None = None) -> OutputRow:
    def shown(value: float | None) -> str:
        return number(value) if value is not None else "-"

    row = OutputRow(
        each.output,
        count(each.compared),
        percent(each.within) if each.within is not None else "-",
        percent(each.alike) if each.alike is not None else "-",
        shown(each.mean_difference),
        shown(each.max_difference),
        f"{each.correlation:.4g}" if each.correlation is not None else "-",
    )
    if place is None or not each.sample:
        return row
    return replace(row, wide=draw(each, f"duel{place}w", 520), narrow=draw(each, f"duel{place}n", 340))


def draw(each: OutputAgreement, key: str, width: int) -> Markup:
    """A scatter of the sample: the champion's score to the right, the challenger's upwards, and the line on which they agree."""
    height, left, right, top, bottom = width * 0.72, 64, 14, 30, 46
    inner_w, inner_h = width - left - right, height - top - bottom
    low = min(min(pair) for pair in each.sample)
    high = max(max(pair) for pair in each.sample)
    if not high - low > 1e-12 * max(abs(low), abs(high), 1e-280):
        around = max(0.5, abs(low) / 1e6)
        low, high = low - around, high + around
    ticks = round_edges(low, high, 5)
    low, high = ticks[0], ticks[-1]
    half = high / 2 - low / 2  # halves: the span may be no double

    def x(value: float) -> float:
        return left + (value / 2 - low / 2) / half * inner_w

    def y(value: float) -> float:
        return top + inner_h - (value / 2 - low / 2) / half * inner_h

    parts: list[Markup] = []
    for place, tick in enumerate(ticks):
        parts.append(element("line", x1=left, x2=width - right, y1=y(tick), y2=y(tick), class_="grid"))
        parts.append(element("text", number(tick), x=left - 8, y=y(tick) + 4, class_="tick", text_anchor="end"))
        if place in {0, len(ticks) // 2, len(ticks) - 1}:
            anchor = "start" if not place else "end" if place == len(ticks) - 1 else "middle"
            parts.append(
                element("text", number(tick), x=x(tick), y=top + inner_h + 18, class_="tick", text_anchor=anchor)
            )
    parts.append(element("line", x1=x(low), y1=y(low), x2=x(high), y2=y(high), class_="mean"))
    parts += [
        element("circle", cx=x(champion), cy=y(challenger), r=2.5, class_="point")
        for champion, challenger in each.sample
    ]
    parts.append(element("line", x1=left, x2=width - right, y1=top + inner_h, y2=top + inner_h, class_="axis"))
    parts.append(
        element(
            "text", f"{each.output}, champion", x=left + inner_w / 2, y=height - 6, class_="label", text_anchor="middle"
        )
    )
    parts.append(element("text", "challenger", x=4, y=14, class_="label"))
    said = (
        f"{count(len(each.sample))} rows at random: on the dashed line champion and challenger agree. "
        f"Of all {count(each.compared)}: {words_of_distance(each)}."
    )
    return picture(width, height, f"{each.output}: champion against challenger", said, *parts, class_="chart", key=key)


def words_of_distance(each: OutputAgreement) -> str:
    """How far the points lie from the line."""
    mean = number(each.mean_difference) if each.mean_difference is not None else "none"
    correlation = f", correlation {each.correlation:.4g}" if each.correlation is not None else ""
    return f"mean difference {mean}{correlation}"
