"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from firesteel.conf.errors import SpecError

F = TypeVar("F", bound=Callable[..., Any])


def check_text(args: Sequence[str]) -> None:
    """Refuse arguments that are not UTF-8 text: records, URIs and JSON cannot hold them."""
    for arg in args:
        if "\0" in arg or any("\ud800" <= character <= "\udfff" for character in arg):
            hint = "Give UTF-8 text. Rename a file whose name is not UTF-8."
            raise SpecError("FS1000", f"the argument {arg!r} is not valid UTF-8 text.", hint=hint)


def named(_context: click.Context, _option: click.Parameter, value: str) -> str:
    """Return the value of an option; refuse an empty one."""
    if value == "":
        raise click.BadParameter("the value is empty")
    return value


class OutputFile(click.Path):
    """The path of a file to write."""

    def __init__(self) -> None:
        super().__init__(dir_okay=False, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Refuse an empty path: `pathlib` reads it as the working directory."""
        if value == "":
            self.fail("The path is empty.", param, ctx)
        return super().convert(value, param, ctx)


class Fraction(click.ParamType):
    """A part of all rows: `1%` or `0.01`."""

    name = "fraction"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number, which is more than 0 and at most 1."""
        text = str(value).strip()
        try:
            number = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
        except ValueError:
            number = 0.0
        if not 0 < number <= 1:
            self.fail(f"`{value}` is not a part of the rows, such as 1% or 0.01", param, ctx)
        return number


def pairs(_context: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """Return repeated NAME=VALUE texts as a mapping."""
    mapping = {}
    for text in values:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"`{text}` is not NAME=VALUE")
        mapping[name] = value
    return mapping


def spec_argument(name: str = "spec", metavar: str = "[SPEC]", also: str = "") -> Callable[[F], F]:
    """Add the argument for the spec's file. `also` is what else the file may be."""
    return click.argument(
        name,
        metavar=metavar,
        type=click.Path(path_type=Path),
        default=Path("pipeline.yaml"),
        help=f"File of the pipeline spec{also}. Default: pipeline.yaml in the current folder.",
    )


def spec_options(function: F) -> F:
    """Add SPEC, --profile and --param."""
    return spec_argument()(param_options(function))


def param_options(function: F) -> F:
    """Add --profile and --param."""
    function = click.option(
        "--param",
        "params",
        multiple=True,
        metavar="NAME=VALUE",
        callback=pairs,
        help="Set a param of the spec. Repeat it for more params.",
    )(function)
    return click.option("--profile", default="", help="Apply a profile of the spec.")(function)


def interval_options(function: F) -> F:
    """Add --start, --end and --force."""
    function = click.option(
        "--force",
        is_flag=True,
        help="Score intervals again even if they are already published with the same plan hash.",
    )(function)
    function = click.option(
        "--end", default=None, metavar="INTERVAL", help="Last interval (inclusive). Default: the value of --start."
    )(function)
    return click.option(
        "--start", required=True, callback=named, metavar="INTERVAL", help="First interval, such as 2013-06-01."
    )(function)


def json_option(function: F) -> F:
    """Add --json."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON on standard output.")(function)


def quiet_option(function: F) -> F:
    """Add --quiet."""
    return click.option("--quiet", is_flag=True, help="Show only the result, without progress.")(function)
