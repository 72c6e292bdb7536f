"""`quarantine`: rows that gates excluded from scoring."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from firesteel.conf.quantities import plural
from firesteel.jobs.cli.console import plain_console
from firesteel.jobs.cli.options import json_option, spec_options


@click.group("quarantine")
def quarantine() -> None:
    """Show rows that failed an expectation with `on_fail: quarantine`, or could not be parsed, and were not scored."""


@quarantine.command("ls")
@spec_options
@click.option("--interval", default="", help="Show only this interval.")
@json_option
def ls(spec: Path, profile: str, params: dict[str, str], interval: str, as_json: bool) -> None:
    """List quarantined rows by relation, interval and run, with the reasons and the path.

    The current version of an interval excludes the rows that are `active`. Rows are `superseded` if their run failed or a
    later run replaced its version. Load them with spark.read.parquet("STORAGE/quarantine/RELATION").
    """
    from firesteel.jobs.cli.state_store import open_state_store
    from firesteel.jobs.run.staged_files import StagedFiles
    from firesteel.pipelines.publish.quarantine import quarantined

    loaded, store = open_state_store(spec, profile, params)
    rows: list[dict[str, Any]] = []
    for record in quarantined(store, loaded.sink_uris, interval):
        files = StagedFiles(store.storage, record.files)
        rows.append(
            {
                "relation": record.relation,
                "interval": record.interval,
                "run_id": record.run_id,
                "rows": files.rows(),
                "state": record.state,
                "reasons": dict(files.reasons().most_common()),
                "path": f"{store.storage.base_uri}{record.path}",
            }
        )
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    if not rows:
        click.echo(f"{loaded.spec.name}: no quarantined rows.")
        return
    console = plain_console()
    for row in rows:
        head = f"[bold]{row['interval']}  {row['relation']}[/]"
        console.print(f"{head}  {plural(row['rows'], 'row')}, {row['state']}, run {row['run_id']}", soft_wrap=True)
        for reason, count in row["reasons"].items():
            console.print(f"  {count:>9,}  {reason}", soft_wrap=True)
        console.print(f"             {row['path']}", soft_wrap=True)
