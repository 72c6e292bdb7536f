"""`backfill`: score a long range of intervals with one fixed plan."""

from __future__ import annotations

from pathlib import Path

import click

from firesteel.conf.quantities import plural
from firesteel.jobs.cli.options import json_option, named, quiet_option, spec_options
from firesteel.jobs.cli.run_options import cluster_options, on_cluster, registered, run_id_option


@click.command()
@spec_options
@click.option("--start", required=True, callback=named, metavar="INTERVAL", help="First interval.")
@click.option("--end", required=True, callback=named, metavar="INTERVAL", help="Last interval (inclusive).")
@click.option("--resume", is_flag=True, help="Continue an earlier backfill of this range with its plan.")
@click.option(
    "--pin", is_flag=True, help="Make the plan and store it without scoring. Continue with --resume or --part."
)
@click.option(
    "--part", default="", metavar="A..B", help="Score only these intervals of the stored plan (both inclusive)."
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
    """Score every interval of a range that the same plan has not published yet.

    firesteel plans the whole range once, so one model version scores all intervals even if the alias changes. A failed
    interval does not stop the others; the exit code is that of the first failure. The plan is stored until all intervals
    are published: after a failure, `--resume` continues with it. With `--pin` and `--part`, several processes share the
    intervals of one plan, also on several machines.

    \b
    Examples:
      firesteel backfill --start 2013-01-01 --end 2013-12-31
      firesteel backfill --start 2013-01-01 --end 2013-12-31 --resume
      firesteel backfill --start 2013-01-01 --end 2013-12-31 --part 2013-03-01..2013-03-31
    """  # noqa: D301 - click wants a real backspace
    from firesteel.jobs.cli.console import show_result
    from firesteel.jobs.cli.progress import planning, running
    from firesteel.jobs.run import backfill as stored
    from firesteel.pipelines import Pipeline
    from firesteel.pipelines.planner.models import sets_python

    if pin + bool(part) + resume > 1:
        raise click.UsageError("--pin, --resume and --part exclude each other. Use one of them.")
    pipeline = Pipeline.load(spec, profile=profile, params=params)
    with registered(pipeline, run_id) as reporter:
        with planning(quiet=quiet or as_json) as on_progress:
            whole = stored.load_or_plan(
                pipeline,
                start,
                end,
                resume=resume or bool(part),
                other_python=sets_python(master or "", settings),
                on_progress=on_progress,
            )
        plan = on_cluster(
            stored.skip_published(stored.select_part(pipeline, whole, part) if part else whole), master, settings
        )
        if not (quiet or as_json):
            remaining = sum(interval.action != "skip" for interval in plan.intervals)
            versions = ", ".join(f"{model.name} v{model.version or '-'}" for model in plan.models)
            click.echo(
                f"{remaining:,} of {plural(len(plan.intervals), 'interval')} to score with {versions or 'no model'}.",
                err=True,
            )
        if pin:
            plan = stored.skip_all(plan)
        with running(plan, quiet=quiet or as_json) as on_event:
            result = Pipeline.run(plan, run_id=run_id, on_event=on_event, keep_going=True)
        if not (pin or part):
            stored.delete_if_complete(plan, start, end, result)
        show_result(result, as_json=as_json)
        reporter.result(result, plan)
    return result.exit_code
