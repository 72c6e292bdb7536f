"""Numbers for people."""

from __future__ import annotations

import datetime as dt

from firesteel.jobs.gates.words import percent

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def count(value: float) -> str:
    """`1,234`."""
    return f"{value:,.0f}"


def byte_size(value: int) -> str:
    """`1.4 MiB`."""
    amount = float(value)
    for unit in _UNITS:
        if amount < 1024 or unit == _UNITS[-1]:
            break
        amount /= 1024
    return f"{amount:.0f} {unit}" if unit == "B" or amount >= 100 else f"{amount:.1f} {unit}"


def duration(seconds: float) -> str:
    """`40 ms`, `1.4 s`, `12 s`, `3 min 20 s`, `2 h 5 min`."""
    if seconds < 0.1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


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


def plural(number: int, one: str, many: str = "") -> str:
    """`1 interval`, `7 intervals`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def number(value: float) -> str:
    """A measured value in at most four digits: `0.1235`, `12.3`, `1,234`."""
    if value == 0:
        return "0"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
