"""Split a long range of days into calendar parts."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from typing import Literal

Every = Literal["day", "week", "month", "year"]


def parts(first: date, last: date, every: Every) -> Iterator[tuple[str, date, date]]:
    """Return the name, the first and the last day of each part. Parts begin on Mondays, or with months or years."""
    day = first
    while day <= last:
        following = _next(day, every)
        yield _name(day, every), day, min(following - timedelta(days=1), last)
        day = following


def _next(day: date, every: Every) -> date:
    if every == "day":
        return day + timedelta(days=1)
    if every == "week":
        return day + timedelta(days=7 - day.weekday())
    if every == "month":
        return (day.replace(day=1) + timedelta(days=32)).replace(day=1)
    if every == "year":
        return day.replace(year=day.year + 1, month=1, day=1)
    raise ValueError(f"every={every!r}: choose day, week, month or year")


def _name(day: date, every: Every) -> str:
    return {"year": f"{day:%Y}", "month": f"{day:%Y-%m}"}.get(every, day.isoformat())


def day_of(value: str | date) -> date:
    """Return the day of a date, a time, or a text that begins with a date."""
    if isinstance(value, datetime):
        return value.date()
    return value if isinstance(value, date) else date.fromisoformat(value[:10])
