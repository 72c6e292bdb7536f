"""`backfill`: a long range of intervals, by one pinned plan, to its end."""

from __future__ import annotations

from pathlib import Path

import click

from firesteel.jobs.cli.options import json_option, quiet_option, spec_options


@click.command()
@spec_options
@click.option("--start", required=True, metavar="INTERVAL", help="First interval.")
@click.option("--end", required=True, metavar="INTERVAL", help="Last interval, included.")
@click.option("--resume", is_flag=True, help="Go on with the plan that an earlier backfill of this range left.")
@json_option
@quiet_option
def backfill(
    spec: Path, profile: str, params: dict[str, str], start: str, end: str, resume: bool, as_json: bool, quiet: bool
) -> int:
    """Score every interval of a range that the ledger does not show as published by the same plan.

    The whole range is planned once: all of it is scored by one version of the model, also when the alias moves meanwhile. An
    interval that fails is reported, and the next ones go on; the exit code is that of the first failure. The plan is kept
    in the storage until all of it is published: after a kill or a failure, `--resume` goes on with it.

    \b
    Examples:
      firesteel backfill --start 2013-01-01 --end 2013-12-31
      firesteel backfill --start 2013-01-01 --end 2013-12-31 --resume
    """  # noqa: D301 - click wants a real backspace
    from firesteel.jobs.cli.progress import planning, running
    from firesteel.jobs.cli.show import show_result
    from firesteel.jobs.run.backfill import left_of, pinned, settle
    from firesteel.jobs.run.runner import run_plan
    from firesteel.pipelines import Pipeline

    pipeline = Pipeline.load(spec, profile=profile, params=params)

    with planning(quiet=quiet or as_json) as on_progress:
        made = left_of(pinned(pipeline, start, end, resume=resume, on_progress=on_progress))
    if not (quiet or as_json):
        todo = sum(each.action != "skip" for each in made.intervals)
        versions = ", ".join(f"{model.name} v{model.version or '-'}" for model in made.models)
        click.echo(f"{todo:,} of {len(made.intervals):,} intervals to score by {versions or 'SQL only'}.", err=True)
    with running(made, quiet=quiet or as_json) as on_event:
        result = run_plan(made, on_event=on_event, keep_going=True)
    settle(made, start, end, result)
    show_result(result, as_json=as_json)
    return result.exit_code
