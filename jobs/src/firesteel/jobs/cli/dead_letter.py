"""`dead-letter`: rows that could not be scored."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from firesteel.conf.errors import StorageError, one_line
from firesteel.conf.quantities import plural
from firesteel.jobs.cli.options import json_option, named, param_options, spec_argument, spec_options

if TYPE_CHECKING:
    from firesteel.pipelines.publish.dead_letters import DeadLetterFile
    from firesteel.pipelines.publish.state_store import StateStore


@click.group("dead-letter")
def dead_letter() -> None:
    """Show rows that could not be scored, and score them again after you fix the cause."""


@dead_letter.command("ls")
@spec_options
@click.option("--interval", default="", help="Show only this interval.")
@json_option
def ls(spec: Path, profile: str, params: dict[str, str], interval: str, as_json: bool) -> None:
    """List dead letters by interval and run, with the errors and the path of the file.

    Dead letters are `open` while the published version of the interval lacks their rows. `firesteel dead-letter show RUN`
    prints the rows.
    """
    from firesteel.jobs.cli.state_store import open_state_store
    from firesteel.pipelines.publish.dead_letters import dead_letters

    loaded, store = open_state_store(spec, profile, params)
    records = dead_letters(store, loaded.sink_uris, interval)
    if as_json:
        click.echo(json.dumps([_as_dict(store, record) for record in records], indent=2, ensure_ascii=False))
        return
    if not records:
        click.echo(f"{loaded.spec.name}: no dead letters.")
        return
    for record in records:
        _show_head(record)
        for error in record.errors:
            click.echo(f"  {error.rows:>9,}  {one_line(error.error + ': ' + error.message)}")
        click.echo(f"             {store.storage.base_uri}{record.path}")


@dead_letter.command("show")
@click.argument("run", metavar="RUN", help="Id of the run, as `dead-letter ls` shows it.")
@spec_argument()
@param_options
@click.option("--interval", default="", help="Show only this interval.")
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    help="Show at most this many rows of each interval.",
)
@json_option
def show(run: str, spec: Path, profile: str, params: dict[str, str], interval: str, limit: int, as_json: bool) -> None:
    """Print the rows that a run could not score, with the error of each row."""
    from firesteel.jobs.cli.state_store import open_state_store
    from firesteel.pipelines.publish.dead_letters import dead_letters, read_rows

    loaded, store = open_state_store(spec, profile, params)
    records = [record for record in dead_letters(store, loaded.sink_uris, interval) if record.run_id == run]
    if not records:
        where = f" in interval {interval}" if interval else ""
        hint = "Run `firesteel dead-letter ls` to list the runs with dead letters."
        raise StorageError("FS8003", f"run {run} has no dead letters{where}.", hint=hint)
    rows = [(record, read_rows(store, record.path)[:limit]) for record in records]
    if as_json:
        shown = [_as_dict(store, record) | {"dead_letters": dead} for record, dead in rows]
        click.echo(json.dumps(shown, indent=2, ensure_ascii=False))
        return
    for record, dead in rows:
        _show_head(record)
        for row in dead:
            click.echo(f"  {one_line(row['error'] + ': ' + row['message'])}")
            click.echo(f"    {one_line(json.dumps(row['row'], ensure_ascii=False))}")
        if len(dead) < record.rows:
            click.echo(f"  ... {record.rows - len(dead):,} more in {store.storage.base_uri}{record.path}")


def _show_head(file: DeadLetterFile) -> None:
    state = "open" if file.open else "closed"
    model = f", model version {file.model_version}" if file.model_version else ""
    head = click.style(f"{file.interval}  {file.step}", bold=True)
    click.echo(f"{head}  {plural(file.rows, 'row')}, {state}{model}, run {file.run_id}")


def _as_dict(store: StateStore, file: DeadLetterFile) -> dict[str, Any]:
    return asdict(file) | {"path": f"{store.storage.base_uri}{file.path}"}


@dead_letter.command("replay")
@spec_options
@click.option("--interval", required=True, callback=named, help="Score the open dead letters of this interval.")
@json_option
def replay(spec: Path, profile: str, params: dict[str, str], interval: str, as_json: bool) -> int:
    """Score the open dead letters of an interval again, and publish them.

    The current model scores them. They must pass the gates of the sink. One transaction adds their files; no other file
    changes. Rows that fail again become dead letters of the replay. A second replay finds no open dead letters and does
    nothing. `firesteel rollback` reverts a replay.
    """
    from firesteel.jobs.cli.console import show_result
    from firesteel.jobs.cli.state_store import settle
    from firesteel.jobs.run.replay import replay as run_replay
    from firesteel.pipelines import Pipeline
    from firesteel.pipelines.events import ignore
    from firesteel.pipelines.publish.state_store import StateStore

    pipeline = Pipeline.load(spec, profile=profile, params=params)
    plan = pipeline.plan(interval, force=True)
    result = run_replay(plan, interval, on_event=ignore)
    if result is None:
        click.echo("[]" if as_json else f"{interval}: no open dead letters.")
        return 0
    settle(pipeline.loaded, StateStore.of(plan))
    show_result(result, as_json=as_json)
    return result.exit_code
