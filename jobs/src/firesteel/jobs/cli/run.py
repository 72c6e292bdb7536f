"""`run` and `apply`: execute a plan."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from firesteel.jobs.cli.files import read_text
from firesteel.jobs.cli.options import Fraction, interval_options, json_option, quiet_option, spec_options
from firesteel.jobs.cli.run_options import cluster_options, on_cluster, registered, run_id_option

if TYPE_CHECKING:
    from firesteel.pipelines.plan.model import Plan
    from firesteel.pipelines.result import RunResult


@click.command()
@spec_options
@interval_options
@cluster_options
@run_id_option
@click.option(
    "--sample",
    type=Fraction(),
    default=None,
    metavar="PART",
    help="Score only this part of the rows, such as 1%, into a scratch folder, and publish nothing.",
)
@json_option
@quiet_option
def run(
    spec: Path,
    profile: str,
    params: dict[str, str],
    start: str,
    end: str | None,
    force: bool,
    master: str | None,
    settings: dict[str, str],
    run_id: str,
    sample: float | None,
    as_json: bool,
    quiet: bool,
) -> int:
    """Plan a range of intervals and execute the plan. Skips intervals that the same plan has already published.

    With --sample, score published intervals too, skip the gates, and write nothing to the ledger and to MLflow.
    """
    from firesteel.jobs.cli.progress import planning
    from firesteel.pipelines import Pipeline
    from firesteel.pipelines.planner.models import sets_python

    other = sets_python(master or "", settings)
    if sample is not None and run_id:
        raise click.UsageError("--sample publishes nothing, so it takes no --run-id.")
    pipeline = Pipeline.load(spec, profile=profile, params=params)
    if sample is not None:
        with planning(quiet=quiet or as_json) as on_progress:
            plan = pipeline.plan(start, end, force=True, wait=True, other_python=other, on_progress=on_progress)
        _sample(on_cluster(plan, master, settings), sample, as_json=as_json)
        return 0
    with registered(pipeline, run_id) as reporter:
        with planning(quiet=quiet or as_json) as on_progress:
            plan = pipeline.plan(start, end, force=force, wait=True, other_python=other, on_progress=on_progress)
        plan = on_cluster(plan, master, settings)
        result = _execute(plan, run_id=run_id, as_json=as_json, quiet=quiet)
        reporter.result(result, plan)
    return result.exit_code


@click.command()
@click.argument(
    "plan_file", type=click.Path(path_type=Path, exists=True), metavar="PLAN", help="File that `plan -o` has written."
)
@json_option
@quiet_option
def apply(plan_file: Path, as_json: bool, quiet: bool) -> int:
    """Execute a plan from a file, unchanged. Exits 6 if an input, the model or firesteel has changed since planning."""
    from firesteel.pipelines.plan.model import Plan

    plan = Plan.from_json(read_text(plan_file, "a plan"), plan_file.name)
    return _execute(plan, as_json=as_json, quiet=quiet).exit_code


def _execute(plan: Plan, *, run_id: str = "", as_json: bool, quiet: bool) -> RunResult:
    from firesteel.jobs.cli.console import show_result
    from firesteel.jobs.cli.progress import running
    from firesteel.pipelines import Pipeline

    with running(plan, quiet=quiet or as_json) as on_event:
        result = Pipeline.run(plan, run_id=run_id, on_event=on_event)
    show_result(result, as_json=as_json)
    return result


def _sample(plan: Plan, fraction: float, *, as_json: bool) -> None:
    """Score a sample, and print how many rows there are and where they lie."""
    from firesteel.jobs.preview.sample import score_sample

    intervals = score_sample(plan, fraction)
    if as_json:
        click.echo(json.dumps([asdict(interval) for interval in intervals], indent=2))
        return
    click.echo(f"SAMPLE  {plan.pipeline}  {fraction:.2%} of the rows; nothing was published")
    for interval in intervals:
        counts = f"{interval.rows_in:,} rows in, {interval.rows:,} written, {interval.failed:,} failed"
        click.echo(f"  {interval.interval}  {counts}  {interval.path}")
