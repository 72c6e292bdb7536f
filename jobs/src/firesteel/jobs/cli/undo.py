"""`rollback` and `cancel`: take back what a run did, or is about to do."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from firesteel.jobs.cli.options import json_option, named, param_options, spec_options


@click.command()
@spec_options
@click.option("--interval", required=True, callback=named, help="The interval to roll back, as `status` shows it.")
@click.option("--sink", default="", help="The sink. Default: the only one.")
@click.option(
    "--to", default="", metavar="RUN", help="Back to what this run published. Default: undo the newest publish."
)
@json_option
def rollback(
    spec: Path, profile: str, params: dict[str, str], interval: str, sink: str, to: str, as_json: bool
) -> None:
    """Bring back what an interval was before its newest publish, byte for byte; nothing is scored.

    Each publish retains what it replaces; `retain.versions` of the sink says how often. A rollback takes the lease, is
    journaled, and stands in ledger and audit log. It can be rolled back in turn. The next `run` scores the interval again,
    since what is published is then of another plan: mend the cause first.

    \b
    Examples:
      firesteel rollback --interval 2013-06-01
      firesteel rollback --interval 2013-06-01 --to 20130602T040000-1a2b3c
    """  # noqa: D301 - click wants a real backspace
    from firesteel.jobs.cli.area import open_area
    from firesteel.jobs.cli.ledger import show_records
    from firesteel.pipelines.publish.recover import person
    from firesteel.pipelines.publish.rollback import rollback as roll_back

    loaded, area = open_area(spec, profile, params)
    name = sink or next(iter(loaded.spec.sinks))
    if name not in loaded.spec.sinks:
        raise click.UsageError(f"no sink {name}. Sinks of the spec: {', '.join(loaded.spec.sinks)}.")
    target = loaded.spec.sinks[name]
    keep = target.retain.versions
    record = roll_back(area, name, target.path, interval, person("rollback"), to=to, keep_versions=keep)
    show_records([record], loaded.spec.name, as_json=as_json)


@click.command()
@click.argument("run", metavar="RUN")
@click.argument("spec", type=click.Path(path_type=Path), default=Path("pipeline.yaml"))
@param_options
@click.option("--no-signal", is_flag=True, help="Only forbid it to publish; do not ask its process to end.")
@json_option
def cancel(run: str, spec: Path, profile: str, params: dict[str, str], no_signal: bool, as_json: bool) -> int:
    """Stop a run: nothing of the interval that it is at work on will be published.

    That is decided at once and for good, wherever its driver is. A driver on this machine is also sent SIGTERM, and exits
    130; one elsewhere finds out when it comes to publish, and exits 7. Intervals that are published already stay. Exit 7
    when it is too late: `rollback` then takes back what it published.
    """
    from firesteel.jobs.cli.area import open_area
    from firesteel.pipelines.publish.cancel import cancel as cancel_run
    from firesteel.pipelines.publish.recover import person

    loaded, area = open_area(spec, profile, params)
    me = person("cancel")
    found = cancel_run(area, tuple(loaded.spec.sinks), run, who=f"{me.user}@{me.host}", signal=not no_signal)
    if as_json:
        click.echo(json.dumps([asdict(each) for each in found], indent=2))
    else:
        for each in found:
            what = (
                "cancelled; nothing of it will be published" if each.state == "cancelled" else "too late: it publishes"
            )
            click.echo(f"{each.sink} {each.interval}: {what}{'; its process was asked to end' if each.asked else ''}")
    return 7 if any(each.state == "too_late" for each in found) else 0
