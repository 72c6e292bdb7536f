"""Intervals: an hour, a day or a month of local time, named by its start.

A name covers all the time during which a local clock shows it. With daylight saving time, the repeated hour is one interval of two
hours, and the skipped hour is not an interval; days have 23, 24 or 25 hours.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import MAXYEAR, MINYEAR, UTC, datetime, timedelta, tzinfo
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import JsonValue

from firesteel.conf.errors import SpecError
from firesteel.pipelines.spec.model import Formatted, Interval, Latest, Range, Select, Spec, SqlStep
from firesteel.pipelines.spec.refs import INTERVAL_NAMES, IntervalReference, fill_within, interval_text, is_template

Unit = Literal["hour", "day", "month"]

MAX_INTERVALS = 100_000
FORMATS: dict[Unit, str] = {"hour": "%Y-%m-%dT%H", "day": "%Y-%m-%d", "month": "%Y-%m"}
"""Format of an interval's name, by unit."""

_EXAMPLES: dict[Unit, str] = {"hour": "2013-06-01T05", "day": "2013-06-01", "month": "2013-06"}
_NAMED = {"ds": "%Y-%m-%d", "ds_nodash": "%Y%m%d", "hour": "%H"}
"""Format of the values of `${interval.NAME}`."""
_STEPS: dict[str, Unit] = {"h": "hour", "d": "day", "mo": "month"}
_ARITHMETIC = re.compile(
    r"(?P<base>\d{4}-\d{2}(?:-\d{2}(?:T\d{2})?)?)\s*(?P<sign>[+-])\s*(?P<count>\d{1,6})(?P<step>h|d|mo)"
)
_LOOKS_SHIFTED = re.compile(r"\$\{interval\.\w+\}(\s+[+-]\s*\d|\s*[+-]\s*\d+\s*[A-Za-z]+\s*$)")
_FINER: dict[Unit, frozenset[Unit]] = {
    "hour": frozenset({"hour", "day", "month"}),
    "day": frozenset({"day", "month"}),
    "month": frozenset({"month"}),
}
"""The units that may be added to a value of each unit."""


@dataclass(frozen=True, slots=True)
class Slot:
    """One interval: `[start, end)` with the UTC offset of its time zone."""

    id: str
    start: datetime
    end: datetime

    def text(self, reference: IntervalReference) -> str:
        """Return the value of `${interval.NAME}`; `ds` is the local date of the start.

        Raise ValueError when the offset is finer than the value, or the result is not a date.
        """
        at = self.end if reference.name == "end" else self.start
        if reference.count:
            if _STEPS[reference.step] not in _FINER[self._unit_of(reference.name)]:
                raise ValueError(f"`{reference.step}` is finer than `interval.{reference.name}`")
            try:
                at = _plus(at.replace(tzinfo=None), _STEPS[reference.step], reference.count).replace(tzinfo=at.tzinfo)
            except OverflowError:
                raise ValueError(f"`{reference.name}` is out of the calendar") from None
        if reference.format:
            return at.strftime(reference.format)
        if reference.name == "id":
            return at.strftime(FORMATS[_unit_of(self.id)])
        return at.isoformat() if reference.name in {"start", "end"} else at.strftime(_NAMED[reference.name])

    def _unit_of(self, name: str) -> Unit:
        """Return the unit of `${interval.NAME}`: a date of an hour can move by hours."""
        unit = _unit_of(self.id)
        if name == "id" or unit == "hour":
            return unit
        return "day" if name in {"ds", "ds_nodash"} else "hour"

    @property
    def names(self) -> dict[str, str]:
        """Return the values of `${interval.NAME}` by name."""
        return {name: self.text(IntervalReference(name)) for name in INTERVAL_NAMES}


def slots(interval: Interval, start: str, end: str) -> tuple[Slot, ...]:
    """Return all intervals from `start` minus `lookback` to `end`, both inclusive.

    Raises
    ------
    SpecError
        FS1014 when a date does not have the unit's format, `end` is before `start`, or `start` is before `begin`.
    """
    zone = _zone(interval.timezone)
    first = _parse(interval, start, "start", zone)
    last = _parse(interval, end, "end", zone)
    begin = _parse(interval, interval.begin, "begin", zone)
    if last < first:
        raise SpecError("FS1014", f"--end {end} is before --start {start}.")
    if first < begin:
        raise SpecError(
            "FS1014",
            f"--start {start} is before interval.begin {interval.begin}.",
            hint="Set interval.begin to an earlier date to score older data.",
        )
    intervals = []
    try:
        first = max(begin, _plus(first, interval.unit, -interval.lookback))
        for local in _range(first, last, interval.unit):
            opens, closes = (_instant(at, zone) for at in (local, _plus(local, interval.unit, 1)))
            if opens < closes:
                intervals.append(
                    Slot(local.strftime(FORMATS[interval.unit]), opens.astimezone(zone), closes.astimezone(zone))
                )
    except (ValueError, OverflowError) as error:
        raise SpecError("FS1014", f"--start {start} to --end {end}: {error}.") from None
    if not intervals:
        raise SpecError("FS1014", f"{start} does not exist in {interval.timezone}: daylight saving time skips it.")
    return tuple(intervals)


def check_timezone(interval: Interval) -> None:
    """Raise FS1014 when the time zone does not exist."""
    _zone(interval.timezone)


def check_begin(interval: Interval) -> None:
    """Raise FS1014 when `begin` does not have the unit's format."""
    _parse(interval, interval.begin, "interval.begin", ZoneInfo("UTC"))


def first_slots(interval: Interval) -> tuple[Slot, ...]:
    """Return example intervals: the first two from `begin`, and for hours the one a day later. Fewer at the end of the calendar."""
    zone = _zone(interval.timezone)
    whole = interval.model_copy(update={"lookback": 0})
    count = 25 if interval.unit == "hour" else 2
    examples: list[Slot] = []
    local = _parse(interval, interval.begin, "interval.begin", zone)
    try:
        while len(examples) < count:
            if _instant(local, zone) < _instant(
                _plus(local, interval.unit, 1), zone
            ):  # daylight saving time skips others
                label = local.strftime(FORMATS[interval.unit])
                examples += slots(whole, label, label)
            local = _plus(local, interval.unit, 1)
    except (ValueError, OverflowError, SpecError):
        pass
    return tuple(examples[index] for index in sorted({0, 1, count - 1}) if index < len(examples))


def fill(template: str, slot: Slot) -> str:
    """Return a template of `select` or `args` for one interval, with references resolved and offsets applied.

    Raise ValueError when an offset cannot be computed.

    Examples
    --------
    >>> day = slots(Interval(column="dt", begin="2013-01-01"), "2013-06-02", "2013-06-02")[0]
    >>> fill("${interval.ds} - 1d", day), fill("day $${x} ${interval.ds}", day)
    ('2013-06-01', 'day ${x} 2013-06-02')
    """
    replaced = interval_text(template, slot.text)
    text = shifted(replaced)
    if text == replaced and _LOOKS_SHIFTED.search(template):
        raise ValueError(f"`{template}` cannot be computed; write it like `${{interval.ds}} - 1d`, with h, d or mo")
    return text


def selected_values(select: Select, slot: Slot) -> tuple[str, ...]:
    """Return the partition values that a `select` names for one interval. Raise ValueError when they cannot be computed.

    For `latest`, these are the values of the interval itself: the newest that the partition may have.
    """
    if isinstance(select, Range):
        return tuple(dict.fromkeys(text for (text,) in range_rows(select, [select.format], slot)))
    if isinstance(select, Formatted | Latest):
        return formatted_values(select.format, slot)
    items = (select,) if isinstance(select, str) else select
    return tuple(dict.fromkeys(fill(item, slot) for item in items))


def names_interval(select: Select) -> bool:
    """Return whether the selected values depend on the interval."""
    if isinstance(select, Formatted | Latest):
        return True
    texts = (select.from_, select.to) if isinstance(select, Range) else (select,) if isinstance(select, str) else select
    return any("${interval." in str(text) for text in texts)


def formatted_values(format_: str, slot: Slot) -> tuple[str, ...]:
    """Return the values of a format that occur in an interval, in local time.

    Examples
    --------
    >>> day = slots(Interval(column="dt", begin="2013-01-01"), "2013-06-02", "2013-06-02")[0]
    >>> formatted_values("%Y%m%d", day), len(formatted_values("%H", day))
    (('20130602',), 24)
    """
    return tuple(text for (text,) in formatted_rows([format_], slot))


def formatted_rows(formats: Sequence[str], slot: Slot) -> tuple[tuple[str, ...], ...]:
    """Return the values that some formats have together in an interval, in local time and in order."""
    return _rows(formats, slot.start.tzinfo, slot.start.astimezone(UTC), slot.end.astimezone(UTC))


def range_rows(select: Range, formats: Sequence[str | None], slot: Slot) -> tuple[tuple[str, ...], ...]:
    """Return the values that some formats have together in the hours, days or months of a range. None stands for ISO 8601.

    Raise ValueError when the range cannot be computed.
    """
    values = value_range(fill(select.from_, slot), fill(select.to, slot))
    zone = slot.start.tzinfo
    rows: dict[tuple[str, ...], None] = {}
    for text in values:
        unit = _unit_of(text)
        at = _local(text, unit)
        opens, closes = (local.replace(tzinfo=zone, fold=0).astimezone(UTC) for local in (at, _plus(at, unit, 1)))
        rows |= dict.fromkeys(_rows([format_ or FORMATS[unit] for format_ in formats], zone, opens, closes))
    return tuple(rows)


def _rows(formats: Sequence[str], zone: tzinfo | None, at: datetime, end: datetime) -> tuple[tuple[str, ...], ...]:
    step = timedelta(minutes=30) if any("H" in format_ for format_ in formats) else timedelta(hours=12)
    rows: dict[tuple[str, ...], None] = {}
    while at < end:  # through instants, so that an hour or a day that the zone skips has no value
        local = at.astimezone(zone)
        rows[tuple(local.strftime(format_) for format_ in formats)] = None
        at += step
    return tuple(rows)


def bound_args(spec: Spec, slot: Slot) -> tuple[tuple[str, tuple[tuple[str, JsonValue], ...]], ...]:
    """Return SQL step -> its args with their values for one interval, for steps whose args refer to the interval.

    Raises
    ------
    SpecError
        FS1004 when a template cannot be computed for this interval.
    """
    steps = {name: step.args for name, step in spec.steps.items() if isinstance(step, SqlStep)}
    try:
        return tuple(
            (name, tuple((arg, bound_arg(value, slot)) for arg, value in sorted(args.items())))
            for name, args in steps.items()
            if is_template(args)
        )
    except ValueError as error:
        raise SpecError("FS1004", f"`args` for the interval {slot.id}: {error}.") from None


def bound_arg(value: JsonValue, slot: Slot) -> JsonValue:
    """Return an arg's value for one interval. Raise ValueError when it cannot be computed."""
    return fill_within(value, lambda text: fill(text, slot) if is_template(text) else interval_text(text, None))


def shifted(text: str) -> str:
    """Return `2013-06-01` for `2013-06-02 - 1d`, `2013-06-01T22` for `2013-06-02T01 - 3h`, and other text unchanged.

    Raise ValueError when the offset is finer than the value, or the result is not a date.
    """
    match = _ARITHMETIC.fullmatch(text.strip())
    if not match:
        return text
    unit, step = _unit_of(match["base"]), _STEPS[match["step"]]
    if step not in _FINER[unit]:
        raise ValueError(f"`{text}` adds {match['step']} to a {unit}, which is coarser")
    count = int(match["count"]) * (1 if match["sign"] == "+" else -1)
    try:
        return _plus(_local(match["base"], unit), step, count).strftime(FORMATS[unit])
    except OverflowError:
        raise ValueError(f"`{text}` is out of the calendar") from None


def value_range(first: str, last: str) -> tuple[str, ...]:
    """Return all hours, days or months from `first` to `last`, both inclusive; their format gives the unit.

    Raise ValueError when the formats differ, `last` is before `first`, or the range is too long.
    """
    unit = _unit_of(first)
    if _unit_of(last) != unit:
        raise ValueError(f"the range goes from a {unit} ({first}) to a {_unit_of(last)} ({last})")
    start, end = _local(first, unit), _local(last, unit)
    if end < start:
        raise ValueError(f"the range ends ({last}) before it starts ({first})")
    return tuple(at.strftime(FORMATS[unit]) for at in _range(start, end, unit))


def _unit_of(text: str) -> Unit:
    for unit, example in _EXAMPLES.items():
        if len(text) == len(example):
            return unit
    raise ValueError(f"`{text}` is not a date; write it like {', '.join(_EXAMPLES.values())}")


def _local(text: str, unit: Unit) -> datetime:
    return datetime.strptime(text, FORMATS[unit])  # noqa: DTZ007 - partitions are named by local time


def _instant(local: datetime, zone: ZoneInfo) -> datetime:
    """Return the first instant at which a clock of the zone shows `local`; in a gap, the instant of the gap (fold=0, PEP 495)."""
    return local.replace(tzinfo=zone, fold=0).astimezone(UTC)


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        what = f"interval.timezone `{name}` is not an IANA time zone."
        raise SpecError("FS1014", what, hint="Write a name such as UTC or America/New_York.") from None


def _parse(interval: Interval, text: str, which: str, zone: ZoneInfo) -> datetime:
    """Return the local time of a text. A text with an offset, as from a scheduler, is converted to the zone."""
    try:
        if interval.unit == "month" and len(text) <= len(_EXAMPLES["day"]):
            return datetime.fromisoformat(f"{text[:7]}-01")
        at = datetime.fromisoformat(text)
        at = (at.astimezone(zone) if at.tzinfo else at).replace(tzinfo=None)
    except (ValueError, OverflowError):
        raise SpecError(
            "FS1014",
            f"{which} {text!r} is not a valid {interval.unit}.",
            hint=f"Write it like {_EXAMPLES[interval.unit]}.",
        ) from None
    at = at.replace(minute=0, second=0, microsecond=0)
    if interval.unit == "hour":
        return at
    return at.replace(hour=0, day=1) if interval.unit == "month" else at.replace(hour=0)


def _plus(at: datetime, unit: Unit, count: int) -> datetime:
    """Return the time `count` units later; a day after the end of the month becomes the month's last day."""
    if unit != "month":
        return at + count * (timedelta(hours=1) if unit == "hour" else timedelta(days=1))
    year, month = divmod(at.year * 12 + at.month - 1 + count, 12)
    if not MINYEAR <= year <= MAXYEAR:
        raise OverflowError("out of the calendar")
    first = at.replace(year=year, month=month + 1, day=1)
    last_day = ((first + timedelta(days=31)).replace(day=1) - timedelta(days=1)).day
    return first.replace(day=min(at.day, last_day))


def _range(first: datetime, last: datetime, unit: Unit) -> Iterator[datetime]:
    at, count = first, 0
    while at <= last:
        count += 1
        if count > MAX_INTERVALS:
            raise ValueError(f"more than {MAX_INTERVALS:,} intervals")
        yield at
        at = _plus(at, unit, 1)
