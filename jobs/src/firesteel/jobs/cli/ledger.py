"""`history` and `recover`: the records of runs in the storage."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from firesteel.jobs.cli.console import plain_console, print_table
from firesteel.jobs.cli.options import json_option, named, spec_options

if TYPE_CHECKING:
    from firesteel.pipelines.publish.records import LedgerRecord


@click.command()
@spec_options
@click.option("--interval", default=None, callback=named, help="Show only this interval.")
@json_option
def history(spec: Path, profile: str, params: dict[str, str], interval: str | None, as_json: bool) -> None:
    """Show every attempt, newest first: published, failed, cancelled or died."""
    from firesteel.jobs.cli.state_store import open_state_store
    from firesteel.pipelines.publish.sink_records import SinkRecords

    loaded, store = open_state_store(spec, profile, params)
    intervals = None if interval is None else [interval]
    records = [record for sink in loaded.spec.sinks for record in SinkRecords(store, sink, intervals).all()]
    show_records(records, f"{loaded.spec.name} {interval}" if interval else loaded.spec.name, as_json=as_json)


@click.command()
@spec_options
@click.option(
    "--take-ownership",
    is_flag=True,
    help="First transfer the sinks and the storage from their owner to this pipeline and profile.",
)
@json_option
def recover(spec: Path, profile: str, params: dict[str, str], take_ownership: bool, as_json: bool) -> None:
    """Complete the intervals that a dead run has journaled, and discard its other intervals.

    A run recovers its own intervals, and a run of the same plan also reuses the finished tasks of the dead run. `recover`
    also sends the records that MLflow did not receive while it was unavailable, and ends the MLflow runs of dead drivers.

    One pipeline, profile and storage owns a sink. With --take-ownership, the spec becomes the owner, for example after the
    pipeline was renamed or its storage was moved. The previous owner can no longer publish to the sink. The next run
    scores the intervals that the ledger of the new owner does not have.
    """
    from firesteel.conf.errors import FiresteelError
    from firesteel.jobs.cli.state_store import open_state_store, settle
    from firesteel.pipelines.publish.recover import leftovers, person, restore_marker
    from firesteel.pipelines.publish.recover import recover as recover_interval
    from firesteel.pipelines.publish.transfer import transfer

    loaded, store = open_state_store(spec, profile, params)
    if take_ownership:
        for change in transfer(store, loaded.sink_uris, person("transfer")):
            click.echo(f"{change}.", err=as_json)
    records, errors = [], []
    for name, sink in loaded.spec.sinks.items():
        for interval in leftovers(store, name):
            try:
                record = recover_interval(store, name, sink.path, interval)
            except FiresteelError as error:  # the other intervals can still be recovered
                errors.append(error)
                continue
            if record is not None:
                records.append(record)
        try:
            restore_marker(store, name, sink.path)
        except FiresteelError as error:
            errors.append(error)
    settled = settle(loaded, store, has_limit=False)
    for run in settled.delivered:
        click.echo(f"sent the record of run {run} to MLflow.", err=as_json)
    for run in settled.ended:
        click.echo(f"ended the MLflow run of {run}, whose driver died.", err=as_json)
    show_records(records, loaded.spec.name, as_json=as_json)
    for other in errors[1:]:
        click.echo(str(other), err=True)
    if errors:
        raise errors[0]


def show_records(records: list[LedgerRecord], scope: str, *, as_json: bool) -> None:
    """Print records as a table or as JSON. `scope` names them if there are none."""
    if as_json:
        from firesteel.pipelines.publish.records import to_json_list

        click.echo(to_json_list(records))
        return
    if not records:
        click.echo(f"{scope}: no attempts yet.")
        return
    names = ("interval", "sink", "state", "rows", "dead letter", "partitions", "ended", "run")
    rows = [
        (
            record.interval,
            record.sink,
            record.state,
            f"{record.counts.scored:,}",
            f"{record.counts.dead_letter:,}",
            str(len(record.partitions)),
            record.ended_at,
            record.run_id,
        )
        for record in records
    ]
    colours = {"published": "green", "failed": "red", "cancelled": "yellow", "died": "yellow"}
    print_table(names, rows, right={"rows", "dead letter", "partitions"}, colours=("state", colours))
    console = plain_console()
    for record in records:
        if record.error:
            console.print(f"{record.interval}: {record.error}", markup=False)
