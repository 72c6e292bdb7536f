"""Formats of dates in directory names, as for `date` and Python's `strftime`: `%Y%m%d`, `%-m`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import MAXYEAR, date, datetime, timedelta
from functools import lru_cache
from typing import Literal

from firesteel.pipelines.spec.values import parse_column_type

PeriodUnit = Literal["hour", "day", "week", "month", "year"]

DIRECTIVES = ("%Y", "%m", "%-m", "%d", "%-d", "%H", "%-H", "%j", "%-j", "%G", "%V", "%-V", "%u", "%%")
"""Directives with one meaning on every machine and in every language. `%G`, `%V` and `%u` are year, week and day of ISO 8601."""
_DIRECTIVE = re.compile(r"%-?.?", re.DOTALL)
_NUMBER = re.compile(r"%[YG](%[mdHVju])*|%-[mdHVj]|%u")
"""Formats whose texts are numbers without leading zeros."""


_WIDTHS = {"Y": 4, "m": 2, "d": 2, "H": 2, "j": 3, "G": 4, "V": 2, "u": 1}
"""Digits of each directive, with leading zeros."""
_DAYS = (frozenset("Ymd"), frozenset("Yj"), frozenset("GVu"))
"""The directives that name a day together."""
_COARSER: dict[frozenset[str], PeriodUnit] = {
    frozenset("GV"): "week",
    frozenset("Ym"): "month",
    frozenset("Y"): "year",
}


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
    >>> split_format("integer %m")
    ('int', '%m')
    """
    head, space, rest = text.partition(" ")
    given, format_ = (head, rest.strip()) if space and "%" not in head else ("", text)
    try:
        check_date_format(format_)
    except ValueError as error:
        raise ValueError(f"`{format_}` {error}") from None
    return parse_column_type(given)[0] if given else type_of_format(format_), format_


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


def unit_of_formats(formats: Sequence[str]) -> PeriodUnit | None:
    """Return the length of the period that the values of some formats name together; None if they name no single period.

    Examples
    --------
    >>> unit_of_formats(["%Y", "%m", "%d"]), unit_of_formats(["%G-W%V"]), unit_of_formats(["%m"])
    ('day', 'week', None)
    """
    directives = frozenset(directive[-1] for text in formats for directive in _DIRECTIVE.findall(text)) - {"%"}
    if any(day <= directives for day in _DAYS):
        return "hour" if "H" in directives else "day"
    return _COARSER.get(directives)


def period(texts: Mapping[str, str]) -> tuple[datetime, datetime]:
    """Return the local start and end of the period that values name together; `texts` is format -> value.

    Raise ValueError, with a phrase, when a value does not have its format, or the values do not name one period.

    Examples
    --------
    >>> period({"%Y": "2024", "%-m": "2"})
    (datetime.datetime(2024, 2, 1, 0, 0), datetime.datetime(2024, 3, 1, 0, 0))
    """
    numbers: dict[str, int] = {}
    for format_, text in texts.items():
        numbers |= _numbers(format_, text)
    unit = unit_of_formats(list(texts))
    shown = ", ".join(f"`{value}`" for value in texts.values())
    problem = f"{shown} {'is not a date' if len(texts) == 1 else 'are not one date'}"
    try:
        start = _start(numbers)
        end = _next(start, unit)
    except (ValueError, KeyError, OverflowError):  # 31 February
        raise ValueError(problem) from None
    contradict = any(
        _numbers(format_, start.strftime(format_)) != _numbers(format_, text) for format_, text in texts.items()
    )
    if contradict or unit is None:
        raise ValueError(problem)
    return start, end


def _numbers(format_: str, text: str) -> dict[str, int]:
    """Return directive -> number. An int has no leading zeros, so that they may be missing at the start."""
    pattern, width = _pattern(format_)
    match = pattern.fullmatch(text) or (pattern.fullmatch(text.zfill(width)) if text.isdecimal() else None)
    if match is None:
        raise ValueError(f"`{text}` does not have the format {format_}")
    return {name: int(number) for name, number in match.groupdict().items()}


@lru_cache(maxsize=256)
def _pattern(format_: str) -> tuple[re.Pattern[str], int]:
    """Return the pattern of a format's values, and the length of a value with all leading zeros."""
    parts: list[str] = []
    width = position = 0
    seen: set[str] = set()
    for match in _DIRECTIVE.finditer(format_):
        literal, letter = format_[position : match.start()], match[0][-1]
        position = match.end()
        parts.append(re.escape(literal))
        width += len(literal) + _WIDTHS.get(letter, 1)
        if letter == "%":
            parts.append("%")
            continue
        digits = f"{{1,{_WIDTHS[letter]}}}" if "-" in match[0] else f"{{{_WIDTHS[letter]}}}"
        parts.append(f"(?P={letter})" if letter in seen else f"(?P<{letter}>[0-9]{digits})")
        seen.add(letter)
    rest = format_[position:]
    return re.compile("".join([*parts, re.escape(rest)])), width + len(rest)


def _start(numbers: Mapping[str, int]) -> datetime:
    hour = timedelta(hours=numbers.get("H", 0))
    days = [day for day in _DAYS if day <= numbers.keys()]
    if "Y" not in numbers or days[:1] == [_DAYS[2]]:
        first = date.fromisocalendar(numbers["G"], numbers["V"], numbers.get("u", 1))
    elif days[:1] == [_DAYS[1]]:
        first = date(numbers["Y"], 1, 1) + timedelta(days=numbers["j"] - 1)
    else:
        first = date(numbers["Y"], numbers.get("m", 1), numbers.get("d", 1))
    return datetime(first.year, first.month, first.day) + hour  # noqa: DTZ001 - partitions are named by local time


def _next(start: datetime, unit: PeriodUnit | None) -> datetime:
    """Return the start of the next period, at most the end of the calendar; `start` itself if there is no single period."""
    try:
        if unit in {"month", "year"}:
            months = start.year * 12 + start.month - 1 + (1 if unit == "month" else 12)
            return start.replace(year=months // 12, month=months % 12 + 1)
        steps = {"hour": timedelta(hours=1), "day": timedelta(days=1), "week": timedelta(days=7)}
        return start + steps.get(unit or "", timedelta())
    except (ValueError, OverflowError):
        return datetime(MAXYEAR, 12, 31, 23, 59, 59)  # noqa: DTZ001 - local time
