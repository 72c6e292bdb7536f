"""`status`: the latest attempt of each interval, and the state of intervals and runs for schedulers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from firesteel.jobs.cli.console import plain_console
from firesteel.jobs.cli.ledger import show_records
from firesteel.jobs.cli.options import json_option, named, spec_options

if TYPE_CHECKING:
    from firesteel.pipelines.publish.state_store import StateStore
    from firesteel.pipelines.spec.load import LoadedSpec


@click.command()
@spec_options
@click.option(
    "--start",
    default=None,
    callback=named,
    metavar="INTERVAL",
    help="Show details from this interval on: INTERVAL is its name or a time in it.",
)
@click.option(
    "--end", default=None, metavar="INTERVAL", help="Last interval (inclusive). Default: the value of --start."
)
@click.option(
    "--run",
    default="",
    metavar="RUN",
    help="With --start, also show the run with this --run-id, or the runs whose ids end with RUN.",
)
@json_option
def status(
    spec: Path, profile: str, params: dict[str, str], start: str | None, end: str | None, run: str, as_json: bool
) -> None:
    """Show the latest attempt of each interval. If that attempt published nothing, also show the run that published the current rows.

    With --start, show the published record, the latest attempt and the current holder of each interval, and how the run
    of --run ended. Schedulers read this output instead of exit codes: after a driver is killed, the next run can still
    complete its publish, and spark-submit may return 0 for a failed run.

    \b
    Examples:
      firesteel status
      firesteel status --start 2013-06-01 --end 2013-06-07
      firesteel status --start 2013-06-01T00:00:00+00:00 --run 20260502T031000-ab59cc --json
    """  # noqa: D301 - click wants a real backspace
    from firesteel.jobs.cli.state_store import open_state_store

    if start is None and (end is not None or run):
        raise click.UsageError("--end and --run need --start. Add --start INTERVAL.")
    loaded, store = open_state_store(spec, profile, params)
    if start is None:
        _show_attempts(loaded, store, as_json=as_json)
    else:
        _show_intervals(loaded, store, start, end or start, run, as_json=as_json)


def _show_attempts(loaded: LoadedSpec, store: StateStore, *, as_json: bool) -> None:
    from firesteel.pipelines.publish.ledger import Ledger
    from firesteel.pipelines.publish.policy import canonical

    ledger = Ledger(store)
    records = [
        record
        for sink in loaded.spec.sinks
        for interval in ledger.intervals(sink)
        if (record := ledger.latest(sink, interval)) is not None
    ]
    show_records(records, loaded.spec.name, as_json=as_json)
    for record in [] if as_json else records:
        location = canonical(loaded.spec.sinks[record.sink].path)
        published = ledger.published(record.sink, record.interval, location) if record.state != "published" else None
        if published is not None:
            click.echo(
                f"{record.interval} of {record.sink}: readers see the rows of run {published.run_id}, "
                f"published on {published.ended_at}."
            )


def _show_intervals(loaded: LoadedSpec, store: StateStore, start: str, end: str, run: str, *, as_json: bool) -> None:
    from firesteel.pipelines.plan.intervals import slots
    from firesteel.pipelines.publish.status import interval_status

    sinks = {name: sink.path for name, sink in loaded.spec.sinks.items()}
    intervals = tuple(slot.id for slot in slots(loaded.spec.interval, start, end))
    state: dict[str, Any] = interval_status(store, sinks, intervals, run)
    if as_json:
        click.echo(json.dumps(state, indent=2, ensure_ascii=False))
        return
    _show_table(state)


def _show_table(state: dict[str, Any]) -> None:
    from rich.table import Table

    console = plain_console()
    for run in state["runs"]:
        code = "" if run["exit_code"] is None else f", exit {run['exit_code']}"
        console.print(
            f"run {run['run_id']}: {run['state']}{code}, started {run['started_at']} by {run['user']}@{run['host']}"
        )
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("interval", "sink", "published by", "rows", "partitions", "latest attempt", "held by"):
        table.add_column(name, justify="right" if name in {"rows", "partitions"} else "left")
    for interval in state["intervals"]:
        published, latest, holder = interval["published"], interval["newest"], interval["held_by"]
        table.add_row(
            interval["interval"],
            interval["sink"],
            published["run_id"] if published else "-",
            f"{published['rows']['scored']:,}" if published else "-",
            f"{published['partitions_total']:,}" if published else "-",
            f"{latest['state']}, {latest['ended_at']}" if latest else "-",
            f"{holder['run_id']} ({holder['user']}@{holder['host']}, since {holder['since']})" if holder else "-",
        )
    console.print(table)
