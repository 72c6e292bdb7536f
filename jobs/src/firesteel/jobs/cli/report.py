"""`report`: the path of a run's HTML report."""

from __future__ import annotations

from pathlib import Path

import click

from firesteel.conf.errors import SpecError
from firesteel.jobs.cli.options import json_option


@click.command()
@click.argument("run", metavar="[RUN]", default="")
@json_option
def report(run: str, as_json: bool) -> None:
    """Print the path of a run's HTML report: one page that needs no network.

    RUN is the id of a run; by default the latest. With --json, print the result of the run. Reports are in .firesteel/runs below
    the folder in which the run was started. MLflow has a copy.
    """
    found = run_folder(run)
    click.echo((found / "result.json").read_text(encoding="utf-8") if as_json else str(found / "report.html"))


def run_folder(run: str) -> Path:
    """Return the folder of a run below the working directory; that of the latest run without a name."""
    from firesteel.jobs.run.plan_runner import RUNS_FOLDER

    folder = Path.cwd() / RUNS_FOLDER
    known = sorted(path.parent.name for path in folder.glob("*/result.json"))
    if not known or (run and run not in known):
        what = f"{folder} has no report of run {run}." if run else f"{folder} has no report."
        newest = f" The newest runs are {', '.join(known[-3:])}." if known else ""
        hint = "Run the command in the folder in which the run was started. MLflow has a copy of each report."
        raise SpecError("FS1000", f"{what}{newest}", hint=hint)
    return folder / (run or known[-1])
