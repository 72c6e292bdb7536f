"""Expectations in words: what was expected and what was observed, for messages and the report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from firesteel.jobs.gates.check import DRIFT, FREE, ROW_COUNT_MATCHES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import JsonValue

    from firesteel.pipelines.plan.model import Expectation
    from firesteel.pipelines.result import ExpectationResult

_PLACES = {"column", "column_A", "column_B", "column_list"}
_BOUNDS = {"min_value", "max_value", "strict_min", "strict_max"}
_MOST = 120
"""Characters of a list of allowed values that are worth reading."""


def render_expected(expectation: Expectation) -> str:
    """The arguments in words: `0 to 1, for at least 95 % of rows`."""
    kwargs = {key: value for key, value in expectation.kwargs if key not in FREE and key not in _PLACES}
    if expectation.type == ROW_COUNT_MATCHES:
        less = f" less {str(kwargs['less']).replace('_', ' ')}" if kwargs.get("less") else ""
        return f"as many rows as {kwargs['of']}{less}"
    if expectation.type == DRIFT:
        return _limits(kwargs)
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


def render_observed(result: ExpectationResult) -> str:
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
    if result.type == DRIFT and isinstance(result.observed, dict):
        return _moved(result.observed)
    return _short(result.observed)


def _limits(kwargs: Mapping[str, JsonValue]) -> str:
    """What a drift gate allows."""
    words = {
        "psi_max": lambda value: f"PSI at most {value:g}",
        "null_rate_max_change": lambda value: f"null rate within {percent(value)}",
        "mean_shift_max": lambda value: f"mean within {value:g} standard deviations",
    }
    limits = [say(kwargs[name]) for name, say in words.items() if kwargs.get(name) is not None]
    return f"{', '.join(limits)} of the last success"


def _moved(found: Mapping[str, JsonValue]) -> str:
    """What a drift gate found: `PSI 0.31, nulls 2 % (were 1 %), mean 12.3 (was 10.1, 0.42 standard deviations off)`."""
    said = []
    if "psi" in found:
        said.append(f"PSI {float(str(found['psi'])):.4g}")
    if "null_rate" in found:
        now, was = (float(str(found[name])) for name in ("null_rate", "null_rate_was"))
        said.append(f"nulls {percent(now)}" + (f" (were {percent(was)})" if now != was else ""))
    if found.get("mean") is not None:
        shift = found["mean_shift"]
        by = "without a spread then" if shift == "Infinity" else f"{shift:.3g} standard deviations off"
        before = f"was {_short(found['mean_was'])}" if found["mean_was"] is not None else "was none"
        said.append(f"mean {_short(found['mean'])} ({before}, {by})")
    elif found.get("mean_was") is not None:
        said.append(f"no mean (was {_short(found['mean_was'])})")
    return ", ".join(said) or f"{found['rows']:,} rows"


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
