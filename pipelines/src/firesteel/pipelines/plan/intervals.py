"""Intervals: an hour, a day or a month of local time, named by its start."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from firesteel.conf.errors import SpecError
from firesteel.pipelines.spec.model import Interval

MAX_INTERVALS = 100_000
_ARITHMETIC = re.compile(r"(\d{4}-\d{2}-\d{2})\s*([+-])\s*(\d{1,4})d")


@dataclass(frozen=True, slots=True)
class Slot:
    """One interval: `[start, end)` with the UTC offset of its zone, `ds` the local date it starts on."""

    id: str
    start: datetime
    end: datetime

    @property
    def names(self) -> dict[str, str]:
        """What `${interval.NAME}` stands for."""
        return {
            "id": self.id,
            "ds": self.start.date().isoformat(),
            "start": self.start.isoformat(),
            "end": self.end.isoformat(),
        }


def slots(interval: Interval, start: str, end: str) -> tuple[Slot, ...]:
    """All intervals from `start` to `end`, both included, each moved back by `lookback`.

    Raises
    ------
    SpecError
        FS1014 when a date is not of the unit's form, the order is wrong, or `start` is before `begin`.
    """
    zone = _zone(interval.timezone)
    first = _parse(interval, start, "start")
    last = _parse(interval, end, "end")
    begin = _parse(interval, interval.begin, "begin")
    if last < first:
        raise SpecError("FS1014", f"--end {end} is before --start {start}.")
    if first < begin:
        raise SpecError(
            "FS1014",
            f"--start {start} is before interval.begin {interval.begin}.",
            hint="Move interval.begin if older data is to be scored.",
        )
    for _ in range(interval.lookback):
        first = max(begin, _previous(first, interval.unit))
    return tuple(
        Slot(_label(at, interval.unit), at.replace(tzinfo=zone), _next(at, interval.unit).replace(tzinfo=zone))
        for at in _range(first, last, interval.unit)
    )


def date_values(text: str) -> str:
    """`2013-06-02 - 1d` -> `2013-06-01`; other text unchanged."""
    match = _ARITHMETIC.fullmatch(text.strip())
    if not match:
        return text
    days = int(match[3]) * (1 if match[2] == "+" else -1)
    return (date.fromisoformat(match[1]) + timedelta(days=days)).isoformat()


def date_range(first: str, last: str) -> tuple[str, ...]:
    """All days from `first` to `last`, both included. ValueError when they are not dates in order."""
    start, end = date.fromisoformat(first), date.fromisoformat(last)
    if end < start:
        raise ValueError(f"the range ends ({last}) before it starts ({first})")
    return tuple((start + timedelta(days=step)).isoformat() for step in range((end - start).days + 1))


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        raise SpecError("FS1014", f"interval.timezone `{name}` is not an IANA time zone.") from None


def _parse(interval: Interval, text: str, which: str) -> datetime:
    forms = {"hour": "2013-06-01T05", "day": "2013-06-01", "month": "2013-06"}
    try:
        if interval.unit == "month":
            return datetime.fromisoformat(f"{text[:7]}-01")
        at = datetime.fromisoformat(text)
        at = at.replace(tzinfo=None)
    except ValueError:
        raise SpecError(
            "FS1014",
            f"{which} {text!r} is not {'an' if interval.unit == 'hour' else 'a'} {interval.unit}.",
            hint=f"Write it like {forms[interval.unit]}.",
        ) from None
    at = at.replace(minute=0, second=0, microsecond=0)
    return at if interval.unit == "hour" else at.replace(hour=0)


def _label(at: datetime, unit: str) -> str:
    return at.strftime({"hour": "%Y-%m-%dT%H", "day": "%Y-%m-%d", "month": "%Y-%m"}[unit])


def _next(at: datetime, unit: str) -> datetime:
    if unit == "month":
        return at.replace(year=at.year + at.month // 12, month=at.month % 12 + 1)
    return at + (timedelta(hours=1) if unit == "hour" else timedelta(days=1))


def _previous(at: datetime, unit: str) -> datetime:
    if unit == "month":
        return (at - timedelta(days=1)).replace(day=1)
    return at - (timedelta(hours=1) if unit == "hour" else timedelta(days=1))


def _range(first: datetime, last: datetime, unit: str) -> Iterator[datetime]:
    at, count = first, 0
    while at <= last:
        count += 1
        if count > MAX_INTERVALS:
            raise SpecError("FS1014", f"more than {MAX_INTERVALS:,} intervals between --start and --end.")
        yield at
        at = _next(at, unit)
