"""`init`: create a project."""

from __future__ import annotations

from contextlib import chdir
from pathlib import Path

import click


@click.command()
@click.argument(
    "folder",
    type=click.Path(path_type=Path),
    default=Path(),
    help="Folder of the project. Default: the current folder.",
)
@click.option(
    "--demo",
    type=click.Choice(["flights"]),
    help="Add real data (336,776 flights of 2013) and a trained, registered model, and start a first run.",
)
@click.option("--root", default=None, metavar="URI", help="Write the demo's data here. Default: file://FOLDER/data.")
@click.option("--run/--no-run", "first_run", default=True, help="Score the first day at the end of --demo.")
def init(folder: Path, demo: str | None, root: str | None, first_run: bool) -> int:
    """Create a project in FOLDER: a spec, its SQL and tests, and the schemas for editors. Keeps existing files."""
    from firesteel.jobs.project.create import create_flights, create_starter

    folder.mkdir(parents=True, exist_ok=True)
    if demo is None:
        for path in create_starter(folder):
            click.echo(f"wrote {path}")
        click.echo(f"Next: edit {folder / 'pipeline.yaml'}, then `firesteel validate` and `firesteel test`.")
        return 0
    create_flights(folder.resolve(), root, say=click.echo)
    if not first_run:
        return 0
    from firesteel.jobs.cli.main import invoke

    with chdir(folder):  # later reports of the project go to the same folder
        return invoke(["run", "--start", "2013-06-01"])
