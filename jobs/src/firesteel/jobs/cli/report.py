"""`report`: the path of a run's HTML report."""

from __future__ import annotations

from pathlib import Path

import click

from firesteel.conf.errors import SpecError
from firesteel.jobs.cli.options import json_option


@click.command()
@click.argument(
    "run", metavar="[RUN]", default="", help="Id of the run. Default: the latest run in the current folder."
)
@json_option
def report(run: str, as_json: bool) -> None:
    """Print the path of a run's HTML report, one page that needs no network.

    With --json, print the result of the run. A run writes its report to
    .firesteel/runs below the folder in which it was started, and logs a copy to MLflow.
    """
    folder = run_folder(run)
    click.echo((folder / "result.json").read_text(encoding="utf-8") if as_json else str(folder / "report.html"))


def run_folder(run: str) -> Path:
    """Return the folder of a run below the working directory; of the latest run if `run` is empty."""
    from firesteel.jobs.run.plan_runner import RUNS_FOLDER

    folder = Path.cwd() / RUNS_FOLDER
    known = sorted(path.parent.name for path in folder.glob("*/result.json"))
    if not known or (run and run not in known):
        what = f"{folder} has no report of run {run}." if run else f"{folder} has no reports."
        latest = f" The latest runs are {', '.join(known[-3:])}." if known else ""
        hint = "Call it in the folder in which the run was started, or open the copy in MLflow."
        raise SpecError("FS1000", f"{what}{latest}", hint=hint)
    return folder / (run or known[-1])
