"""`submit`: the exact spark-submit line of a plan, printed or run."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from firesteel.jobs.cli.options import interval_options, spec_options


@click.command()
@spec_options
@interval_options
@click.option(
    "--master", default=None, help="Instead of the spec's resources.master: local[2], spark://HOST:PORT, yarn."
)
@click.option(
    "--py-files", type=click.Path(path_type=Path, exists=True), help="The firesteel wheel, for executors without it."
)
@click.option("--run", "execute", is_flag=True, help="Run the line; otherwise it is only printed.")
def submit(
    spec: Path,
    profile: str,
    params: dict[str, str],
    start: str,
    end: str | None,
    force: bool,
    master: str | None,
    py_files: Path | None,
    execute: bool,
) -> int:
    """Write the plan to .firesteel/plans and print the spark-submit line that executes it, or run that line."""
    from dataclasses import replace

    from firesteel.jobs.spark.submit import run_submission, submit_line
    from firesteel.pipelines import Pipeline

    made = Pipeline.load(spec, profile=profile, params=params).plan(start, end, force=force, wait=execute)
    if master:
        made = replace(made, master=master)
    folder = Path(".firesteel", "plans")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{made.short_hash}-{made.intervals[0].id}-{made.intervals[-1].id}.json"
    path.write_text(made.to_json(), encoding="utf-8")
    click.echo(shlex.join(submit_line(made, path, py_files)))
    return run_submission(made, path, py_files) if execute else 0
