"""`pack`: the Python environment as one archive, for `submit --archive`."""

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
    help="The archive to write.",
)
@click.option("--without", multiple=True, metavar="PACKAGE", help="A package to leave out; may be repeated.")
def pack(output: Path, without: tuple[str, ...]) -> None:
    """Pack this virtual environment, firesteel included, for machines that have the same interpreter and nothing else.

    Spark's own jars are left out: containers run with the cluster's.
    """
    from firesteel.conf.quantities import byte_size
    from firesteel.jobs.spark.environment import pack as write

    packed = write(output, without=without)
    click.echo(
        f"{output}: {packed.files:,} files, {byte_size(output.stat().st_size)}, {byte_size(packed.unpacked_bytes)} unpacked. "
        f"Every machine needs {packed.interpreter}."
    )
