"""Formats of dates in directory names, as for `date` and Python's `strftime`: `%Y%m%d`, `%-m`."""

from __future__ import annotations

import re

DIRECTIVES = ("%Y", "%m", "%-m", "%d", "%-d", "%H", "%-H", "%j", "%-j", "%G", "%V", "%-V", "%u", "%%")
"""Directives with one meaning on every machine and in every language. `%G`, `%V` and `%u` are year, week and day of ISO 8601."""
_DIRECTIVE = re.compile(r"%-?.?", re.DOTALL)
_NUMBER = re.compile(r"%[YG](%[mdHVju])*|%-[mdHVj]|%u")
"""Formats whose texts are numbers without leading zeros."""


def is_date_format(text: str) -> bool:
    """Return whether a partition's declaration is a format of dates and not a type."""
    return "%" in text


def check_date_format(text: str) -> None:
    """Raise ValueError with a phrase when a format has no directive, or one that is not known.

    Examples
    --------
    >>> check_date_format("%Y-%m-%d")
    """
    found = _DIRECTIVE.findall(text)
    if unknown := [directive for directive in found if directive not in DIRECTIVES]:
        raise ValueError(f"has the unknown directive `{unknown[0]}` (known: {', '.join(DIRECTIVES)})")
    if not set(found) - {"%%"}:
        raise ValueError(f"has no directive (known: {', '.join(DIRECTIVES)})")


def split_format(text: str) -> tuple[str, str]:
    """Return (type, format) of a partition's declaration with a format: `%Y%m%d`, or `string %Y%m%d`.

    Raise ValueError with a phrase when the format is not valid.

    Examples
    --------
    >>> split_format("%m"), split_format("int %m")
    (('string', '%m'), ('int', '%m'))
    """
    head, space, rest = text.partition(" ")
    given, format_ = (head, rest.strip()) if space and "%" not in head else ("", text)
    try:
        check_date_format(format_)
    except ValueError as error:
        raise ValueError(f"`{format_}` {error}") from None
    return given or type_of_format(format_), format_


def type_of_format(text: str) -> str:
    """Return the Spark type of a partition column with this format.

    `%Y-%m-%d` is a date, a number without leading zeros is an int, everything else is a string, which keeps zeros.

    Examples
    --------
    >>> type_of_format("%Y-%m-%d"), type_of_format("%Y%m%d"), type_of_format("%-m"), type_of_format("%m")
    ('date', 'int', 'int', 'string')
    """
    if text == "%Y-%m-%d":
        return "date"
    return "int" if _NUMBER.fullmatch(text) else "string"
