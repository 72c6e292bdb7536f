"""`standing`: the state of intervals and of a run, for schedulers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from firesteel.jobs.cli.options import json_option, named, spec_options


@click.command()
@spec_options
@click.option("--start", required=True, callback=named, metavar="INTERVAL", help="First interval, or a time in it.")
@click.option(
    "--end", default=None, metavar="INTERVAL", help="Last interval (inclusive). Default: the value of --start."
)
@click.option("--run", default="", metavar="RUN", help="Also show this run: its --run-id, or the last part of it.")
@json_option
def standing(
    spec: Path, profile: str, params: dict[str, str], start: str, end: str | None, run: str, as_json: bool
) -> None:
    """Show the state of intervals, the runs that hold them now, and how a run with a --run-id ended.

    Schedulers read this output instead of exit codes: a driver that is killed after its journal has published, and
    spark-submit may return 0 for a failed run.

    \b
    Examples:
      firesteel standing --start 2013-06-01
      firesteel standing --start 2013-06-01T00:00:00+00:00 --run 20260502T031000-ab59cc --json
    """  # noqa: D301 - click wants a real backspace
    from firesteel.jobs.cli.state_store import open_state_store
    from firesteel.pipelines.plan.intervals import slots
    from firesteel.pipelines.publish.status import standing as what_stands

    loaded, store = open_state_store(spec, profile, params)
    sinks = {name: sink.path for name, sink in loaded.spec.sinks.items()}
    wanted = tuple(slot.id for slot in slots(loaded.spec.interval, start, end or start))
    found: dict[str, Any] = what_stands(store, sinks, wanted, run)
    if as_json:
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return
    _show(found)


def _show(found: dict[str, Any]) -> None:
    from rich.table import Table

    from firesteel.jobs.cli.console import plain_console

    console = plain_console()
    for run in found["runs"]:
        code = "" if run["exit_code"] is None else f", exit {run['exit_code']}"
        console.print(
            f"run {run['run_id']}: {run['state']}{code}, started {run['started_at']} by {run['user']}@{run['host']}"
        )
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("interval", "sink", "published by", "rows", "partitions", "newest attempt", "held by"):
        table.add_column(name, justify="right" if name in {"rows", "partitions"} else "left")
    for each in found["intervals"]:
        published, newest, held = each["published"], each["newest"], each["held_by"]
        table.add_row(
            each["interval"],
            each["sink"],
            published["run_id"] if published else "-",
            f"{published['rows']['scored']:,}" if published else "-",
            f"{published['partitions_total']:,}" if published else "-",
            f"{newest['state']}, {newest['ended_at']}" if newest else "-",
            f"{held['run_id']} ({held['user']}@{held['host']}, since {held['since']})" if held else "-",
        )
    console.print(table)
