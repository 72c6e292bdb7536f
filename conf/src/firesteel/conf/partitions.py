"""Partition directories: names, values, and the files in them that hold data, by the rules of Spark and Hive."""

from __future__ import annotations

import re
from datetime import date, datetime
from decimal import Decimal
from urllib.parse import unquote

from firesteel.conf.types import INTEGER_BITS

_ESCAPED = frozenset("\"#%'*/:=?\\{[]^\x7f" + "".join(map(chr, range(1, 32))))
"""Characters that Spark writes as %XX in the names of partition directories (ExternalCatalogUtils.escapePathName)."""

NULL_DIRECTORY = "__HIVE_DEFAULT_PARTITION__"
"""The directory value for null."""
PartitionValue = str | int | float | bool | date | datetime | Decimal | None

_INTEGER = re.compile(r"[+-]?\d+", re.ASCII)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_FIXED = re.compile(r"[+-]?(\d+)(?:\.(\d+))?", re.ASCII)
_DATE = re.compile(r"(\d{4})(?:-(\d{1,2})(?:-(\d{1,2}))?)?", re.ASCII)
_TIMESTAMP = re.compile(
    r"(\d{4})-(\d{1,2})-(\d{1,2})(?:[ T](\d{1,2})(?::(\d{1,2})(?::(\d{1,2})(?:\.(\d{1,6}))?)?)?)?", re.ASCII
)
_NOT_ASCII = re.compile(r"%[89a-fA-F][0-9a-fA-F]")
_HIDDEN_SUFFIXES = ("._COPYING_", ".tmp")
"""Unfinished files: `hdfs dfs -put` and many other writers use these suffixes."""


def partition_name(column: str, value: str) -> str:
    """Return the directory name `column=value` with Spark's escapes.

    Examples
    --------
    >>> partition_name("origin", "a/b")
    'origin=a%2Fb'
    """
    return f"{column}=" + "".join(f"%{ord(char):02X}" if char in _ESCAPED else char for char in value)


def values_of(directory: str) -> dict[str, str]:
    """Return the column values in a partition's path, as text.

    Examples
    --------
    >>> values_of("dt=2013-06-01/origin=a%2Fb")
    {'dt': '2013-06-01', 'origin': 'a/b'}
    >>> values_of("2013/06/01")
    {}
    """
    pairs = (part.partition("=") for part in directory.split("/"))
    return {column: unquote(value) for column, sign, value in pairs if column and sign}


def is_data(path: str) -> bool:
    """Return whether a file is data, by its path below the root.

    Names that start with `.`, and names that start with `_` and contain no `=`, are hidden, as in Spark
    (PartitioningAwareFileIndex). Files that end in `._COPYING_` or `.tmp` are unfinished.
    """
    return not path.endswith(_HIDDEN_SUFFIXES) and not any(
        part.startswith(".") or (part.startswith("_") and "=" not in part) for part in path.split("/")
    )


def parse_directory(name: str, column: str, kind: str) -> PartitionValue:
    """Return the value in a directory's name, given the expected column and its Spark type.

    Raises
    ------
    ValueError
        The name is not `column=VALUE`, or the value is not of the type. The message is a phrase.

    Examples
    --------
    >>> parse_directory("hour=05", "hour", "int")
    5
    """
    key, sign, text = name.partition("=")
    if not sign or unquote(key) != column:
        raise ValueError(f"expected a directory named `{column}=VALUE`")
    if not text:
        raise ValueError("the value is empty")
    if _NOT_ASCII.search(text):
        raise ValueError("the value has escaped non-ASCII bytes, which Spark and Arrow decode differently")
    return None if text == NULL_DIRECTORY else parse_value(unquote(text), kind)


def parse_value(text: str, kind: str) -> PartitionValue:
    """Return the value of a text as Spark casts it for a partition column. Raise ValueError when it is not of the type.

    Examples
    --------
    >>> parse_value("2013-6-1", "date")
    datetime.date(2013, 6, 1)
    """
    value = _parsed(text, kind)
    if value is None:
        raise ValueError(f"`{text}` is not {'an' if kind == 'int' else 'a'} {kind}")
    return value


def parse_selected(text: str, kind: str) -> PartitionValue:
    """Return the value of a text in `select`. A date needs a day: `2013-06` is a month, not its first day.

    Raises
    ------
    ValueError
        The text is not a value of the type. The message is a phrase.

    Examples
    --------
    >>> parse_selected("05", "int"), parse_selected("__HIVE_DEFAULT_PARTITION__", "int")
    (5, None)
    """
    if text == NULL_DIRECTORY:
        return None
    if not text or "\0" in text:
        raise ValueError("the value is empty")  # Spark writes an empty string as null
    if kind in {"date", "timestamp", "timestamp_ntz"} and text.count("-") < 2:
        raise ValueError(f"`{text}` has no day")
    return parse_value(text, kind)


def is_selectable(text: str, kind: str) -> bool:
    """Return whether a text is a valid value of a partition column's type.

    Examples
    --------
    >>> is_selectable("2013-06-01", "int"), is_selectable("2013-06", "date")
    (False, False)
    """
    try:
        parse_selected(text, kind)
    except ValueError:
        return False
    return True


def value_text(value: PartitionValue) -> str:
    """Return a value as Spark writes it in a directory name, before escapes.

    Examples
    --------
    >>> value_text(datetime(2013, 6, 1, 5))
    '2013-06-01 05:00:00'
    """
    if value is None:
        return NULL_DIRECTORY
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime):
        text = value.isoformat(sep=" ", timespec="microseconds" if value.microsecond else "seconds")
        return text.rstrip("0") if value.microsecond else text
    return str(value)


def _parsed(text: str, kind: str) -> PartitionValue:
    if kind == "string":
        return text
    if kind in INTEGER_BITS:
        limit = 1 << (INTEGER_BITS[kind] - 1)
        return number if _INTEGER.fullmatch(text) and -limit <= (number := int(text)) < limit else None
    if kind == "boolean":
        return {"true": True, "false": False}.get(text.lower())
    if kind in {"float", "double"}:
        return float(text) if _NUMBER.fullmatch(text) else None
    if kind.startswith("decimal("):
        return _decimal(text, kind)
    if kind in {"timestamp", "timestamp_ntz"}:
        return _timestamp(text)
    return _date(text) if kind == "date" else None


def _decimal(text: str, kind: str) -> Decimal | None:
    """Spark reads `1.5` as 0.15 for decimal(5,2), so the text must have all digits after the point."""
    precision, scale = (int(part) for part in kind.removeprefix("decimal(").rstrip(")").split(","))
    match = _FIXED.fullmatch(text)
    whole, fraction = ("", "") if match is None else (match[1].lstrip("0"), match[2] or "")
    return Decimal(text) if match and len(fraction) == scale and len(whole) + scale <= precision else None


def _date(text: str) -> date | None:
    match = _DATE.fullmatch(text)
    try:
        return date(*(int(part or 1) for part in match.groups())) if match else None
    except ValueError:
        return None


def _timestamp(text: str) -> datetime | None:
    match = _TIMESTAMP.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second = (int(part or 0) for part in match.groups()[:6])
    try:
        return datetime(year, month, day, hour, minute, second, int((match[7] or "").ljust(6, "0")))  # noqa: DTZ001 - local
    except ValueError:
        return None
