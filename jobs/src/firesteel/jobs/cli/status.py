"""`status`: the latest attempt of each interval, and the state of intervals and runs for schedulers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from firesteel.jobs.cli.console import plain_console, print_table
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
    from firesteel.pipelines.publish.sink_records import SinkRecords
    from firesteel.pipelines.storage.identity import canonical

    of_sinks = {sink: SinkRecords(store, sink) for sink in loaded.spec.sinks}
    records = [record for of_sink in of_sinks.values() for record in of_sink.latest().values()]
    show_records(records, loaded.spec.name, as_json=as_json)
    places = {name: canonical(sink.path) for name, sink in loaded.spec.sinks.items()}
    current = {} if as_json else {sink: of_sink.published(places[sink]) for sink, of_sink in of_sinks.items()}
    suspect = {} if as_json else {sink: of_sink.suspect(places[sink]) for sink, of_sink in of_sinks.items()}
    for record in [] if as_json else records:
        published = current[record.sink].get(record.interval)
        if published is not None and record.state != "published":
            click.echo(
                f"{record.interval} of {record.sink}: readers see the rows of run {published.run_id}, "
                f"published on {published.ended_at}."
            )
            if record.interval in suspect[record.sink]:
                click.echo(f"{record.interval} of {record.sink}: these rows are suspect: changed gates fail on them.")


def _show_intervals(loaded: LoadedSpec, store: StateStore, start: str, end: str, run: str, *, as_json: bool) -> None:
    from firesteel.pipelines.plan.intervals import slots
    from firesteel.pipelines.publish.status import interval_status

    intervals = tuple(slot.id for slot in slots(loaded.spec.interval, start, end))
    state: dict[str, Any] = interval_status(store, loaded.sink_uris, intervals, run)
    if as_json:
        from pydantic_core import to_json

        click.echo(to_json(state, indent=2).decode())
        return
    _show_table(state)


def _show_table(state: dict[str, Any]) -> None:
    console = plain_console()
    for run in state["runs"]:
        code = "" if run["exit_code"] is None else f", exit {run['exit_code']}"
        console.print(
            f"run {run['run_id']}: {run['state']}{code}, started {run['started_at']} by {run['user']}@{run['host']}"
        )
    rows = []
    for interval in state["intervals"]:
        published, latest, holder = interval["published"], interval["newest"], interval["held_by"]
        rows.append(
            (
                interval["interval"],
                interval["sink"],
                published["run_id"] if published else "-",
                f"{published['rows']['scored']:,}" if published else "-",
                f"{published['partitions_total']:,}" if published else "-",
                "suspect" if interval["suspect"] else "passed" if published else "-",
                f"{latest['state']}, {latest['ended_at']}" if latest else "-",
                f"{holder['run_id']} ({holder['user']}@{holder['host']}, since {holder['since']})" if holder else "-",
            )
        )
    names = ("interval", "sink", "published by", "rows", "partitions", "verdict", "latest attempt", "held by")
    print_table(names, rows, right={"rows", "partitions"})
