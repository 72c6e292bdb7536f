"""`pack`: pack the Python environment for `submit --archive`."""

from __future__ import annotations

from pathlib import Path

import click

from firesteel.jobs.cli.options import OutputFile


@click.command()
@click.option(
    "-o",
    "--output",
    type=OutputFile(),
    default=Path("environment.tar.gz"),
    show_default=True,
    help="Write the archive to this file.",
)
@click.option("--without", multiple=True, metavar="PACKAGE", help="Leave a package out. May be repeated.")
def pack(output: Path, without: tuple[str, ...]) -> None:
    """Pack this virtual environment, with firesteel, for machines that have the same Python interpreter and nothing else.

    The jars of Spark are left out: containers use those of the cluster.
    """
    from firesteel.conf.quantities import byte_size, plural
    from firesteel.jobs.submit.environment import pack as write

    packed = write(output, without=without)
    click.echo(
        f"{output}: {plural(packed.files, 'file')}, {byte_size(output.stat().st_size)}, {byte_size(packed.unpacked_bytes)} unpacked. "
        f"Every machine needs {packed.interpreter}."
    )
