"""`data-docs`: the gate results of a run as Great Expectations Data Docs."""

from __future__ import annotations

from pathlib import Path

import click

from firesteel.conf.errors import SpecError
from firesteel.jobs.cli.report import run_folder


@click.command()
@click.argument(
    "run", metavar="[RUN]", default="", help="Id of the run. Default: the latest run in the current folder."
)
@click.option(
    "--output",
    "-o",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write the site to this folder. Several runs can share a folder.",
)
def data_docs(run: str, output: Path | None) -> None:
    """Build Great Expectations Data Docs from the gate results of a run, and print the path.

    The default folder is the folder of the run.
    """
    from firesteel.jobs.gates.data_docs import build_data_docs
    from firesteel.jobs.gates.validations import FILE, read_validations

    folder = run_folder(run)
    results = folder / FILE
    if not results.is_file():
        hint = "Give a run whose pipeline has gates."
        raise SpecError("FS1000", f"run {folder.name} has no gate results: {results} does not exist.", hint=hint)
    click.echo(str(build_data_docs(read_validations(results), output or folder / "data_docs")))
