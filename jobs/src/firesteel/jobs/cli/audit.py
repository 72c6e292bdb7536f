"""`audit`: list the audit log and verify it."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path

import click

from firesteel.conf.errors import RuntimeFault
from firesteel.conf.quantities import plural
from firesteel.conf.signing import PublicKey
from firesteel.jobs.cli.files import read_text
from firesteel.jobs.cli.options import json_option, spec_options


@click.group()
def audit() -> None:
    """Show and verify the audit log: who published which interval, with which plan. Each entry holds the hash of the previous entry."""


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
        click.echo(json.dumps([asdict(entry) for entry in entries], indent=2))
        return
    for entry in entries:
        click.echo(
            f"{entry.at}  {entry.user}@{entry.host}  {entry.action:8}  {entry.sink} {entry.interval}  "
            f"{entry.files:>6,} files  plan {entry.plan_hash[:12]}  run {entry.run_id}"
        )


@audit.command("head")
@spec_options
def head(spec: Path, profile: str, params: dict[str, str]) -> None:
    """Print the number and the hash of the newest entry, to keep where writers of the storage cannot change it.

    \b
    Example:
      firesteel audit head >> /var/lib/auditor/heads
    """  # noqa: D301 - click wants a real backspace
    from firesteel.jobs.cli.state_store import open_state_store
    from firesteel.pipelines.publish.audit import head as head_of_log

    _, store = open_state_store(spec, profile, params)
    line = head_of_log(store)
    if line:
        click.echo(line)


@audit.command("verify")
@spec_options
@click.option(
    "--heads",
    type=click.Path(path_type=Path),
    default=None,
    metavar="FILE",
    help="Also compare the log with this file of earlier results of `audit head`.",
)
@click.option(
    "--key",
    "key_files",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="FILE",
    help="Require signatures by this public key in PEM. Repeat it for several keys. Default: the keys of the policies.",
)
@click.option(
    "--signed-from",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="NUMBER",
    help="The first entry that must be signed, if signing began later. Keep this number where only the auditor can write.",
)
@json_option
def verify(
    spec: Path,
    profile: str,
    params: dict[str, str],
    heads: Path | None,
    key_files: tuple[Path, ...],
    signed_from: int,
    as_json: bool,
) -> int:
    """Compare the audit log, the ledger and the files of the sinks, and verify the signatures of the log.

    Dead letters and quarantined rows are compared, too. Exits 1 if an entry, a record or a file is changed, lost or added, or if a signature
    is missing or not valid.

    Reads the files of a local sink; HDFS computes the checksums of its files itself. Run it while nothing is published.
    """
    from firesteel.jobs.cli.state_store import open_state_store
    from firesteel.pipelines.publish.audit import read_audit, verify_heads
    from firesteel.pipelines.publish.audit import verify as verify_log
    from firesteel.pipelines.publish.audit_signatures import verify_signatures
    from firesteel.pipelines.publish.policy import policies
    from firesteel.pipelines.publish.verify import verify_excluded, verify_files

    keys = [_public_key(path) for path in key_files]
    loaded, store = open_state_store(spec, profile, params)
    sinks = {name: sink.path for name, sink in loaded.spec.sinks.items()}
    files = verify_files(store, sinks)
    signatures = verify_signatures(store, sinks, keys, () if keys else policies(), signed_from)
    kept = {name: (sink.retain.dead_letter, sink.retain.quarantine) for name, sink in loaded.spec.sinks.items()}
    problems = [*verify_log(store, tuple(sinks)), *signatures.problems, *files.problems]
    problems += verify_excluded(store, kept, now_s=time.time())
    if heads is not None:
        problems += verify_heads(store, read_text(heads, "a list of heads"), str(heads))
    if as_json:
        result = {
            "ok": not problems,
            "wrong": problems,
            "unpublished": list(files.unpublished),
            "signatures_not_checked": signatures.unchecked,
        }
        click.echo(json.dumps(result, indent=2))
        return 1 if problems else 0
    if problems:
        click.echo("\n".join(problems))
    else:
        click.echo(
            f"{plural(len(read_audit(store)), 'entry', 'entries')}: the log, the ledger and the files of the sinks agree."
        )
    if signatures.unchecked:
        what = plural(signatures.unchecked, "signature")
        click.echo(f"{what} not checked: give the public key with --key, or list it in the policy.")
    if files.unpublished:
        click.echo(f"{len(files.unpublished):,} files are in partitions that no interval has published:")
        click.echo("\n".join(f"  {file}" for file in files.unpublished[:20]))
    return 1 if problems else 0


def _public_key(path: Path) -> PublicKey:
    try:
        return PublicKey.parse(read_text(path, "a public key"))
    except ValueError as error:
        hint = "Write it with `openssl pkey -in KEY -pubout`."
        raise RuntimeFault("FS9008", f"{path} is not a public key: {error}.", hint=hint) from None
