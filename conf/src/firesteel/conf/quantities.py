"""Formatting of sizes, counts and durations."""

from __future__ import annotations

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def byte_size(count: float) -> str:
    """Return a size in the largest unit in which it is at least 1: `999 B`, `1.5 KiB`, `132 MiB`.

    Examples
    --------
    >>> byte_size(1536)
    '1.5 KiB'
    """
    unit = 0
    while count >= 1024 and unit < len(_UNITS) - 1:
        count, unit = count / 1024, unit + 1
    return f"{count:,.0f} {_UNITS[unit]}" if unit == 0 or count >= 100 else f"{count:.1f} {_UNITS[unit]}"


def plural(number: int, one: str, many: str = "") -> str:
    """Return a count with its noun: `1 interval`, `7 intervals`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def age(seconds: float) -> str:
    """Return a duration of days or hours in the notation of the spec.

    Examples
    --------
    >>> age(259200), age(108000)
    ('3d', '30h')
    """
    hours = round(seconds / 3600)
    return f"{hours}h" if hours % 24 else f"{hours // 24}d"


def duration(seconds: float) -> str:
    """Return a duration such as `40 ms`, `1.4 s`, `12 s`, `3 min 20 s` or `2 h 5 min`."""
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
