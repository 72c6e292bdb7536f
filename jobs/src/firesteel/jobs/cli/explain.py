"""`explain` and `diff`: draw a pipeline, and compare two."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from firesteel.conf.quantities import plural
from firesteel.jobs.cli.files import read_text
from firesteel.jobs.cli.options import OutputFile, json_option, param_options, quiet_option, spec_argument

if TYPE_CHECKING:
    from firesteel.pipelines.plan.model import Plan
    from firesteel.pipelines.planner.diff import Difference

_TOUCHES = {
    "results": "[yellow]changes rows[/]",
    "gates": "[cyan]changes gate results only[/]",
    "nothing": "[dim]no effect[/]",
}


@click.command()
@spec_argument("path", "[SPEC|PLAN]", " or of a plan")
@param_options
@click.option(
    "--start",
    default=None,
    metavar="INTERVAL",
    help="Also read the data, the model and the ledger, from this interval on.",
)
@click.option(
    "--end", default=None, metavar="INTERVAL", help="Last interval (inclusive). Default: the value of --start."
)
@click.option("--rules", is_flag=True, help="Show the changes that each rule of the compiler made.")
@click.option("--lineage", is_flag=True, help="Show the source columns of each published column.")
@click.option(
    "--spark", is_flag=True, help="Show Spark's physical plan of the first interval. Starts a JVM but runs no job."
)
@click.option("--html", type=OutputFile(), help="Write an HTML page instead of printing the tree.")
@json_option
@quiet_option
def explain(
    path: Path,
    profile: str,
    params: dict[str, str],
    start: str | None,
    end: str | None,
    rules: bool,
    lineage: bool,
    spark: bool,
    html: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Draw a pipeline: sources, steps, models, gates and sinks, with the reasons for the plan's choices.

    Reads no data by default. With --start, and for a plan file, the drawing includes the partitions, bytes, model version
    and executors of a run.
    """
    from firesteel.jobs.cli.console import show_explanation

    plan = load_plan(path, profile, params, start, end, quiet=quiet or as_json)
    if as_json:
        click.echo(plan.to_json(), nl=False)
        return
    if html is not None:
        from firesteel.jobs.report.explain import write_explanation
        from firesteel.jobs.run.stages import interval_stages

        click.echo(f"wrote {write_explanation(plan, interval_stages(plan), html)}")
        return
    show_explanation(plan, rules=rules, lineage=lineage)
    if spark:
        from firesteel.conf.errors import SpecError
        from firesteel.jobs.spark.explain import physical_plan

        if not plan.intervals:
            raise SpecError("FS1014", "--spark needs an interval.", hint="Add --start INTERVAL.")
        click.echo(f"\nSpark's plan for {plan.intervals[0].id}\n")
        click.echo(physical_plan(plan, plan.intervals[0]))


@click.command("diff")
@click.argument("old", metavar="OLD", type=click.Path(path_type=Path, exists=True), help="File of a spec or of a plan.")
@click.argument("new", metavar="NEW", type=click.Path(path_type=Path, exists=True), help="File of a spec or of a plan.")
@param_options
@click.option("--start", default=None, metavar="INTERVAL", help="Also compare data and models, from this interval on.")
@click.option(
    "--end", default=None, metavar="INTERVAL", help="Last interval (inclusive). Default: the value of --start."
)
@json_option
def diff(
    old: Path, new: Path, profile: str, params: dict[str, str], start: str | None, end: str | None, as_json: bool
) -> None:
    """Compare two specs or plans (PLAN.json), and show which intervals the change affects.

    A difference changes rows, changes only the results of gates, or has no effect. Comments and the order of keys have no
    effect.
    """
    from firesteel.pipelines.planner.diff import diff as compare

    plans = [load_plan(path, profile, params, start, end, quiet=as_json) for path in (old, new)]
    difference = compare(*plans)
    if as_json:
        import json
        from dataclasses import asdict

        click.echo(json.dumps(asdict(difference), indent=2, ensure_ascii=False))
        return
    _show(difference, intervals=bool(plans[0].intervals and plans[1].intervals))


def load_plan(
    path: Path, profile: str, params: dict[str, str], start: str | None, end: str | None, *, quiet: bool
) -> Plan:
    """Load a plan file, or plan a spec. Without `start`, return a plan of the spec that has no intervals."""
    if path.suffix == ".json":
        from firesteel.pipelines.plan.model import Plan

        return Plan.from_json(read_text(path, "a plan"), path.name)
    from firesteel.jobs.cli.progress import planning
    from firesteel.pipelines import Pipeline

    pipeline = Pipeline.load(path, profile=profile, params=params)
    if start is None:
        return pipeline.sketch()
    with planning(quiet=quiet) as on_progress:
        return pipeline.plan(start, end, on_progress=on_progress)


def _show(difference: Difference, *, intervals: bool) -> None:
    from rich.markup import escape

    from firesteel.jobs.cli.console import plain_console

    console = plain_console()
    for change in difference.changes:
        console.print(f"[bold]{escape(change.of)}[/]  {escape(change.words)}  {_TOUCHES[change.touches]}")
        for line in change.detail:
            colour = {"-": "red", "+": "green"}.get(line[:1], "dim")
            console.print(f"    [{colour}]{escape(line)}[/]")
    if not difference.changes:
        console.print("No difference.")
    if difference.changes:
        console.print()
    if intervals:
        for names, label in (
            (difference.scored_again, "would be scored again"),
            (difference.added, "only in NEW"),
            (difference.removed, "only in OLD"),
        ):
            if names:
                console.print(f"{plural(len(names), 'interval')} {label}: {_range(names)}")
        console.print(f"{plural(difference.same, 'interval')} unchanged.")
    elif difference.equal_code:
        console.print("Both are equivalent: no published interval is affected.")
    elif all(change.touches != "results" for change in difference.changes):
        console.print("Only gates differ: the gates of every published interval would run again.")
    else:
        console.print(
            "Every published interval would be scored again. Use --start and --end to list the intervals of a range."
        )


def _range(names: tuple[str, ...]) -> str:
    return ", ".join(names) if len(names) <= 3 else f"{names[0]} ... {names[-1]}"
