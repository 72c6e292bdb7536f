"""Parsers of the spec's values: durations, sizes, and types of params and columns."""

from __future__ import annotations

import re
from datetime import date, datetime
from typing import TypeAlias

from firesteel.conf.files import unstorable
from firesteel.conf.types import ALIASES, NAMES

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(B|KiB|MiB|GiB|TiB|k|m|g)?")
_BYTES = {
    "B": 1,
    "KiB": 1 << 10,
    "MiB": 1 << 20,
    "GiB": 1 << 30,
    "TiB": 1 << 40,
    "k": 1 << 10,
    "m": 1 << 20,
    "g": 1 << 30,
}
MAX_SIZE = 1 << 62
"""Bytes; a JVM counts in 64-bit integers."""
_DECIMAL = re.compile(r"decimal\((\d{1,2}),\s*(\d{1,2})\)")
_COLUMN = re.compile(
    r"\s*(?P<name>\w+|`\w+`)(?:\s*:\s*|\s+)(?P<type>\S.*?)(?P<required>\s+NOT\s+NULL)?\s*", re.IGNORECASE
)
_TWO_WORDS = re.compile(r"\w\s+\w")
_NESTED = re.compile(r"(array|map|struct)<(.+)>", re.IGNORECASE)

PARAM_TYPES = ("string", "int", "double", "boolean", "date", "uri", "array<string>", "array<int>", "array<double>")

ParamValue: TypeAlias = "str | int | float | bool | list[str | int | float]"


def parse_duration(text: str | float) -> float:
    """Return the seconds in `90s`, `2h`, `30d` or a number of seconds. Raise ValueError for other text."""
    if isinstance(text, int | float):
        return float(text)
    match = _DURATION.fullmatch(text.strip())
    if not match:
        raise ValueError(f"`{text}` is not a duration; write 90s, 15m, 2h or 30d")
    return float(match[1]) * _SECONDS[match[2]]


def parse_size(text: str | int) -> int:
    """Return the bytes in `128MiB`, `8g` (Spark's notation) or a number of bytes. Raise ValueError for other text."""
    if isinstance(text, int):
        return text
    match = _SIZE.fullmatch(text.strip())
    if not match:
        raise ValueError(f"`{text}` is not a size; write 512KiB, 128MiB or 8g")
    size = float(match[1]) * _BYTES[match[2] or "B"]
    if size > MAX_SIZE:
        raise ValueError(f"`{text}` is too large; the limit is 4 EiB")
    return int(size)


def parse_column_type(text: str) -> tuple[str, bool]:
    """Return (Spark type, nullable) of `double`, `string!` (not null) or `array<double>`. Raise ValueError for other text."""
    bare = text.strip()
    nullable = not bare.endswith("!")
    return normal_type(bare.rstrip("!")), nullable


def parse_columns(text: str) -> dict[str, str]:
    """Return column -> type of columns as SQL declares them. Raise ValueError for other text.

    Examples
    --------
    >>> parse_columns("id BIGINT NOT NULL, price DECIMAL(10, 2), tags: array<string>")
    {'id': 'BIGINT!', 'price': 'DECIMAL(10, 2)', 'tags': 'array<string>'}
    """
    columns: dict[str, str] = {}
    for part in split_at_commas(text):
        match = _COLUMN.fullmatch(part)
        if not match:
            raise ValueError(f"`{part.strip()}` does not declare a column; write NAME TYPE, such as `price DOUBLE`")
        name = match["name"].strip("`")
        if name.lower() in {other.lower() for other in columns}:
            raise ValueError(f"`{name}` is declared twice")
        columns[name] = match["type"] + ("!" if match["required"] else "")
    return columns


def normal_type(text: str) -> str:
    """Return a Spark SQL type in its simple string form. Names of struct fields keep their case."""
    whole = re.sub(r"\s+", "", text)
    nested = None if _TWO_WORDS.search(text.strip()) else _NESTED.fullmatch(whole)  # `a b:int` is not a field
    if nested:
        kind, inner = nested[1].lower(), split_at_commas(nested[2])
        if kind == "array" and len(inner) == 1:
            return f"array<{normal_type(inner[0])}>"
        if kind == "map" and len(inner) == 2:
            return f"map<{normal_type(inner[0])},{normal_type(inner[1])}>"
        if kind == "struct":
            fields = [field.partition(":") for field in inner]
            if all(name and sign for name, sign, _ in fields):
                return f"struct<{','.join(f'{name}:{normal_type(type_)}' for name, _, type_ in fields)}>"
    bare = ALIASES.get(whole.lower(), whole.lower())
    if bare in NAMES:
        return bare
    if match := _DECIMAL.fullmatch(bare):
        return f"decimal({int(match[1])},{int(match[2])})"
    raise ValueError(
        f"`{text}` is not a column type; known: {', '.join(sorted(NAMES))}, decimal(p,s), array<type>, "
        "map<type,type>, struct<name:type,...>"
    )


def split_at_commas(text: str) -> list[str]:
    """Split at the commas outside brackets."""
    parts, depth = [""], 0
    for char in text:
        depth += (char in "<(") - (char in ">)")
        if char == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += char
    return parts


def parse_param(type_: str, value: object) -> ParamValue:
    """Return a param's value in its declared type; convert text from the command line. Raise ValueError for other values."""
    if type_.startswith("array<"):
        items = value.split(",") if isinstance(value, str) else value
        if not isinstance(items, list):
            raise ValueError(f"expected a list or comma-separated text, found {_kind(value)}")
        inner = type_.removeprefix("array<").removesuffix(">")
        return [parsed for item in items if not isinstance(parsed := parse_param(inner, item), list)]
    if type_ in {"string", "uri"}:
        if not isinstance(value, str):
            raise ValueError(f"expected text, found {_kind(value)}")
        if why := unstorable(value):
            raise ValueError(f"{value!r} cannot be used: {why}")
        if type_ == "uri" and "://" not in value:
            raise ValueError("expected a URI such as hdfs://namenode:8020/ml or file:///tmp/demo")
        return value.rstrip("/") if type_ == "uri" else value
    if type_ == "date":
        return parse_date(value).isoformat()
    if type_ == "boolean":
        if isinstance(value, bool):
            return value
        if str(value).lower() in {"true", "false"}:
            return str(value).lower() == "true"
        raise ValueError(f"expected true or false, found {_kind(value)}")
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"expected a number, found {_kind(value)}")  # noqa: TRY004 - all parsers raise ValueError
    try:
        if type_ == "int":
            return int(value) if not isinstance(value, float) or value.is_integer() else _refuse_fraction(value)
        return float(value)
    except ValueError:
        raise ValueError(f"expected {'a whole number' if type_ == 'int' else 'a number'}, found {value!r}") from None


def _refuse_fraction(value: float) -> int:
    raise ValueError(value)


def parse_date(value: object) -> date:
    """Return an ISO date. Raise ValueError for other values."""
    if isinstance(value, datetime):
        return value.date()
    if isinstance(value, date):
        return value
    try:
        return date.fromisoformat(str(value).strip())
    except ValueError:
        raise ValueError(f"expected a date like 2013-06-01, found {value!r}") from None


def _kind(value: object) -> str:
    names = {dict: "a mapping", list: "a list", str: "text", bool: "a boolean", int: "a number", float: "a number"}
    return "nothing" if value is None else names.get(type(value), type(value).__name__)
