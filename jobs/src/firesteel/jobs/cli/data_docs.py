"""`data-docs`: what the gates of a run found, as Great Expectations' Data Docs."""

from __future__ import annotations

from pathlib import Path

import click

from firesteel.conf.errors import SpecError
from firesteel.jobs.cli.report import run_folder


@click.command()
@click.argument("run", metavar="[RUN]", default="")
@click.option("--output", "-o", type=click.Path(file_okay=False, path_type=Path), help="The site's folder.")
def data_docs(run: str, output: Path | None) -> None:
    """Build Great Expectations' Data Docs from what the gates of a run found, and show where they lie.

    Without RUN, of the newest run; in its own folder, or in that of `--output`, where several runs may stand together.
    """
    from firesteel.jobs.gates.data_docs import build_data_docs
    from firesteel.jobs.gates.validations import FILE, read_validations

    folder = run_folder(run)
    found = folder / FILE
    if not found.is_file():
        hint = "Give a run whose pipeline has gates."
        raise SpecError("FS1000", f"run {folder.name} has no results of gates: {found} does not exist.", hint=hint)
    click.echo(str(build_data_docs(read_validations(found), output or folder / "data_docs")))
