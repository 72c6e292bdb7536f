"""Options that verbs share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def pairs(_context: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """NAME=VALUE, repeated, as a mapping."""
    found = {}
    for text in values:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"`{text}` is not NAME=VALUE")
        found[name] = value
    return found


def spec_options(function: F) -> F:
    """SPEC, --profile and --param."""
    function = param_options(function)
    return click.argument("spec", type=click.Path(path_type=Path), default=Path("pipeline.yaml"))(function)


def param_options(function: F) -> F:
    """--profile and --param."""
    function = click.option(
        "--param",
        "params",
        multiple=True,
        metavar="NAME=VALUE",
        callback=pairs,
        help="A param's value; may be repeated.",
    )(function)
    return click.option("--profile", default="", help="A profile of the spec, merged over it.")(function)


def interval_options(function: F) -> F:
    """--start, --end and --force."""
    function = click.option(
        "--force", is_flag=True, help="Also intervals that are already published with the same plan hash."
    )(function)
    function = click.option(
        "--end", default=None, metavar="INTERVAL", help="Last interval, included. Default: the first."
    )(function)
    return click.option("--start", required=True, metavar="INTERVAL", help="First interval, e.g. 2013-06-01.")(function)


def json_option(function: F) -> F:
    """--json."""
    return click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output, for machines.")(
        function
    )


def quiet_option(function: F) -> F:
    """--quiet."""
    return click.option("--quiet", is_flag=True, help="No progress; only the result.")(function)
