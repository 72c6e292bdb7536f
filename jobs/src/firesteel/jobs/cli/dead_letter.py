"""`dead-letter`: rows that could not be scored."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from firesteel.conf.errors import StorageError, one_line
from firesteel.jobs.cli.options import json_option, named, param_options, spec_options

if TYPE_CHECKING:
    from firesteel.pipelines.publish.dead_letters import DeadLetterFile
    from firesteel.pipelines.publish.state_store import StateStore


@click.group("dead-letter")
def dead_letter() -> None:
    """Show rows that could not be scored, and score them again once the cause is fixed."""


@dead_letter.command("ls")
@spec_options
@click.option("--interval", default="", help="Show only this interval.")
@json_option
def ls(spec: Path, profile: str, params: dict[str, str], interval: str, as_json: bool) -> None:
    """List dead letters by interval and run, with the errors and the path of the file.

    `open` means that the published rows of the interval lack these rows. `firesteel dead-letter show RUN` prints the rows.
    """
    from firesteel.jobs.cli.state_store import open_state_store
    from firesteel.pipelines.publish.dead_letters import dead_letters

    loaded, store = open_state_store(spec, profile, params)
    found = dead_letters(store, tuple(loaded.spec.sinks), interval)
    if as_json:
        click.echo(json.dumps([_as_dict(store, each) for each in found], indent=2, ensure_ascii=False))
        return
    if not found:
        click.echo(f"{loaded.spec.name}: no dead letters.")
        return
    for each in found:
        _show_head(each)
        for error in each.errors:
            click.echo(f"  {error.rows:>9,}  {one_line(error.error + ': ' + error.message)}")
        click.echo(f"             {store.storage.base_uri}{each.path}")


@dead_letter.command("show")
@click.argument("run", metavar="RUN")
@click.argument("spec", type=click.Path(path_type=Path), default=Path("pipeline.yaml"))
@param_options
@click.option("--interval", default="", help="Show only this interval.")
@click.option(
    "--limit", type=click.IntRange(min=1), default=20, show_default=True, help="Rows to show of each interval."
)
@json_option
def show(run: str, spec: Path, profile: str, params: dict[str, str], interval: str, limit: int, as_json: bool) -> None:
    """Print the rows that a run could not score, with the error of each row."""
    from firesteel.jobs.cli.state_store import open_state_store
    from firesteel.pipelines.publish.dead_letters import dead_letters, read_rows

    loaded, store = open_state_store(spec, profile, params)
    found = [each for each in dead_letters(store, tuple(loaded.spec.sinks), interval) if each.run_id == run]
    if not found:
        where = f" in interval {interval}" if interval else ""
        hint = "Run `firesteel dead-letter ls` to see the runs that have dead letters."
        raise StorageError("FS8003", f"run {run} has no dead letters{where}.", hint=hint)
    rows = [(each, read_rows(store, each.path)[:limit]) for each in found]
    if as_json:
        shown = [_as_dict(store, each) | {"dead_letters": letters_of} for each, letters_of in rows]
        click.echo(json.dumps(shown, indent=2, ensure_ascii=False))
        return
    for each, letters_of in rows:
        _show_head(each)
        for letter in letters_of:
            click.echo(f"  {one_line(letter['error'] + ': ' + letter['message'])}")
            click.echo(f"    {one_line(json.dumps(letter['row'], ensure_ascii=False))}")
        if len(letters_of) < each.rows:
            click.echo(f"  ... {each.rows - len(letters_of):,} more in {store.storage.base_uri}{each.path}")


def _show_head(dead_letters: DeadLetterFile) -> None:
    state = "open" if dead_letters.open else "not open"
    model = f", model version {dead_letters.model_version}" if dead_letters.model_version else ""
    head = click.style(f"{dead_letters.interval}  {dead_letters.step}", bold=True)
    click.echo(f"{head}  {dead_letters.rows:,} rows, {state}{model}, run {dead_letters.run_id}")


def _as_dict(store: StateStore, dead_letters: DeadLetterFile) -> dict[str, Any]:
    return asdict(dead_letters) | {"path": f"{store.storage.base_uri}{dead_letters.path}"}


@dead_letter.command("replay")
@spec_options
@click.option("--interval", required=True, callback=named, help="Interval whose open dead letters are scored.")
@json_option
def replay(spec: Path, profile: str, params: dict[str, str], interval: str, as_json: bool) -> int:
    """Score the open dead letters of an interval again, with the current model, and add them to the published rows.

    Only these rows are scored. They must pass the gates of the sink. Then their files are added in one transaction; no other
    file changes. Rows that fail again become dead letters of the replay. A second replay finds no open dead letters and does
    nothing. `firesteel rollback` reverts a replay.
    """
    from firesteel.jobs.cli.console import show_result
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
