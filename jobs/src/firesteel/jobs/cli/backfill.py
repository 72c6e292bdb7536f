"""`backfill`: a long range of intervals, by one pinned plan, to its end."""

from __future__ import annotations

from pathlib import Path

import click

from firesteel.jobs.cli.called import announced, cluster_options, on_cluster, run_id_option
from firesteel.jobs.cli.options import json_option, named, quiet_option, spec_options


@click.command()
@spec_options
@click.option("--start", required=True, callback=named, metavar="INTERVAL", help="First interval.")
@click.option("--end", required=True, callback=named, metavar="INTERVAL", help="Last interval, included.")
@click.option("--resume", is_flag=True, help="Go on with the plan that an earlier backfill of this range left.")
@click.option("--pin", is_flag=True, help="Only make and keep the plan; --resume or --part then go on with it.")
@click.option(
    "--part", default="", metavar="A..B", help="Only these intervals of the plan that was kept, both included."
)
@cluster_options
@run_id_option
@json_option
@quiet_option
def backfill(
    spec: Path,
    profile: str,
    params: dict[str, str],
    start: str,
    end: str,
    resume: bool,
    pin: bool,
    part: str,
    master: str | None,
    settings: dict[str, str],
    run_id: str,
    as_json: bool,
    quiet: bool,
) -> int:
    """Score every interval of a range that the ledger does not show as published by the same plan.

    The whole range is planned once: all of it is scored by one version of the model, also when the alias moves meanwhile. An
    interval that fails is reported, and the next ones go on; the exit code is that of the first failure. The plan is kept
    in the storage until all of it is published: after a kill or a failure, `--resume` goes on with it. `--pin` and `--part` cut the
    work into several calls, also at once and on several machines, by that one plan.

    \b
    Examples:
      firesteel backfill --start 2013-01-01 --end 2013-12-31
      firesteel backfill --start 2013-01-01 --end 2013-12-31 --resume
      firesteel backfill --start 2013-01-01 --end 2013-12-31 --part 2013-03-01..2013-03-31
    """  # noqa: D301 - click wants a real backspace
    from firesteel.jobs.cli.progress import planning, running
    from firesteel.jobs.cli.show import show_result
    from firesteel.jobs.run.backfill import left_of, only_planned, part_of, pinned, settle
    from firesteel.jobs.run.runner import run_plan
    from firesteel.pipelines import Pipeline

    if pin + bool(part) + resume > 1:
        raise click.UsageError("--pin, --resume and --part exclude each other: give one of them.")
    pipeline = Pipeline.load(spec, profile=profile, params=params)
    with announced(pipeline, run_id) as tell:
        with planning(quiet=quiet or as_json) as on_progress:
            whole = pinned(pipeline, start, end, resume=resume or bool(part), on_progress=on_progress)
        made = on_cluster(left_of(part_of(pipeline, whole, part) if part else whole), master, settings)
        if not (quiet or as_json):
            todo = sum(each.action != "skip" for each in made.intervals)
            versions = ", ".join(f"{model.name} v{model.version or '-'}" for model in made.models)
            click.echo(f"{todo:,} of {len(made.intervals):,} intervals to score by {versions or 'SQL only'}.", err=True)
        if pin:
            made = only_planned(made)
        with running(made, quiet=quiet or as_json) as on_event:
            result = run_plan(made, run_id=run_id, on_event=on_event, keep_going=True)
        if not (pin or part):
            settle(made, start, end, result)
        show_result(result, as_json=as_json)
        tell.result(result, made)
    return result.exit_code
