"""Numbers for people."""

from __future__ import annotations

import datetime as dt

from firesteel.jobs.gates.words import percent


def count(value: float) -> str:
    """`1,234`."""
    return f"{value:,.0f}"


def share(part: float, whole: float) -> str:
    """`12.3 %` of a whole; a dash when there is no whole."""
    return percent(part / whole) if whole else "-"


def short(digest: str) -> str:
    """The first twelve digits of a hash."""
    return digest[:12]


def moment(text: str) -> str:
    """An ISO time to the second: `2013-06-04 10:11:12 UTC`; as it is when it is something else."""
    try:
        found = dt.datetime.fromisoformat(text)
    except ValueError:
        return text
    zone = found.strftime("%Z") or "local time"
    return f"{found:%Y-%m-%d %H:%M:%S} {zone}"


def number(value: float) -> str:
    """A measured value in at most four digits: `0.1235`, `12.3`, `1,234`."""
    if value == 0:
        return "0"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
