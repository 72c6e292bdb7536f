"""Format numbers, fractions and times for display."""

from __future__ import annotations

import datetime as dt

from firesteel.jobs.gates.render import percent


def count(value: float) -> str:
    """Format a count: `1,234`."""
    return f"{value:,.0f}"


def share(part: float, whole: float) -> str:
    """Format a part of a whole as `12.3 %`, or `-` if the whole is zero."""
    return percent(part / whole) if whole else "-"


def short(digest: str) -> str:
    """Return the first twelve digits of a hash."""
    return digest[:12]


def moment(text: str) -> str:
    """Format an ISO time as `2013-06-04 10:11:12 UTC`. Return other text unchanged."""
    try:
        time = dt.datetime.fromisoformat(text)
    except ValueError:
        return text
    zone = time.strftime("%Z") or "local time"
    return f"{time:%Y-%m-%d %H:%M:%S} {zone}"


def number(value: float) -> str:
    """Format a measured value with four significant digits: `0.1235`, `12.3`, `1,234`."""
    if value == 0:
        return "0"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
