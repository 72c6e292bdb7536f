"""Progress on standard error: a bar on a terminal, and one line for each finished interval."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from firesteel.conf.quantities import plural
from firesteel.jobs.cli.console import plain_console
from firesteel.pipelines.events import Event, OnEvent, ignore

if TYPE_CHECKING:
    from firesteel.pipelines.events import Progress as OnProgress
    from firesteel.pipelines.plan.model import Plan

_STAGES = {
    "leased": "checking inputs",
    "input_gate": "input gates",
    "scoring": "scoring",
    "staged": "output gates",
    "output_gate": "publishing",
    "journaled": "publishing",
}


@contextmanager
def planning(*, quiet: bool) -> Iterator[OnProgress]:
    """Show a bar while the planner lists partitions."""
    if quiet:
        yield lambda _what, _done, _total: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    console = plain_console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("planning", total=None)

        def on_progress(what: str, done: int, total: int) -> None:
            bar.update(task, description=f"planning: {what}", completed=done, total=total)

        yield on_progress


@contextmanager
def running(plan: Plan, *, quiet: bool) -> Iterator[OnEvent]:
    """Show a bar with the current stage, and one line for each finished interval."""
    if quiet:
        yield ignore
        return
    from rich.markup import escape
    from rich.progress import (
        BarColumn,
        Progress,
        SpinnerColumn,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = plain_console(stderr=True)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("starting Spark", total=len(plan.intervals))

        finished = 0
        parts: dict[str, float] = {}  # interval -> fraction of its tasks that are done

        def finish(interval: str) -> None:
            nonlocal finished
            finished += 1
            parts.pop(interval, None)
            bar.update(task, completed=finished + sum(parts.values()))

        def on_event(event: Event) -> None:
            facts = event.facts
            if event.kind in _STAGES:
                bar.update(task, description=f"{event.interval}: {_STAGES[event.kind]}")
            elif event.kind == "tasks":
                done, known = int(str(facts["done"])), int(str(facts["known"]))
                parts[event.interval] = done / max(1, known)
                others = f", {len(parts)} concurrent intervals" if len(parts) > 1 else ""
                bar.update(
                    task,
                    description=f"{event.interval}: scoring, {done:,} of {plural(known, 'task')}{others}",
                    completed=finished + sum(parts.values()),
                )
            elif event.kind == "session" and facts["reason"]:
                console.print(
                    f"  [yellow]shuffle[/]     using {facts['used']} instead of {facts['asked']}: {escape(str(facts['text']))}"
                )
            elif event.kind == "recovered":
                console.print(f"  {event.interval}  [yellow]recovered[/]  the unfinished work of a dead run")
            elif event.kind == "resumed":
                console.print(
                    f"  {event.interval}  [yellow]resumed[/]    {facts['rows']:>9,} rows were scored by a dead run,"
                    f" {facts['left']:,} of {int(str(facts['left'])) + int(str(facts['done'])):,} tasks remain"
                )
            elif event.kind == "interval_skipped":
                console.print(f"  {event.interval}  [dim]skipped[/]    {escape(str(facts.get('reason', '')))}")
                finish(event.interval)
            elif event.kind == "interval_done":
                state = "[green]published[/]" if facts["state"] == "published" else f"[dim]{facts['state']}[/]"
                console.print(f"  {event.interval}  {state}  {facts['rows']:>9,} rows{_rate(facts)}")
                finish(event.interval)
            elif event.kind == "interval_failed":
                parts.pop(event.interval, None)
                console.print(f"  {event.interval}  [red]failed[/]     {escape(str(facts.get('code')))}")

        yield on_event


def _rate(facts: dict[str, object]) -> str:
    rows, seconds = float(str(facts["rows"])), float(str(facts["seconds"]))
    return f"  {rows / seconds:>9,.0f} rows/s" if rows and seconds else ""
