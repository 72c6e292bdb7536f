"""`rollback` and `cancel`: revert a publish, and stop a run."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from firesteel.jobs.cli.options import json_option, named, param_options, spec_argument, spec_options


@click.command()
@spec_options
@click.option("--interval", required=True, callback=named, help="Interval to roll back, as `status` shows it.")
@click.option("--sink", default="", help="Sink to roll back. Default: the only sink.")
@click.option(
    "--to",
    default="",
    metavar="RUN",
    help="Restore the version that this run published. Default: revert the latest publish.",
)
@json_option
def rollback(
    spec: Path, profile: str, params: dict[str, str], interval: str, sink: str, to: str, as_json: bool
) -> None:
    """Restore an interval to its state before the latest publish, byte for byte. Scores no rows.

    Each publish keeps the files that it replaces; `retain.versions` of the sink is the number of versions to keep. A
    rollback is a transaction with a record in the ledger and in the audit log. You can roll back a rollback. Fix the cause
    before the next `run`: it scores the interval again, because the restored rows belong to another plan.

    \b
    Examples:
      firesteel rollback --interval 2013-06-01
      firesteel rollback --interval 2013-06-01 --to 20130602T040000-1a2b3c
    """  # noqa: D301 - click wants a real backspace
    from firesteel.jobs.cli.ledger import show_records
    from firesteel.jobs.cli.state_store import open_state_store, settle
    from firesteel.pipelines.publish.recover import person
    from firesteel.pipelines.publish.rollback import rollback as roll_back

    loaded, store = open_state_store(spec, profile, params)
    name = sink or next(iter(loaded.spec.sinks))
    if name not in loaded.spec.sinks:
        raise click.UsageError(f"no sink {name}. Sinks of the spec: {', '.join(loaded.spec.sinks)}.")
    target = loaded.spec.sinks[name]
    keep = target.retain.versions
    record = roll_back(store, name, target.path, interval, person("rollback"), to=to, keep_versions=keep)
    settle(loaded, store)
    show_records([record], loaded.spec.name, as_json=as_json)


@click.command()
@click.argument("run", metavar="RUN", help="Id of the run, as `status` shows it.")
@spec_argument()
@param_options
@click.option("--no-signal", is_flag=True, help="Forbid the run to publish, but do not signal its process.")
@json_option
def cancel(run: str, spec: Path, profile: str, params: dict[str, str], no_signal: bool, as_json: bool) -> int:
    """Cancel a run. Intervals that are not published yet are discarded.

    The cancellation takes effect at once. A driver of the same user on this machine gets SIGTERM and exits 130. Any other
    driver exits 7 when it tries to publish. Published intervals do not change. Exits 7 if an interval is already being published:
    use `rollback` then.
    """
    from firesteel.jobs.cli.state_store import open_state_store, settle
    from firesteel.pipelines.publish.cancel import cancel as cancel_run
    from firesteel.pipelines.publish.recover import person

    loaded, store = open_state_store(spec, profile, params)
    me = person("cancel")
    cancellations = cancel_run(store, tuple(loaded.spec.sinks), run, who=f"{me.user}@{me.host}", signal=not no_signal)
    settle(loaded, store)
    if as_json:
        click.echo(json.dumps([asdict(item) for item in cancellations], indent=2))
    else:
        for item in cancellations:
            outcome = "cancelled" if item.state == "cancelled" else "too late, the interval is being published"
            click.echo(f"{item.sink} {item.interval}: {outcome}{'; sent SIGTERM to its process' if item.asked else ''}")
    return 7 if any(item.state == "too_late" for item in cancellations) else 0
