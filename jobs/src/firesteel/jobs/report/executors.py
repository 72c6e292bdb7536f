"""Draw executors and Spark stages over time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from firesteel.conf.quantities import duration, plural
from firesteel.jobs.gates.render import percent
from firesteel.jobs.report.formats import number
from firesteel.jobs.report.svg import element, picture

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from markupsafe import Markup

    from firesteel.pipelines.result import ExecutorLife, ExecutorUse, StageSpan

T = TypeVar("T")
MOST_ROWS = 32
"""Maximum number of rows in a chart. Of more executors or stages, the longest are drawn."""
ROW, BAR = 20, 13
WIDE = 480
"""Minimum width in pixels for long labels. All three charts share one time axis."""
_COLOURS = 8
_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400)


@dataclass(frozen=True, slots=True)
class _Axis:
    """The time axis of a chart."""

    seconds: float
    width: int
    right: int = 16

    @property
    def left(self) -> int:
        """Return the width of the labels in pixels."""
        return 136 if self.width >= WIDE else 92

    def x(self, time_s: float) -> float:
        """Return the x position of a time."""
        return self.left + time_s / self.seconds * (self.width - self.left - self.right)

    def grid(self, top: float, bottom: float) -> list[Markup]:
        """Draw grid lines at round times, with labels below them."""
        least_step = self.seconds / (8 if self.width >= WIDE else 4)
        step = next(
            (candidate for candidate in _STEPS if candidate >= least_step),
            _STEPS[-1] * math.ceil(least_step / _STEPS[-1]),
        )
        parts = []
        for index in range(int(self.seconds / step) + 1):
            x = self.x(index * step)
            parts.append(element("line", x1=x, x2=x, y1=top, y2=bottom, class_="grid"))
            anchor = "start" if index == 0 else "end" if x > self.width - self.right - 12 else "middle"
            parts.append(element("text", _clock(index * step), x=x, y=bottom + 17, class_="tick", text_anchor=anchor))
        return parts


def summary(use: ExecutorUse) -> str:
    """Return the executor statistics in one line."""
    text = f"peak {_number(use.peak)}, {_seconds(use.executor_seconds)} of executor time, {percent(use.utilisation)} utilisation"
    if use.scale_out_s:
        text += f"; scale-out within {max(use.scale_out_s):.1f} s"
    if use.scale_in_s:
        text += f"; {plural(len(use.scale_in_s), 'idle executor')} released within {max(use.scale_in_s):.1f} s"
    return text + (f"; {use.lost} lost" if use.lost else "")


def facts(use: ExecutorUse) -> tuple[tuple[str, str], ...]:
    """Return the executor statistics as (name, value) pairs."""
    rows = [
        ("Peak", _number(use.peak)),
        ("Executor time", _seconds(use.executor_seconds)),
        ("Utilisation", f"{percent(use.utilisation)} of core time"),
        ("Tasks", f"{use.tasks:,}"),
    ]
    if use.scale_out_s:
        times = f" ({plural(len(use.scale_out_s), 'time')})" if len(use.scale_out_s) > 1 else ""
        seconds = f"at most {max(use.scale_out_s):.1f} s"
        rows.append(("Scale-out time", f"{seconds} from waiting tasks to the first task on a new executor{times}"))
    if use.scale_in_s:
        executors = f" ({plural(len(use.scale_in_s), 'executor')})"
        rows.append(("Scale-in time", f"at most {max(use.scale_in_s):.1f} s from idle to release{executors}"))
    if use.lost:
        rows.append(("Lost", plural(use.lost, "executor")))
    return tuple(rows)


def draw_count(use: ExecutorUse, key: str, width: int) -> Markup | None:
    """Draw the number of executors and the number of busy executors over time."""
    if use.seconds <= 0:
        return None
    alive = _steps((life.added_s, _end(life, use)) for life in use.executors)
    busy = _steps(span for life in use.executors for span in life.busy)
    top, plot_height = 10, 110
    axis, most = _Axis(use.seconds, width), max(1, use.peak)
    ticks = sorted({0, most, *([round(most / 2)] if most > 1 else [])})

    def y(value: float) -> float:
        return top + plot_height - value / most * plot_height

    parts = axis.grid(top, top + plot_height)
    for tick in ticks:
        parts.append(element("line", x1=axis.left, x2=width - axis.right, y1=y(tick), y2=y(tick), class_="grid"))
        parts.append(element("text", f"{tick:,}", x=axis.left - 8, y=y(tick) + 4, class_="tick", text_anchor="end"))
    for steps, class_, state in ((alive, "there", "registered"), (busy, "busy", "busy")):
        parts.append(
            element("path", element("title", f"{state} executors"), d=_outline(steps, axis, y), class_=f"area {class_}")
        )
    description = f"Peak: {plural(use.peak, 'executor')}. Duration: {duration(use.seconds)}. Utilisation: {percent(use.utilisation)}."
    return picture(width, top + plot_height + 24, "Executors over time", description, *parts, class_="chart", key=key)


def draw_executors(use: ExecutorUse, key: str, width: int) -> Markup | None:
    """Draw one row per executor: its lifetime, its busy time and the reason for its end."""
    if use.seconds <= 0 or not use.executors:
        return None
    shown = sorted(_longest(use.executors, lambda life: _end(life, use) - life.added_s), key=lambda life: life.added_s)
    top, axis = 6, _Axis(use.seconds, width)
    bottom = top + ROW * len(shown)
    parts = axis.grid(top, bottom)
    for row, life in enumerate(shown):
        y, end = top + row * ROW + (ROW - BAR) / 2, _end(life, use)
        name = life.id if life.id == "driver" else f"executor {life.id}"
        parts.append(element("text", name, x=axis.left - 8, y=y + BAR - 2, class_="tick", text_anchor="end"))
        tooltip = f"{name} on {life.host}: {plural(life.tasks, 'task')}, from {life.added_s:.1f} s to {end:.1f} s"
        tooltip += f", {life.why}: {life.reason}" if life.reason else ""
        parts.append(_bar(axis, life.added_s, end, y, "there", tooltip))
        parts += [_bar(axis, start, stop, y, "busy", f"{name}: {stop - start:.1f} s") for start, stop in life.busy]
        if life.removed_s is not None:
            parts.append(
                element(
                    "line",
                    element("title", tooltip),
                    x1=axis.x(end),
                    x2=axis.x(end),
                    y1=y - 3,
                    y2=y + BAR + 3,
                    class_=f"gone {life.why}",
                )
            )
    tooltip = "; ".join(f"executor {life.id}: {plural(life.tasks, 'task')}" for life in shown)
    return picture(width, bottom + 24, "Executor lifetimes", tooltip, *parts, class_="chart", key=key)


def draw_stages(use: ExecutorUse, key: str, width: int) -> Markup | None:
    """Draw one row per Spark stage, coloured by interval."""
    if use.seconds <= 0 or not use.stages:
        return None
    shown = _longest(use.stages, lambda stage: stage.end_s - stage.begin_s)
    shown = sorted(shown, key=lambda stage: (stage.begin_s, stage.id))
    names = list(dict.fromkeys(stage.interval for stage in use.stages))
    top, axis = 6, _Axis(use.seconds, width)
    bottom = top + ROW * len(shown)
    parts = axis.grid(top, bottom)
    for row, stage in enumerate(shown):
        y = top + row * ROW + (ROW - BAR) / 2
        label = f"{stage.interval or 'stage'} · {stage.id}" if width >= WIDE else f"stage {stage.id}"
        parts.append(element("text", label, x=axis.left - 8, y=y + BAR - 2, class_="tick", text_anchor="end"))
        tooltip = f"stage {stage.id}{f', attempt {stage.attempt + 1}' if stage.attempt else ''}, {plural(stage.tasks, 'task')}, "
        tooltip += f"{stage.end_s - stage.begin_s:.1f} s: {_short(stage)}{' (failed)' if stage.failed else ''}"
        colour = "bad-part" if stage.failed else f"c{names.index(stage.interval) % _COLOURS}"
        parts.append(_bar(axis, stage.begin_s, stage.end_s, y, colour, tooltip))
    tooltip = f"{plural(len(use.stages), 'Spark stage')} over {duration(use.seconds)}."
    return picture(width, bottom + 24, "Stages", tooltip, *parts, class_="chart", key=key)


def count_omitted(use: ExecutorUse) -> tuple[int, int]:
    """Return the numbers of executors and of stages that the charts omit."""
    return max(0, use.peak and len(use.executors) - MOST_ROWS), max(0, len(use.stages) - MOST_ROWS)


def _bar(axis: _Axis, start: float, stop: float, y: float, class_: str, tooltip: str) -> Markup:
    bar_width = max(1.5, axis.x(stop) - axis.x(start))
    return element(
        "rect",
        element("title", tooltip),
        x=axis.x(start),
        y=y,
        width=bar_width,
        height=BAR,
        rx=2,
        class_=f"span {class_}",
    )


def _longest(items: Sequence[T], length: Callable[[T], float]) -> list[T]:
    return sorted(items, key=length, reverse=True)[:MOST_ROWS]


def _end(life: ExecutorLife, use: ExecutorUse) -> float:
    return use.seconds if life.removed_s is None else life.removed_s


def _steps(spans: Iterable[tuple[float, float]]) -> list[tuple[float, int]]:
    """Return (time, number of spans open from that time on) pairs."""
    changes: dict[float, int] = {}
    for start, stop in spans:
        changes[start] = changes.get(start, 0) + 1
        changes[stop] = changes.get(stop, 0) - 1
    steps, open_spans = [], 0
    for time in sorted(changes):
        open_spans += changes[time]
        steps.append((time, open_spans))
    return steps


def _outline(steps: list[tuple[float, int]], axis: _Axis, y: Callable[[float], float]) -> str:
    """Return the SVG path of the area below a step function."""
    path, previous = [f"M{axis.left} {y(0):.1f}"], 0
    for time, value in _thinned(steps, axis):
        x = axis.x(min(time, axis.seconds))
        path.append(f"L{x:.1f} {y(previous):.1f}L{x:.1f} {y(value):.1f}")
        previous = value
    path.append(f"L{axis.x(axis.seconds):.1f} {y(previous):.1f}L{axis.x(axis.seconds):.1f} {y(0):.1f}Z")
    return "".join(path)


def _thinned(steps: list[tuple[float, int]], axis: _Axis) -> list[tuple[float, int]]:
    """Keep the highest and the last step of each pixel, which bounds the size of the page."""
    if len(steps) <= 2 * axis.width:
        return steps
    pixels: dict[int, tuple[float, int, int]] = {}
    for time, value in steps:
        first, highest, _ = pixels.get(int(axis.x(time)), (time, value, value))
        pixels[int(axis.x(time))] = first, max(highest, value), value
    return [step for first, highest, last in pixels.values() for step in ((first, highest), (first, last))]


def _short(stage: StageSpan) -> str:
    """Shorten the call site in a stage's name to its file name."""
    head, _, call_site = stage.name.rpartition(" at ")
    return f"{head} at {call_site.rpartition('/')[2]}" if head else stage.name


def _number(executors: int) -> str:
    return plural(executors, "executor")


def _seconds(seconds: float) -> str:
    return f"{number(seconds / 3600)} h" if seconds >= 36000 else f"{seconds:,.0f} s"


def _clock(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:g} s"
    return f"{seconds / 60:g} min" if seconds < 7200 else f"{seconds / 3600:g} h"
