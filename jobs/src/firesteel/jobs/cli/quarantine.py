"""`quarantine`: rows that gates excluded from scoring."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from firesteel.jobs.cli.console import plain_console
from firesteel.jobs.cli.options import json_option, spec_options


@click.group("quarantine")
def quarantine() -> None:
    """Show rows that failed an expectation with `on_fail: quarantine` and were not scored."""


@quarantine.command("ls")
@spec_options
@click.option("--interval", default="", help="Show only this interval.")
@json_option
def ls(spec: Path, profile: str, params: dict[str, str], interval: str, as_json: bool) -> None:
    """List quarantined rows by relation, interval and run, with the reasons and the path.

    The published rows were made without the rows that are `standing`. Other rows belong to runs that failed or were replaced.
    The rows are Parquet, partitioned by interval and run_id: spark.read.parquet("STORAGE/quarantine/RELATION").
    """
    from firesteel.jobs.cli.state_store import open_state_store
    from firesteel.jobs.run.staged_files import StagedFiles
    from firesteel.pipelines.publish.quarantine import quarantined

    loaded, store = open_state_store(spec, profile, params)
    found: list[dict[str, Any]] = []
    for each in quarantined(store, tuple(loaded.spec.sinks), interval):
        files = StagedFiles(store.storage, each.files)
        found.append(
            {
                "relation": each.relation,
                "interval": each.interval,
                "run_id": each.run_id,
                "rows": files.rows(),
                "standing": each.standing,
                "reasons": dict(files.reasons().most_common()),
                "path": f"{store.storage.base_uri}{each.path}",
            }
        )
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    if not found:
        click.echo(f"{loaded.spec.name}: nothing is in quarantine.")
        return
    console = plain_console()
    for row in found:
        standing = "standing" if row["standing"] else "not standing"
        head = f"[bold]{row['interval']}  {row['relation']}[/]"
        console.print(f"{head}  {row['rows']:,} rows, {standing}, run {row['run_id']}", soft_wrap=True)
        for reason, count in row["reasons"].items():
            console.print(f"  {count:>9,}  {reason}", soft_wrap=True)
        console.print(f"             {row['path']}", soft_wrap=True)
