"""Plans and results as text for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.console import Console

    from firesteel.pipelines.plan.model import Plan
    from firesteel.pipelines.result import GateResult, IntervalResult, RunResult

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def plain_console(*, stderr: bool = False) -> Console:
    """Lines are never wrapped by us: a path that is broken in two cannot be copied. Tables get room where nobody looks."""
    import sys

    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, highlight=False, soft_wrap=True, width=None if stream.isatty() else 160)


def size(count: float) -> str:
    """1536 -> `1.5 KiB`."""
    unit = 0
    while count >= 1024 and unit < len(_UNITS) - 1:
        count, unit = count / 1024, unit + 1
    return f"{count:.0f} {_UNITS[unit]}" if unit == 0 else f"{count:.1f} {_UNITS[unit]}"


def show_plan(plan: Plan) -> None:
    """The plan: what is pinned, the pipeline, and a line an interval."""
    from rich.table import Table

    console = plain_console()
    console.print(
        f"[bold]{plan.pipeline}[/]  code {plan.short_hash}  profile {plan.profile or '-'}  master {plan.master}"
    )
    for model in plan.models:
        console.print(
            f"model [bold]{model.name}[/]  {model.uri} -> v{model.version}  sha256 {model.digest[:12]}  {model.format}, {size(model.size_bytes)}"
        )
    for source in plan.sources:
        columns = ", ".join(column.name for column in source.columns)
        console.print(f"reads [bold]{source.name}[/]  {len(source.columns)} columns: {columns}")
    for step in plan.steps:
        if step.kind == "score":
            outputs = ", ".join(output.name for output in step.outputs)
            console.print(
                f"scores [bold]{step.name}[/]  {step.input} -> {outputs}  operator {step.operator}: {step.operator_reason}"
            )
        else:
            console.print(f"step [bold]{step.name}[/]  from {', '.join(step.reads)}  {len(step.columns)} columns")
    for sink in plan.sinks:
        console.print(f"publishes [bold]{sink.name}[/]  {sink.path}  by {', '.join(sink.partition_by)}  {sink.mode}")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name, justify in (
        ("interval", "left"),
        ("does", "left"),
        ("files", "right"),
        ("bytes", "right"),
        ("replaces", "right"),
        ("why", "left"),
    ):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    for interval in plan.intervals:
        files = sum(len(each.files) for each in interval.inputs)
        replaced = sum(len(each.directories) for each in interval.outputs)
        table.add_row(
            interval.id,
            interval.action,
            f"{files:,}",
            size(interval.input_bytes),
            f"{replaced} partitions",
            interval.reason,
        )
    console.print()
    console.print(table)
    work = sum(interval.action == "score" for interval in plan.intervals)
    console.print(
        f"\n{work} of {len(plan.intervals)} intervals to score, {size(sum(i.input_bytes for i in plan.intervals if i.action == 'score'))} to read."
    )


def show_result(result: RunResult, *, as_json: bool) -> None:
    """What happened, with numbers that add up."""
    if as_json:
        click.echo(result.to_json())
        return
    from rich.markup import escape

    console = plain_console()
    colour = {"published": "green", "skipped": "cyan", "failed": "red"}[result.state]
    console.print(f"\n[bold {colour}]{result.state.upper()}[/]  {result.pipeline}  run {result.run_id}")
    published = [each for each in result.intervals if each.state == "published"]
    skipped = [each for each in result.intervals if each.state == "skipped"]
    if published:
        partitions = sum(len(each.partitions) for each in published)
        console.print(
            f"  published    {len(published)} intervals, {partitions} partitions, {sum(each.files for each in published)} files, "
            f"{size(sum(each.bytes for each in published))}"
        )
    if skipped:
        console.print(f"  skipped      {len(skipped)} intervals: {escape(skipped[0].reason)}")
    counts = result.counts
    if counts.rows_in:
        console.print(
            f"  rows         {counts.rows_in:,} in = {counts.scored:,} scored + {counts.dead_letter:,} dead letter + "
            f"{counts.quarantined:,} quarantined + {counts.dropped:,} dropped"
        )
        console.print(
            f"  rate         {counts.scored / max(result.seconds, 0.001):,.0f} rows/s over the whole run of {result.seconds:.1f} s, "
            f"{_rate(published)} while scoring"
        )
    for line in _gates(result.intervals):
        console.print(line)
    if result.mlflow_run_id:
        console.print(f"  MLflow run   {result.mlflow_run_id}  ({escape(result.mlflow_uri)})", soft_wrap=True)
    if result.report:
        console.print(f"  report       {result.report}", soft_wrap=True)
    if result.error:
        click.echo(click.style(result.error, fg="red"), err=True)


def _rate(published: list[IntervalResult]) -> str:
    rows = sum(each.counts.scored for each in published)
    seconds = sum(dict(each.seconds).get("score and stage", 0.0) for each in published)
    return f"{rows / seconds:,.0f} rows/s" if seconds else "-"


def _gates(intervals: tuple[IntervalResult, ...]) -> list[str]:
    """One line a gate over all intervals, and one for each expectation that failed."""
    names: dict[str, list[GateResult]] = {}
    for interval in intervals:
        for gate in interval.gates:
            names.setdefault(gate.gate, []).append(gate)
    lines = []
    for name, results in names.items():
        checks = [check for gate in results for check in gate.expectations]
        failed = [check for check in checks if not check.success]
        mark = (
            "[green]passed[/]"
            if not failed
            else "[yellow]warnings[/]"
            if all(gate.success for gate in results)
            else "[red]FAILED[/]"
        )
        lines.append(
            f"  gate         {name} on {results[0].on}: {mark}, {len(checks) - len(failed)} of {len(checks)} expectations held"
        )
        lines += [
            f"                 {check.severity}: {check.type} {check.column} observed {check.observed}"
            for check in failed[:5]
        ]
    return lines
