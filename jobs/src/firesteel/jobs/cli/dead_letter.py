"""`dead-letter`: rows that could not be scored, and how they get in after all."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from firesteel.jobs.cli.options import json_option, spec_options
from firesteel.jobs.cli.show import plain_console


@click.group("dead-letter")
def dead_letter() -> None:
    """Rows that could not be scored: list them, and replay them once the cause is mended."""


@dead_letter.command("ls")
@spec_options
@click.option("--interval", default="", help="Only this interval.")
@json_option
def ls(spec: Path, profile: str, params: dict[str, str], interval: str, as_json: bool) -> None:
    """Dead letters by interval and run, with the errors. Those that are `open` are missing from what is published now."""
    from firesteel.jobs.cli.area import open_area
    from firesteel.pipelines.publish.letters import letters

    loaded, area = open_area(spec, profile, params)
    found = letters(area, tuple(loaded.spec.sinks), interval)
    if as_json:
        click.echo(json.dumps([asdict(each) for each in found], indent=2))
        return
    if not found:
        click.echo(f"{loaded.spec.name}: no dead letters.")
        return
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("interval", "step", "rows", "open", "errors", "model", "run"):
        table.add_column(name, justify="right" if name == "rows" else "left")
    for each in found:
        errors = ", ".join(f"{name} ({count:,})" for name, count in each.errors)
        is_open = "yes" if each.open else "no"
        table.add_row(each.interval, each.step, f"{each.rows:,}", is_open, errors, each.model_version, each.run_id)
    plain_console().print(table)


@dead_letter.command("replay")
@spec_options
@click.option("--interval", required=True, help="The interval whose open dead letters are scored.")
@json_option
def replay(spec: Path, profile: str, params: dict[str, str], interval: str, as_json: bool) -> int:
    """Score the open dead letters of an interval again, with today's model, and publish them beside the others.

    Only these rows are scored. They pass the gates of the sink while nobody can see them; then their files are added, in
    one transaction, and no other file is touched. Rows that fail again are dead letters of the replay. A second replay finds
    nothing open, and does nothing. `rollback` takes a replay back.
    """
    from firesteel.jobs.cli.show import show_result
    from firesteel.jobs.run.replay import replay as run_replay
    from firesteel.pipelines import Pipeline
    from firesteel.pipelines.events import ignore

    pipeline = Pipeline.load(spec, profile=profile, params=params)
    made = pipeline.plan(interval, force=True)
    result = run_replay(made, interval, on_event=ignore)
    if result is None:
        click.echo("[]" if as_json else f"{interval}: no open dead letters.")
        return 0
    show_result(result, as_json=as_json)
    return result.exit_code
