"""`audit`: who published what, and whether the log was changed."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from firesteel.jobs.cli.options import json_option, spec_options


@click.group()
def audit() -> None:
    """Show and verify the audit log: who published what, by which plan. Each entry holds the hash of the entry before."""


@audit.command("ls")
@spec_options
@json_option
def ls(spec: Path, profile: str, params: dict[str, str], as_json: bool) -> None:
    """List all entries, oldest first."""
    from firesteel.jobs.cli.state_store import open_state_store
    from firesteel.pipelines.publish.audit import read_audit

    _, store = open_state_store(spec, profile, params)
    entries = read_audit(store)
    if as_json:
        click.echo(json.dumps([asdict(each) for each in entries], indent=2))
        return
    for each in entries:
        click.echo(
            f"{each.at}  {each.user}@{each.host}  {each.action:8}  {each.sink} {each.interval}  "
            f"{each.files:>6,} files  plan {each.plan_hash[:12]}  run {each.run_id}"
        )


@audit.command("verify")
@spec_options
@json_option
def verify(spec: Path, profile: str, params: dict[str, str], as_json: bool) -> int:
    """Verify the hashes of the log, and compare the log with the ledger. Exits 1 when an entry was changed, removed or is missing."""
    from firesteel.jobs.cli.state_store import open_state_store
    from firesteel.pipelines.publish.audit import read_audit
    from firesteel.pipelines.publish.audit import verify as verify_log

    loaded, store = open_state_store(spec, profile, params)
    wrong = verify_log(store, tuple(loaded.spec.sinks))
    if as_json:
        click.echo(json.dumps({"ok": not wrong, "wrong": wrong}, indent=2))
    elif wrong:
        click.echo("\n".join(wrong))
    else:
        click.echo(f"{len(read_audit(store))} entries: the hashes are valid, and the ledger agrees with the log.")
    return 1 if wrong else 0
