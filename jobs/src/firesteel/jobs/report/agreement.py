"""Compare the scores of champion and challenger over the intervals of a run, as text and as charts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from firesteel.conf.quantities import plural
from firesteel.jobs.gates.distribution import round_edges
from firesteel.jobs.gates.render import percent
from firesteel.jobs.report.formats import count, number
from firesteel.jobs.report.svg import element, picture
from firesteel.pipelines.result import Agreement, OutputAgreement

if TYPE_CHECKING:
    from markupsafe import Markup

    from firesteel.pipelines.plan.model import Plan
    from firesteel.pipelines.result import RunResult

POINTS = 400
"""Maximum number of points in a chart. A point adds about 90 bytes to the page."""


@dataclass(frozen=True, slots=True)
class OutputRow:
    """A row of the comparison table, with charts for wide and narrow screens (None if the output has no sample)."""

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
class ModelComparison:
    """The comparison of champion and challenger that the report shows."""

    champion: str
    challenger: str
    agreement: Agreement
    headline: str
    rows: tuple[OutputRow, ...]
    by_interval: tuple[tuple[str, tuple[OutputRow, ...]], ...]
    published: tuple[str, ...]


def combine_agreements(agreements: Sequence[Agreement]) -> Agreement | None:
    """Combine the agreements of several intervals: sum the rows and weight the fractions by rows.

    The correlation is the mean of the intervals' correlations, weighted by compared rows. The exact value would need the moments
    of each interval.
    """
    if not agreements:
        return None
    names = list(dict.fromkeys(output.output for agreement in agreements for output in agreement.outputs))
    errors: dict[str, int] = {}
    for agreement in agreements:
        for name, occurrences in agreement.errors:
            errors[name] = errors.get(name, 0) + occurrences
    return replace(
        agreements[-1],
        rows=sum(agreement.rows for agreement in agreements),
        failed=sum(agreement.failed for agreement in agreements),
        left_out=sum(agreement.left_out for agreement in agreements),
        problem=next((agreement.problem for agreement in agreements if agreement.problem), ""),
        errors=tuple(sorted(errors.items())),
        outputs=tuple(_combine_output(name, agreements) for name in names),
    )


def _combine_output(name: str, agreements: Sequence[Agreement]) -> OutputAgreement:
    parts = [
        (agreement.rows, output) for agreement in agreements for output in agreement.outputs if output.output == name
    ]
    sample_rows = max(1, POINTS // len(parts))

    def mean(attribute: str, *, by_rows: bool) -> float | None:
        weighted = [
            (rows if by_rows else output.compared, getattr(output, attribute))
            for rows, output in parts
            if getattr(output, attribute) is not None
        ]
        weight = sum(rows for rows, _ in weighted)
        return sum(rows * value for rows, value in weighted) / weight if weight else None

    largest = [output.max_difference for _, output in parts if output.max_difference is not None]
    return OutputAgreement(
        output=name,
        compared=sum(output.compared for _, output in parts),
        alike=mean("alike", by_rows=True),
        within=mean("within", by_rows=True),
        mean_difference=mean("mean_difference", by_rows=False),
        max_difference=max(largest, default=None),
        correlation=mean("correlation", by_rows=False),
        sample=tuple(pair for _, output in parts for pair in output.sample[:sample_rows]),
    )


def compare_models(result: RunResult, plan: Plan) -> ModelComparison | None:
    """Return the comparison for a run, or None if the run has no challenger or scored no rows."""
    step = plan.score_step
    agreements = [
        (interval.interval, interval.agreement) for interval in result.intervals if interval.agreement is not None
    ]
    combined = combine_agreements([agreement for _, agreement in agreements])
    if combined is None or step is None or step.challenger is None:
        return None
    model = next(model for model in plan.models if model.name == step.model)
    return ModelComparison(
        champion=f"{model.uri} (v{model.version})",
        challenger=combined.uri + (f" (v{combined.version})" if combined.version else ""),
        agreement=combined,
        headline=summarize_rows(combined),
        rows=tuple(_row(output, index) for index, output in enumerate(combined.outputs)),
        by_interval=tuple(
            (interval, tuple(_row(output) for output in agreement.outputs)) for interval, agreement in agreements
        )
        if len(agreements) > 1
        else (),
        published=tuple(output.name for output in step.challenger.outputs),
    )


def summarize_rows(agreement: Agreement) -> str:
    """Return the row counts as text: `3,000 rows compared; 12 failed (ValueError 12)`."""
    parts = [f"{plural(agreement.rows, 'row')} compared"]
    if agreement.failed:
        parts.append(
            f"{count(agreement.failed)} failed ({', '.join(f'{error} {count(rows)}' for error, rows in agreement.errors)})"
        )
    if agreement.left_out:
        parts.append(f"{count(agreement.left_out)} not scored by the challenger")
    if agreement.problem:
        parts.append(agreement.problem.rstrip("."))
    return "; ".join(parts)


def output_line(output: OutputAgreement, tolerance: float) -> str:
    """Return the agreement of one output in one line."""
    if output.within is None:
        return f"{percent(output.alike)} agree" if output.alike is not None else "no rows to compare"
    if output.mean_difference is None:
        return f"{percent(output.within)} within {tolerance:g} (no row has both scores)"
    correlation = f", correlation {output.correlation:.4g}" if output.correlation is not None else ""
    largest = number(output.max_difference) if output.max_difference is not None else "greater than a double can hold"
    return (
        f"{percent(output.within)} within {tolerance:g}, mean difference {number(output.mean_difference)}, "
        f"largest {largest}{correlation}"
    )


def _row(output: OutputAgreement, index: int | None = None) -> OutputRow:
    def format_number(value: float | None) -> str:
        return number(value) if value is not None else "-"

    row = OutputRow(
        output.output,
        count(output.compared),
        percent(output.within) if output.within is not None else "-",
        percent(output.alike) if output.alike is not None else "-",
        format_number(output.mean_difference),
        format_number(output.max_difference),
        f"{output.correlation:.4g}" if output.correlation is not None else "-",
    )
    if index is None or not output.sample:
        return row
    return replace(row, wide=draw(output, f"agreement{index}w", 520), narrow=draw(output, f"agreement{index}n", 340))


def draw(output: OutputAgreement, key: str, width: int) -> Markup:
    """Draw a scatter plot of the sample: champion on the x axis, challenger on the y axis, and the line of equal scores."""
    height, left, right, top, bottom = width * 0.72, 64, 14, 30, 46
    inner_w, inner_h = width - left - right, height - top - bottom
    low = min(min(pair) for pair in output.sample)
    high = max(max(pair) for pair in output.sample)
    if not high - low > 1e-12 * max(abs(low), abs(high), 1e-280):
        margin = max(0.5, abs(low) / 1e6)
        low, high = low - margin, high + margin
    ticks = round_edges(low, high, 5)
    low, high = ticks[0], ticks[-1]
    half = high / 2 - low / 2  # halves avoid an overflow of the span

    def x(value: float) -> float:
        return left + (value / 2 - low / 2) / half * inner_w

    def y(value: float) -> float:
        return top + inner_h - (value / 2 - low / 2) / half * inner_h

    parts: list[Markup] = []
    for index, tick in enumerate(ticks):
        parts.append(element("line", x1=left, x2=width - right, y1=y(tick), y2=y(tick), class_="grid"))
        parts.append(element("text", number(tick), x=left - 8, y=y(tick) + 4, class_="tick", text_anchor="end"))
        if index in {0, len(ticks) // 2, len(ticks) - 1}:
            anchor = "start" if not index else "end" if index == len(ticks) - 1 else "middle"
            parts.append(
                element("text", number(tick), x=x(tick), y=top + inner_h + 18, class_="tick", text_anchor=anchor)
            )
    parts.append(element("line", x1=x(low), y1=y(low), x2=x(high), y2=y(high), class_="mean"))
    parts += [
        element("circle", cx=x(champion), cy=y(challenger), r=2.5, class_="point")
        for champion, challenger in output.sample
    ]
    parts.append(element("line", x1=left, x2=width - right, y1=top + inner_h, y2=top + inner_h, class_="axis"))
    parts.append(
        element(
            "text",
            f"{output.output}, champion",
            x=left + inner_w / 2,
            y=height - 6,
            class_="label",
            text_anchor="middle",
        )
    )
    parts.append(element("text", "challenger", x=4, y=14, class_="label"))
    description = (
        f"{count(len(output.sample))} random rows. On the dashed line both models give the same score. "
        f"All {count(output.compared)} compared rows: {difference_text(output)}."
    )
    return picture(
        width, height, f"{output.output}: champion against challenger", description, *parts, class_="chart", key=key
    )


def difference_text(output: OutputAgreement) -> str:
    """Return the mean difference and the correlation as text."""
    mean = number(output.mean_difference) if output.mean_difference is not None else "none"
    correlation = f", correlation {output.correlation:.4g}" if output.correlation is not None else ""
    return f"mean difference {mean}{correlation}"
