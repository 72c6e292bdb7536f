"""Quantities in words."""

from __future__ import annotations

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def byte_size(count: float) -> str:
    """Bytes in the largest unit that leaves at least 1, in at most four digits: `999 B`, `1.5 KiB`, `132 MiB`.

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
    """`1 interval`, `7 intervals`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
