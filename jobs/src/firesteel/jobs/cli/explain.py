"""`explain` and `diff`: draw a pipeline, and compare two."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from firesteel.conf.quantities import plural
from firesteel.jobs.cli.files import read_text
from firesteel.jobs.cli.options import OutputFile, json_option, param_options, quiet_option

if TYPE_CHECKING:
    from firesteel.pipelines.plan.model import Plan
    from firesteel.pipelines.planner.diff import Difference

_TOUCHES = {
    "results": "[yellow]changes rows[/]",
    "gates": "[cyan]changes verdicts only[/]",
    "nothing": "[dim]no effect[/]",
}


@click.command()
@click.argument("what", metavar="[SPEC|PLAN]", type=click.Path(path_type=Path), default=Path("pipeline.yaml"))
@param_options
@click.option(
    "--start",
    default=None,
    metavar="INTERVAL",
    help="Include the data, the model and the ledger from this interval on.",
)
@click.option(
    "--end", default=None, metavar="INTERVAL", help="Last interval (inclusive). Default: the value of --start."
)
@click.option("--rules", is_flag=True, help="Show what each rule of the compiler did.")
@click.option("--lineage", is_flag=True, help="Show the source columns of each published column.")
@click.option(
    "--spark", is_flag=True, help="Show Spark's physical plan of the first interval. Starts a JVM, runs no job."
)
@click.option("--html", type=OutputFile(), help="Write an HTML page with the drawing instead.")
@json_option
@quiet_option
def explain(
    what: Path,
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
    """Draw a pipeline: what is read, joined, scored and published, and why.

    A spec is drawn from its text, without data. With --start, and for a plan file, the drawing includes partitions, bytes,
    the version of the model and the executors that the run requests.
    """
    from firesteel.jobs.cli.console import show_explanation

    plan = load_plan(what, profile, params, start, end, quiet=quiet or as_json)
    if as_json:
        click.echo(plan.to_json(), nl=False)
        return
    if html is not None:
        from firesteel.jobs.report.explain import write_explanation

        click.echo(f"wrote {write_explanation(plan, html)}")
        return
    show_explanation(plan, rules=rules, lineage=lineage)
    if spark:
        from firesteel.conf.errors import SpecError
        from firesteel.jobs.spark.explain import physical_plan

        if not plan.intervals:
            raise SpecError("FS1014", "Spark's plan needs an interval to look at.", hint="Add --start INTERVAL.")
        click.echo(f"\nSpark's plan for {plan.intervals[0].id}\n")
        click.echo(physical_plan(plan, plan.intervals[0]))


@click.command("diff")
@click.argument("old", metavar="OLD", type=click.Path(path_type=Path, exists=True))
@click.argument("new", metavar="NEW", type=click.Path(path_type=Path, exists=True))
@param_options
@click.option("--start", default=None, metavar="INTERVAL", help="Compare with data and models, from this interval on.")
@click.option(
    "--end", default=None, metavar="INTERVAL", help="Last interval (inclusive). Default: the value of --start."
)
@json_option
def diff(
    old: Path, new: Path, profile: str, params: dict[str, str], start: str | None, end: str | None, as_json: bool
) -> None:
    """Compare two specs or plans (PLAN.json), and show which intervals the change affects.

    A difference changes rows, or only the verdicts of gates, or nothing. Comments and the order of keys change nothing.
    """
    from firesteel.pipelines.planner.diff import diff as compare

    plans = [load_plan(each, profile, params, start, end, quiet=as_json) for each in (old, new)]
    found = compare(*plans)
    if as_json:
        import json
        from dataclasses import asdict

        click.echo(json.dumps(asdict(found), indent=2, ensure_ascii=False))
        return
    _show(found, intervals=bool(plans[0].intervals and plans[1].intervals))


def load_plan(
    what: Path, profile: str, params: dict[str, str], start: str | None, end: str | None, *, quiet: bool
) -> Plan:
    """A plan file as it is; a spec planned for its intervals, or sketched when none are given."""
    if what.suffix == ".json":
        from firesteel.pipelines.plan.model import Plan

        return Plan.from_json(read_text(what, "a plan"), what.name)
    from firesteel.jobs.cli.progress import planning
    from firesteel.pipelines import Pipeline

    pipeline = Pipeline.load(what, profile=profile, params=params)
    if start is None:
        return pipeline.sketch()
    with planning(quiet=quiet) as on_progress:
        return pipeline.plan(start, end, on_progress=on_progress)


def _show(found: Difference, *, intervals: bool) -> None:
    from rich.markup import escape

    from firesteel.jobs.cli.console import plain_console

    console = plain_console()
    for change in found.changes:
        console.print(f"[bold]{escape(change.of)}[/]  {escape(change.words)}  {_TOUCHES[change.touches]}")
        for line in change.detail:
            colour = {"-": "red", "+": "green"}.get(line[:1], "dim")
            console.print(f"    [{colour}]{escape(line)}[/]")
    if not found.changes:
        console.print("No difference.")
    if found.changes:
        console.print()
    if intervals:
        for names, words in (
            (found.scored_again, "would be scored again"),
            (found.added, "only in the new one"),
            (found.removed, "only in the old one"),
        ):
            if names:
                console.print(f"{plural(len(names), 'interval')} {words}: {_range(names)}")
        console.print(f"{plural(found.same, 'interval')} the same.")
    elif found.equal_code:
        console.print("Both mean the same: no published interval is touched.")
    elif all(change.touches != "results" for change in found.changes):
        console.print("Only gates differ: every published interval would be held against them again.")
    else:
        console.print("Every published interval would be scored again. --start and --end name those of a range.")


def _range(names: tuple[str, ...]) -> str:
    return ", ".join(names) if len(names) <= 3 else f"{names[0]} ... {names[-1]}"
