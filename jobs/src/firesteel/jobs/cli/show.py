"""`show`: rows of a step."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from firesteel.jobs.cli.options import Fraction, json_option, named, param_options, spec_argument
from firesteel.jobs.cli.run_options import cluster_options, on_cluster

if TYPE_CHECKING:
    from firesteel.pipelines.plan.model import Plan


@click.command()
@click.argument("step", metavar="STEP", help="Name of a step or a source of the spec.")
@spec_argument()
@param_options
@click.option(
    "--interval", required=True, callback=named, metavar="INTERVAL", help="Interval to read, such as 2013-06-01."
)
@click.option(
    "--limit", type=click.IntRange(min=1), default=20, show_default=True, help="Maximum number of rows to print."
)
@click.option(
    "--sample",
    type=Fraction(),
    default=None,
    metavar="PART",
    help="Use this fraction of the rows, such as 1%. For a scored step, sample the input of the model; otherwise, sample the step.",
)
@cluster_options
@json_option
def show(
    step: str,
    spec: Path,
    profile: str,
    params: dict[str, str],
    interval: str,
    limit: int,
    sample: float | None,
    master: str | None,
    settings: dict[str, str],
    as_json: bool,
) -> None:
    """Print rows of a step or source for one interval, computed as a run computes them. Publishes nothing.

    Gates are not evaluated: rows that a gate would quarantine or drop are shown.

    \b
    Examples:
      firesteel show features --interval 2013-06-01
      firesteel show scored --interval 2013-06-01 --sample 1% --limit 5
    """  # noqa: D301 - click wants a real backspace
    from firesteel.pipelines import Pipeline

    plan = Pipeline.load(spec, profile=profile, params=params).plan(interval, force=True)
    columns, rows = _rows(on_cluster(plan, master, settings), step, sample, limit)
    if as_json:
        click.echo(json.dumps([dict(zip(columns, row, strict=True)) for row in rows], indent=2, ensure_ascii=False))
        return
    _print_table(columns, rows)


def _rows(plan: Plan, step: str, sample: float | None, limit: int) -> tuple[list[str], list[list[Any]]]:
    """Return the columns and at most `limit` rows, with values that JSON has."""
    from firesteel.jobs.preview.relation import preview
    from firesteel.jobs.spark.lower import spark_errors
    from firesteel.jobs.spark.session import open_session

    with open_session(plan) as session, spark_errors():
        frame = preview(session, plan, step, sample).frame
        rows = frame.limit(limit).collect()
    return frame.columns, [[_json_value(value) for value in row] for row in rows]


def _json_value(value: Any) -> Any:
    """Return a value of Spark as a JSON value. Values that JSON lacks, such as NaN, become text."""
    if isinstance(value, dict):
        return {str(key): _json_value(inner) for key, inner in value.items()}
    if hasattr(value, "asDict"):
        return _json_value(value.asDict())
    if isinstance(value, list | tuple):
        return [_json_value(inner) for inner in value]
    if isinstance(value, bytes | bytearray):
        return value.hex()
    if value is None or isinstance(value, bool | int | str) or (isinstance(value, float) and abs(value) < float("inf")):
        return value
    return str(value)


def _print_table(columns: list[str], rows: list[list[Any]]) -> None:
    from rich.markup import escape
    from rich.table import Table

    from firesteel.jobs.cli.console import plain_console

    table = Table(box=None, pad_edge=False, header_style="bold")
    numeric = [all(isinstance(row[index], int | float) for row in rows) for index in range(len(columns))]
    for name, right in zip(columns, numeric, strict=True):
        table.add_column(escape(name), justify="right" if right else "left")
    for row in rows:
        table.add_row(*("" if value is None else escape(_text(value)) for value in row))
    console = plain_console()
    console.print(table)
    console.print(f"{len(rows):,} {'row' if len(rows) == 1 else 'rows'}")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
