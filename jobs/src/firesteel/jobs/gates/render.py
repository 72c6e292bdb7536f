"""Render expectations and their results as text for messages and the report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from firesteel.conf.quantities import plural
from firesteel.jobs.gates.check import DRIFT, FREE, ROW_COUNT_MATCHES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import JsonValue

    from firesteel.pipelines.plan.model import Expectation
    from firesteel.pipelines.result import ExpectationResult

_COLUMN_KEYS = {"column", "column_A", "column_B", "column_list"}
_BOUNDS = {"min_value", "max_value", "strict_min", "strict_max"}
_MAX_CHARACTERS = 120
"""Maximum length of a rendered value."""


def render_expected(expectation: Expectation) -> str:
    """Render the arguments of an expectation: `0 to 1, at least 95 % of rows`."""
    kwargs = {key: value for key, value in expectation.kwargs if key not in FREE and key not in _COLUMN_KEYS}
    if expectation.type == ROW_COUNT_MATCHES:
        subtracted = f" minus {str(kwargs['less']).replace('_', ' ')}s" if kwargs.get("less") else ""
        return f"row count of {kwargs['of']}{subtracted}"
    if expectation.type == DRIFT:
        return _limits(kwargs)
    mostly = kwargs.pop("mostly", None)
    parts = [text for text in (_bounds(kwargs),) if text]
    parts += [
        f"{key.rstrip('_').replace('_', ' ')} {_short(value)}" for key, value in kwargs.items() if key not in _BOUNDS
    ]
    if mostly is not None:
        parts.append(f"at least {percent(float(mostly))} of rows")  # type: ignore[arg-type]  # checked at validation
    elif not parts:
        parts.append("all rows" if expectation.type.startswith("expect_column_values") else "")
    return ", ".join(part for part in parts if part)


def render_observed(result: ExpectationResult) -> str:
    """Render the result of an expectation: `12 of 1,000 rows fail (1.2 %)`."""
    rows, bad = result.element_count, result.unexpected_count
    if rows is not None and bad is not None:
        if not bad:
            return f"all {rows:,} rows pass" if rows else "no rows"
        share = f" ({percent(1 - result.observed)})" if isinstance(result.observed, float | int) else ""
        return f"{bad:,} of {rows:,} rows fail{share}"
    if result.observed is None:
        return "no value"
    if result.type == ROW_COUNT_MATCHES:
        return plural(int(str(result.observed)), "row")
    if result.type == DRIFT and isinstance(result.observed, dict):
        return _drift_result(result.observed)
    return _short(result.observed)


def _limits(kwargs: Mapping[str, JsonValue]) -> str:
    """Render the limits of a drift expectation."""
    renderers = {
        "psi_max": lambda value: f"PSI at most {value:g}",
        "null_rate_max_change": lambda value: f"null rate change at most {percent(value)}",
        "mean_shift_max": lambda value: f"mean shift at most {value:g} standard deviations",
    }
    limits = [render(kwargs[name]) for name, render in renderers.items() if kwargs.get(name) is not None]
    return f"{', '.join(limits)} against the last success"


def _drift_result(result: Mapping[str, JsonValue]) -> str:
    """Render a drift result: `PSI 0.31, null rate 2 % (baseline 1 %), mean 12.3 (baseline 10.1, shift 0.42 standard deviations)`."""
    parts = []
    if "psi" in result:
        parts.append(f"PSI {float(str(result['psi'])):.4g}")
    if "null_rate" in result:
        current, baseline = (float(str(result[name])) for name in ("null_rate", "null_rate_was"))
        parts.append(
            f"null rate {percent(current)}" + (f" (baseline {percent(baseline)})" if current != baseline else "")
        )
    if result.get("mean") is not None:
        shift = result["mean_shift"]
        shift_text = "infinite shift" if shift == "Infinity" else f"shift {shift:.3g} standard deviations"
        baseline_text = (
            f"baseline {_short(result['mean_was'])}" if result["mean_was"] is not None else "no baseline mean"
        )
        parts.append(f"mean {_short(result['mean'])} ({baseline_text}, {shift_text})")
    elif result.get("mean_was") is not None:
        parts.append(f"no mean (baseline {_short(result['mean_was'])})")
    return ", ".join(parts) or f"{result['rows']:,} rows"


def percent(fraction: float) -> str:
    """Format a fraction as `95 %` or `0.0123 %`. Only exact values give 0 % and 100 %."""
    value = fraction * 100
    for digits in (1, 2, 4, 6):
        text = f"{value:.{digits}f}"
        if 0 < float(text) < 100 or value in (0.0, 100.0):
            break
    return f"{text.rstrip('0').rstrip('.')} %"


def _bounds(kwargs: Mapping[str, JsonValue]) -> str:
    low, high = kwargs.get("min_value"), kwargs.get("max_value")
    lower = "above" if kwargs.get("strict_min") else "at least"
    upper = "below" if kwargs.get("strict_max") else "at most"
    if low is not None and high is not None and lower == "at least" and upper == "at most":
        return f"{_short(low)} to {_short(high)}"
    parts = [f"{lower} {_short(low)}" if low is not None else "", f"{upper} {_short(high)}" if high is not None else ""]
    return " and ".join(part for part in parts if part)


def _short(value: JsonValue) -> str:
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.6g}"
    if isinstance(value, list):
        text = ", ".join(_short(item) for item in value)
    elif isinstance(value, dict):
        text = ", ".join(f"{key.replace('_', ' ')} {_short(item)}" for key, item in value.items())
    else:
        text = str(value)
    return text if len(text) <= _MAX_CHARACTERS else text[: _MAX_CHARACTERS - 3] + "..."
