"""`plan`: show the work of a run before it starts."""

from __future__ import annotations

from pathlib import Path

import click

from firesteel.jobs.cli.files import write_text
from firesteel.jobs.cli.options import OutputFile, interval_options, json_option, quiet_option, spec_options


@click.command()
@spec_options
@interval_options
@click.option(
    "-o", "--output", type=OutputFile(), help="Write the plan to this file as JSON, for `apply`, `explain` and `diff`."
)
@json_option
@quiet_option
def plan(
    spec: Path,
    profile: str,
    params: dict[str, str],
    start: str,
    end: str | None,
    force: bool,
    output: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Fix input files, model version and SQL for a range of intervals, and show the action for each interval with its reason.

    Writes nothing to the storage.
    """
    from firesteel.jobs.cli.console import show_plan
    from firesteel.jobs.cli.progress import planning
    from firesteel.pipelines import Pipeline
    from firesteel.pipelines.publish.signers import write_plan

    pipeline = Pipeline.load(spec, profile=profile, params=params)
    with planning(quiet=quiet or as_json) as on_progress:
        plan = pipeline.plan(start, end, force=force, on_progress=on_progress)
    if output is not None:
        write_text(output, write_plan(plan))
    if as_json:
        click.echo(write_plan(plan), nl=False)
        return
    show_plan(plan)
    if output is not None:
        click.echo(f"wrote {output}")
