"""Show plans and results as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from firesteel.conf.quantities import byte_size, plural
from firesteel.jobs.report.executors import summary
from firesteel.jobs.report.scored import scored_by

if TYPE_CHECKING:
    from collections.abc import Container, Mapping, Sequence

    from rich.console import Console

    from firesteel.pipelines.plan.model import Plan
    from firesteel.pipelines.result import GateResult, IntervalResult, RunResult

WIDEST = 1_000_000
"""Width, in columns, of a console that does not truncate lines."""


def plain_console(*, stderr: bool = False) -> Console:
    """Return a console that does not truncate or wrap lines, so that users can copy paths.

    On standard error, a terminal keeps its width for progress bars.
    """
    import sys

    from rich.console import Console

    bars = stderr and sys.stderr is not None and sys.stderr.isatty()
    return Console(stderr=stderr, highlight=False, soft_wrap=True, width=None if bars else WIDEST)


def terminal_width() -> int | None:
    """Return the width of the terminal in columns; None if standard output is not a terminal."""
    import shutil
    import sys

    return shutil.get_terminal_size().columns if sys.stdout is not None and sys.stdout.isatty() else None


def print_table(
    names: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: Container[str] = (),
    colours: tuple[str, Mapping[str, str]] = ("", {}),
) -> None:
    """Print a table whose lines are never truncated. Quick also for thousands of rows, which rich's Table is not.

    Parameters
    ----------
    right
        Columns whose cells are aligned to the right.
    colours
        A column, and the colours of its cells by their text.
    """
    import os

    from rich.cells import cell_len

    columns = list(zip(names, *rows, strict=True))
    widths = [max(map(cell_len, column)) for column in columns]
    painted = names.index(colours[0]) if colours[0] else -1
    lines = []
    for row in (names, *rows):
        cells = []
        for at, (cell, width) in enumerate(zip(row, widths, strict=True)):
            space = " " * (width - cell_len(cell))
            style = {"bold": True} if row is names else {"fg": colours[1].get(cell) if at == painted else None}
            text = click.style(cell, **style) if any(style.values()) else cell
            cells.append(space + text if names[at] in right else text + space)
        lines.append("  ".join(cells))
    click.echo("\n".join(lines), color=False if os.environ.get("NO_COLOR") else None)


def show_plan(plan: Plan) -> None:
    """Show a plan: the pipeline as a tree, one line for each interval, and the requested resources."""
    from rich.markup import escape

    console = plain_console()
    _head(console, plan)
    _plan_challenger(console, plan)
    for warning in plan.model_warnings:
        console.print(f"[yellow]Warning[/]: {escape(warning)}")
    _intervals(plan)
    work = [interval for interval in plan.intervals if interval.action == "score"]
    console.print(
        f"\n{len(work)} of {plural(len(plan.intervals), 'interval')} to score, {byte_size(sum(interval.input_bytes for interval in work))} to read."
    )
    if audits := sum(interval.action == "audit" for interval in plan.intervals):
        console.print(
            f"{plural(audits, 'interval')} to audit: changed gates check the published rows, nothing is scored."
        )
    if work:
        _resources(console, plan)


def show_explanation(plan: Plan, *, rules: bool, lineage: bool) -> None:
    """Show a plan as a tree, its Spark stages, the stages of an interval and the resources; if asked for, rules and lineage."""
    from rich.markup import escape

    from firesteel.jobs.run.stages import interval_stages

    console = plain_console()
    _head(console, plan)
    console.print("[bold]Spark stages[/]")
    for number, spark_stage in enumerate(plan.stages, start=1):
        why = f"  [dim]{escape(', '.join(spark_stage.exchanges))}[/]" if spark_stage.exchanges else ""
        console.print(f"  {number}. {' + '.join(step.removeprefix('sink:') for step in spark_stage.steps)}{why}")
    console.print("\n[bold]interval stages[/]")
    for number, stage in enumerate(interval_stages(plan), start=1):
        console.print(f"  {number}. {escape(str(stage))}")
    if plan.intervals:
        _resources(console, plan)
    if rules:
        console.print("\n[bold]rules[/]")
        for effect in plan.rules:
            console.print(f"  {effect.rule}" + ("" if effect.did else "  [dim]nothing to do[/]"))
            for did in effect.did:
                console.print(f"    {escape(did)}")
    if lineage:
        console.print("\n[bold]lineage[/]")
        for column in plan.lineage:
            values = ", ".join(f"{source}.{name}" for source, name in column.values) or "no source column"
            models = f" by model {', '.join(column.models)}" if column.models else ""
            console.print(f"  {column.sink}.{column.column}  <- {values}{models}")
        for row in plan.row_lineage:
            deciding = ", ".join(f"{source}.{name}" for source, name in row.rows)
            console.print(f"  rows of {row.sink}  <- {deciding or 'all rows'}")


def _head(console: Console, plan: Plan) -> None:
    from firesteel.jobs.cli.draw import trees

    console.print(
        f"[bold]{plan.pipeline}[/]  code {plan.short_hash}  profile {plan.profile or '-'}  master {plan.master}\n"
    )
    for tree in trees(plan, terminal_width()):
        console.print(tree)
        console.print()


def _plan_challenger(console: Console, plan: Plan) -> None:
    from rich.markup import escape

    challenger = plan.score_step.challenger if plan.score_step else None
    if challenger is None:
        return
    if challenger.error:
        console.print(f"[yellow]challenger[/] {escape(challenger.uri)} is skipped: {escape(challenger.error)}\n")
    elif challenger.pinned is not None:
        what = (
            f"published as {', '.join(output.name for output in challenger.outputs)}"
            if challenger.outputs
            else "not published"
        )
        console.print(
            f"[bold]challenger[/] {escape(challenger.uri)} v{challenger.pinned.version} (sha {challenger.pinned.digest[:8]}), {what}\n"
        )


def _resources(console: Console, plan: Plan) -> None:
    resources = plan.resources
    executors = (
        f"{plural(resources.executors, 'executor')}, {plural(resources.slots, 'concurrent task')}"
        if resources.executors
        else plan.master
    )
    console.print(
        f"\n[bold]requests[/] {executors}; scan tasks {resources.tasks:,}, shuffle partitions {resources.shuffle_partitions:,}, "
        f"files per interval {resources.files:,}"
    )
    for reason in resources.reasons:
        console.print(f"  {reason}")


def _intervals(plan: Plan) -> None:
    rows = []
    for interval in plan.intervals:
        files = sum(len(source.files) for source in interval.inputs)
        replaced = sum(len(output.directories) for output in interval.outputs)
        cells = (
            interval.id,
            interval.action,
            f"{files:,}",
            byte_size(interval.input_bytes),
            plural(replaced, "partition"),
        )
        rows.append((*cells, interval.reason))
    names = ("interval", "action", "files", "bytes", "replaces", "reason")
    print_table(names, rows, right={"files", "bytes", "replaces"})


def show_result(result: RunResult, *, as_json: bool) -> None:
    """Show the result of a run."""
    if as_json:
        click.echo(result.to_json())
        return
    from rich.markup import escape

    console = plain_console()
    colour = {"published": "green", "skipped": "cyan", "failed": "red"}[result.state]
    console.print(f"\n[bold {colour}]{result.state.upper()}[/]  {result.pipeline}  run {result.run_id}")
    published = [interval for interval in result.intervals if interval.state == "published"]
    skipped = [interval for interval in result.intervals if interval.state == "skipped"]
    if published:
        partitions = sum(len(interval.partitions) for interval in published)
        console.print(
            f"  published    {plural(len(published), 'interval')}, {plural(partitions, 'partition')}, "
            f"{plural(sum(interval.files for interval in published), 'file')}, "
            f"{byte_size(sum(interval.bytes for interval in published))}"
        )
    if audited := [interval for interval in result.intervals if interval.state == "audited"]:
        console.print(
            f"  audited      {plural(len(audited), 'interval')}: the changed gates pass on the published rows"
        )
    if skipped:
        console.print(f"  skipped      {plural(len(skipped), 'interval')}: {escape(skipped[0].reason)}")
    counts = result.counts
    if counts.rows_in:
        console.print(
            f"  rows         {counts.rows_in:,} in = {counts.scored:,} scored + {counts.dead_letter:,} dead letter + "
            f"{counts.quarantined:,} quarantined + {counts.dropped:,} dropped"
            + ("  (see `firesteel quarantine ls`)" if counts.quarantined else "")
        )
        console.print(
            f"  rate         {counts.scored / max(result.seconds, 0.001):,.0f} rows/s over the whole run of {result.seconds:.1f} s, "
            f"{_rate(published)} while scoring"
        )
    for line in _scored(result):
        console.print(line, soft_wrap=True)
    if result.executors:
        console.print(f"  executors    {summary(result.executors)}", soft_wrap=True)
    for line in (*_challenger(result.intervals), *_gates(result.intervals)):
        console.print(line)
    if result.mlflow_run_id:
        console.print(f"  MLflow run   {result.mlflow_run_id}  ({escape(result.mlflow_uri)})", soft_wrap=True)
    if result.lineage:
        colour = "yellow" if result.lineage.lost else "default"
        console.print(f"  lineage      [{colour}]{escape(str(result.lineage))}[/]", soft_wrap=True)
    if result.report:
        console.print(f"  report       {result.report}", soft_wrap=True)
    if result.error:
        click.echo(click.style(result.error, fg="red"), err=True)


def _scored(result: RunResult) -> list[str]:
    """Return lines on the operator and the inference backends of each step, with the reasons."""
    from rich.markup import escape

    lines = []
    for step in scored_by(result):
        lines.append(f"  operator     {step.operator}: {escape(step.reason)}")
        if step.resumed_rows:
            lines.append(f"  resumed      {plural(step.resumed_rows, 'row')} scored by a dead run")
        for backend in step.backends:
            difference = "" if backend.difference is None else f", largest difference {backend.difference:.2g}"
            lines.append(
                f"  backend      {escape(backend.name)}, {plural(backend.rows, 'row')}: {escape(backend.reason)}{difference}"
            )
    return lines


def _challenger(intervals: tuple[IntervalResult, ...]) -> list[str]:
    """Return lines on the challenger and each of its outputs."""
    from rich.markup import escape

    from firesteel.jobs.report.agreement import combine_agreements, output_line, summarize_rows

    whole = combine_agreements([interval.agreement for interval in intervals if interval.agreement is not None])
    if whole is None:
        return []
    version = f" v{whole.version}" if whole.version else ""
    colour = "yellow" if whole.failed or whole.problem else "green"
    lines = [f"  challenger   [{colour}]{escape(whole.uri)}{version}[/]: {escape(summarize_rows(whole))}"]
    lines += [
        f"                 {escape(output.output)}: {output_line(output, whole.tolerance)}" for output in whole.outputs
    ]
    return lines


def _rate(published: list[IntervalResult]) -> str:
    rows = sum(interval.counts.scored for interval in published)
    seconds = sum(dict(interval.seconds).get("score and stage", 0.0) for interval in published)
    return f"{rows / seconds:,.0f} rows/s" if seconds else "-"


def _gates(intervals: tuple[IntervalResult, ...]) -> list[str]:
    """Return lines on each gate over all intervals, with its first five failed expectations."""
    from rich.markup import escape

    from firesteel.jobs.gates.render import render_observed

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
            f"  gate         {name} on {results[0].on}: {mark}, {len(checks) - len(failed)} of {plural(len(checks), 'expectation')} met"
        )
        lines += [
            f"                 {check.severity}: {check.type} {check.column}: "
            + escape("; ".join(text for text in (render_observed(check), check.note) if text))
            for check in failed[:5]
        ]
    return lines
