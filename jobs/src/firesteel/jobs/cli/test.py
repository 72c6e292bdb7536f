"""`test`: run the test cases of a spec."""

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
    help="Run this test file. May be repeated. Default: tests/*.yaml beside the spec.",
)
@click.option("-k", "only", default="", metavar="TEXT", help="Run only the cases whose names contain TEXT.")
@json_option
@quiet_option
def test(
    spec: Path, profile: str, params: dict[str, str], files: tuple[Path, ...], only: str, as_json: bool, quiet: bool
) -> int:
    """Run the test cases of a spec on a local Spark, with the code of a real run: given rows in, expected rows out.

    Reads nothing from the storage and writes nothing to it. Exits 2 when a case fails or a file is wrong, and 1 when a case
    cannot run on this machine.
    """
    from firesteel.jobs.testing.bind import Binder
    from firesteel.jobs.testing.load import load_cases
    from firesteel.pipelines.backend import default_backend

    backend = default_backend()
    cases = Binder(spec, profile, params, backend).bind(load_cases(spec, files, only))

    from firesteel.jobs.testing.result import exit_code
    from firesteel.jobs.testing.run import run_cases
    from firesteel.jobs.testing.show import Printer, as_dict

    printer = Printer(quiet=quiet or as_json)
    printer.start(len(cases))
    results = run_cases(cases, backend, printer.case)
    if as_json:
        click.echo(as_dict(results))
    else:
        printer.end(results)
    return exit_code(results)
