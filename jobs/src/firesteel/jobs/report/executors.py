"""Executors and stages over time: how many were there and worked, who came and went, what ran when."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from firesteel.conf.quantities import duration, plural
from firesteel.jobs.gates.words import percent
from firesteel.jobs.report.figures import number
from firesteel.jobs.report.svg import element, picture

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from markupsafe import Markup

    from firesteel.pipelines.result import ExecutorLife, ExecutorUse, StageSpan

T = TypeVar("T")
MOST_ROWS = 32
"""Rows of a picture; of more executors or stages the longest are drawn."""
ROW, BAR = 20, 13
WIDE = 480
"""From this width on names have room. All three pictures have the same axis, so that one reads from one to the next."""
_COLOURS = 8
_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400)


@dataclass(frozen=True, slots=True)
class _Axis:
    """Seconds across a picture."""

    seconds: float
    width: int
    right: int = 16

    @property
    def left(self) -> int:
        """Room for names."""
        return 136 if self.width >= WIDE else 92

    def x(self, at_s: float) -> float:
        """Where a moment is."""
        return self.left + at_s / self.seconds * (self.width - self.left - self.right)

    def grid(self, top: float, bottom: float) -> list[Markup]:
        """Lines at round times, named below."""
        wanted = self.seconds / (8 if self.width >= WIDE else 4)
        step = next((each for each in _STEPS if each >= wanted), _STEPS[-1] * math.ceil(wanted / _STEPS[-1]))
        parts = []
        for index in range(int(self.seconds / step) + 1):
            x = self.x(index * step)
            parts.append(element("line", x1=x, x2=x, y1=top, y2=bottom, class_="grid"))
            anchor = "start" if index == 0 else "end" if x > self.width - self.right - 12 else "middle"
            parts.append(element("text", _clock(index * step), x=x, y=bottom + 17, class_="tick", text_anchor=anchor))
        return parts


def summary(use: ExecutorUse) -> str:
    """One line for a terminal."""
    said = (
        f"{_number(use.peak)} at most, {_seconds(use.executor_seconds)} of executors, {percent(use.utilisation)} busy"
    )
    if use.scale_out_s:
        said += f"; first task of a new one {max(use.scale_out_s):.1f} s after tasks waited"
    if use.scale_in_s:
        said += f"; {plural(len(use.scale_in_s), 'idle one')} gone after {max(use.scale_in_s):.1f} s"
    return said + (f"; {use.lost} lost" if use.lost else "")


def facts(use: ExecutorUse) -> tuple[tuple[str, str], ...]:
    """Names and values for a table."""
    rows = [
        ("Most at once", _number(use.peak)),
        ("Executor time", _seconds(use.executor_seconds)),
        ("Utilisation", f"{percent(use.utilisation)} of the cores' time"),
        ("Tasks", f"{use.tasks:,}"),
    ]
    if use.scale_out_s:
        waits = f", {plural(len(use.scale_out_s), 'time')}" if len(use.scale_out_s) > 1 else ""
        rows.append(("From waiting tasks to a new executor's first", f"{max(use.scale_out_s):.1f} s at most{waits}"))
    if use.scale_in_s:
        many = f", {plural(len(use.scale_in_s), 'executor')}"
        rows.append(("Idle before it was let go", f"{max(use.scale_in_s):.1f} s at most{many}"))
    if use.lost:
        rows.append(("Lost", plural(use.lost, "executor")))
    return tuple(rows)


def draw_count(use: ExecutorUse, key: str, width: int) -> Markup | None:
    """How many executors were there, and how many of them worked."""
    if use.seconds <= 0:
        return None
    there = _steps((life.added_s, _end(life, use)) for life in use.executors)
    busy = _steps(span for life in use.executors for span in life.busy)
    top, tall = 10, 110
    axis, most = _Axis(use.seconds, width), max(1, use.peak)
    ticks = sorted({0, most, *([round(most / 2)] if most > 1 else [])})

    def y(value: float) -> float:
        return top + tall - value / most * tall

    parts = axis.grid(top, top + tall)
    for tick in ticks:
        parts.append(element("line", x1=axis.left, x2=width - axis.right, y1=y(tick), y2=y(tick), class_="grid"))
        parts.append(element("text", f"{tick:,}", x=axis.left - 8, y=y(tick) + 4, class_="tick", text_anchor="end"))
    for steps, class_, said in ((there, "there", "there"), (busy, "busy", "at work")):
        parts.append(
            element("path", element("title", f"executors {said}"), d=_outline(steps, axis, y), class_=f"area {class_}")
        )
    said = f"At most {plural(use.peak, 'executor')} over {duration(use.seconds)}, {percent(use.utilisation)} of their time at work."
    return picture(width, top + tall + 24, "Executors over time", said, *parts, class_="chart", key=key)


def draw_executors(use: ExecutorUse, key: str, width: int) -> Markup | None:
    """A row for each executor: when it was there, when it worked, why it went."""
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
        said = f"{name} on {life.host}: {plural(life.tasks, 'task')}, there {life.added_s:.1f} s to {end:.1f} s"
        said += f", {life.why}: {life.reason}" if life.reason else ""
        parts.append(_bar(axis, life.added_s, end, y, "there", said))
        parts += [_bar(axis, start, stop, y, "busy", f"{name}: {stop - start:.1f} s") for start, stop in life.busy]
        if life.removed_s is not None:
            parts.append(
                element(
                    "line",
                    element("title", said),
                    x1=axis.x(end),
                    x2=axis.x(end),
                    y1=y - 3,
                    y2=y + BAR + 3,
                    class_=f"gone {life.why}",
                )
            )
    said = "; ".join(f"executor {life.id}: {plural(life.tasks, 'task')}" for life in shown)
    return picture(width, bottom + 24, "Executors one by one", said, *parts, class_="chart", key=key)


def draw_stages(use: ExecutorUse, key: str, width: int) -> Markup | None:
    """A row for each stage of Spark, coloured by interval."""
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
        said = f"stage {stage.id}{f', attempt {stage.attempt + 1}' if stage.attempt else ''}, {plural(stage.tasks, 'task')}, "
        said += f"{stage.end_s - stage.begin_s:.1f} s: {_short(stage)}{' (failed)' if stage.failed else ''}"
        colour = "bad-part" if stage.failed else f"c{names.index(stage.interval) % _COLOURS}"
        parts.append(_bar(axis, stage.begin_s, stage.end_s, y, colour, said))
    said = f"{plural(len(use.stages), 'stage')} of Spark over {duration(use.seconds)}."
    return picture(width, bottom + 24, "Stages", said, *parts, class_="chart", key=key)


def left_out(use: ExecutorUse) -> tuple[int, int]:
    """Executors and stages that have no row of their own."""
    return max(0, use.peak and len(use.executors) - MOST_ROWS), max(0, len(use.stages) - MOST_ROWS)


def _bar(axis: _Axis, start: float, stop: float, y: float, class_: str, said: str) -> Markup:
    wide = max(1.5, axis.x(stop) - axis.x(start))
    return element(
        "rect", element("title", said), x=axis.x(start), y=y, width=wide, height=BAR, rx=2, class_=f"span {class_}"
    )


def _longest(items: Sequence[T], length: Callable[[T], float]) -> list[T]:
    return sorted(items, key=length, reverse=True)[:MOST_ROWS]


def _end(life: ExecutorLife, use: ExecutorUse) -> float:
    return use.seconds if life.removed_s is None else life.removed_s


def _steps(spans: Iterable[tuple[float, float]]) -> list[tuple[float, int]]:
    """(moment, how many from then on)."""
    changes: dict[float, int] = {}
    for start, stop in spans:
        changes[start] = changes.get(start, 0) + 1
        changes[stop] = changes.get(stop, 0) - 1
    found, now = [], 0
    for at in sorted(changes):
        now += changes[at]
        found.append((at, now))
    return found


def _outline(steps: list[tuple[float, int]], axis: _Axis, y: Callable[[float], float]) -> str:
    """The area below a step function."""
    path, before = [f"M{axis.left} {y(0):.1f}"], 0
    for at, value in _thinned(steps, axis):
        x = axis.x(min(at, axis.seconds))
        path.append(f"L{x:.1f} {y(before):.1f}L{x:.1f} {y(value):.1f}")
        before = value
    path.append(f"L{axis.x(axis.seconds):.1f} {y(before):.1f}L{axis.x(axis.seconds):.1f} {y(0):.1f}Z")
    return "".join(path)


def _thinned(steps: list[tuple[float, int]], axis: _Axis) -> list[tuple[float, int]]:
    """Of very many steps the highest of each pixel, and the last: a page of megabytes shows no more."""
    if len(steps) <= 2 * axis.width:
        return steps
    pixels: dict[int, tuple[float, int, int]] = {}
    for at, value in steps:
        first, most, _ = pixels.get(int(axis.x(at)), (at, value, value))
        pixels[int(axis.x(at))] = first, max(most, value), value
    return [step for first, most, last in pixels.values() for step in ((first, most), (first, last))]


def _short(stage: StageSpan) -> str:
    """Spark names a stage by where it was called: of a path the last part is enough."""
    head, _, place = stage.name.rpartition(" at ")
    return f"{head} at {place.rpartition('/')[2]}" if head else stage.name


def _number(executors: int) -> str:
    return plural(executors, "executor")


def _seconds(seconds: float) -> str:
    return f"{number(seconds / 3600)} h" if seconds >= 36000 else f"{seconds:,.0f} s"


def _clock(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:g} s"
    return f"{seconds / 60:g} min" if seconds < 7200 else f"{seconds / 3600:g} h"
