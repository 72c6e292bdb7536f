"""`test`: the cases beside a spec, rows in and rows out."""

from __future__ import annotations

from pathlib import Path

import click

from firesteel.jobs.cli.options import json_option, quiet_option, spec_options


@click.command()
@spec_options
@click.option(
    "--file",
    "files",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A test file; may be repeated. Default: tests/*.yaml beside the spec.",
)
@click.option("-k", "only", default="", metavar="TEXT", help="Only the cases whose names hold TEXT.")
@json_option
@quiet_option
def test(
    spec: Path, profile: str, params: dict[str, str], files: tuple[Path, ...], only: str, as_json: bool, quiet: bool
) -> int:
    """Run the cases beside a spec on a local Spark: rows in, rows out, by the code of a real run.

    Nothing is read from the storage and nothing is written to it. Exits 2 when a case fails or a file is wrong, 1 when the
    machine kept a case from running.
    """
    from firesteel.jobs.fixture.bind import Binder
    from firesteel.jobs.fixture.load import load_cases
    from firesteel.pipelines.backend import default_backend

    backend = default_backend()
    cases = Binder(spec, profile, params, backend).bind(load_cases(spec, files, only))

    from firesteel.jobs.fixture.result import exit_code
    from firesteel.jobs.fixture.run import run_cases
    from firesteel.jobs.fixture.show import Printer, as_dict

    printer = Printer(quiet=quiet or as_json)
    printer.start(len(cases))
    results = run_cases(cases, backend, printer.case)
    if as_json:
        click.echo(as_dict(results))
    else:
        printer.end(results)
    return exit_code(results)
