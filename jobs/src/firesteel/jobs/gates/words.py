"""Expectations in words: what was expected and what was observed, for messages and the report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from firesteel.jobs.gates.check import FREE, ROW_COUNT_MATCHES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import JsonValue

    from firesteel.pipelines.plan.model import Expectation
    from firesteel.pipelines.result import ExpectationResult

_PLACES = {"column", "column_A", "column_B", "column_list"}
_BOUNDS = {"min_value", "max_value", "strict_min", "strict_max"}
_MOST = 120
"""Characters of a list of allowed values that are worth reading."""


def expected(expectation: Expectation) -> str:
    """The arguments in words: `0 to 1, for at least 95 % of rows`."""
    kwargs = {key: value for key, value in expectation.kwargs if key not in FREE and key not in _PLACES}
    if expectation.type == ROW_COUNT_MATCHES:
        less = f" less {str(kwargs['less']).replace('_', ' ')}" if kwargs.get("less") else ""
        return f"as many rows as {kwargs['of']}{less}"
    mostly = kwargs.pop("mostly", None)
    words = [text for text in (_bounds(kwargs),) if text]
    words += [
        f"{key.rstrip('_').replace('_', ' ')} {_short(value)}" for key, value in kwargs.items() if key not in _BOUNDS
    ]
    if mostly is not None:
        words.append(f"at least {percent(float(mostly))} of rows")  # type: ignore[arg-type]  # checked at validation
    elif not words:
        words.append("all rows" if expectation.type.startswith("expect_column_values") else "")
    return ", ".join(word for word in words if word)


def observed(result: ExpectationResult) -> str:
    """What was found, in words: `12 of 1,000 rows fail (1.2 %)`."""
    rows, bad = result.element_count, result.unexpected_count
    if rows is not None and bad is not None:
        if not bad:
            return f"all {rows:,} rows pass" if rows else "no rows"
        share = f" ({percent(1 - result.observed)})" if isinstance(result.observed, float | int) else ""
        return f"{bad:,} of {rows:,} rows fail{share}"
    if result.observed is None:
        return "no value"
    if result.type == ROW_COUNT_MATCHES:
        return f"{result.observed:,} rows"
    return _short(result.observed)


def percent(fraction: float) -> str:
    """A fraction for people: `95 %`, `0.0123 %`; never a rounded 0 % or 100 % for something in between."""
    value = fraction * 100
    for digits in (1, 2, 4, 6):
        text = f"{value:.{digits}f}"
        if 0 < float(text) < 100 or value in (0.0, 100.0):
            break
    return f"{text.rstrip('0').rstrip('.')} %"


def _bounds(kwargs: Mapping[str, JsonValue]) -> str:
    low, high = kwargs.get("min_value"), kwargs.get("max_value")
    above = "above" if kwargs.get("strict_min") else "at least"
    below = "below" if kwargs.get("strict_max") else "at most"
    if low is not None and high is not None and above == "at least" and below == "at most":
        return f"{_short(low)} to {_short(high)}"
    parts = [f"{above} {_short(low)}" if low is not None else "", f"{below} {_short(high)}" if high is not None else ""]
    return " and ".join(part for part in parts if part)


def _short(value: JsonValue) -> str:
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.6g}"
    if isinstance(value, list):
        text = ", ".join(_short(each) for each in value)
    elif isinstance(value, dict):
        text = ", ".join(f"{key.replace('_', ' ')} {_short(each)}" for key, each in value.items())
    else:
        text = str(value)
    return text if len(text) <= _MOST else text[: _MOST - 3] + "..."
