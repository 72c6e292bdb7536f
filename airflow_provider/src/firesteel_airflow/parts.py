"""The parts of a long range of days, by the calendar."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from typing import Literal

Every = Literal["day", "week", "month", "year"]


def parts(first: date, last: date, every: Every) -> Iterator[tuple[str, date, date]]:
    """Name, first and last day of each part; parts begin with the calendar's months, years and Mondays."""
    at = first
    while at <= last:
        after = _next(at, every)
        closes = min(after - timedelta(days=1), last)
        yield _name(at, every), at, closes
        at = after


def _next(at: date, every: Every) -> date:
    if every == "day":
        return at + timedelta(days=1)
    if every == "week":
        return at + timedelta(days=7 - at.weekday())
    if every == "month":
        return (at.replace(day=1) + timedelta(days=32)).replace(day=1)
    if every == "year":
        return at.replace(year=at.year + 1, month=1, day=1)
    raise ValueError(f"every={every!r}: choose day, week, month or year")


def _name(at: date, every: Every) -> str:
    return {"year": f"{at:%Y}", "month": f"{at:%Y-%m}"}.get(every, at.isoformat())


def day_of(value: str | date) -> date:
    """A day, from a date, a time, or text that begins with one."""
    if isinstance(value, datetime):
        return value.date()
    return value if isinstance(value, date) else date.fromisoformat(value[:10])
