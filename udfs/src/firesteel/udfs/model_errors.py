"""Summarise a model's error in one line without row values."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

MESSAGE_CHARS = 300
_ENFORCEMENT = re.compile(r"Failed to enforce schema of data .*? Error: (?=.)", re.DOTALL)
_NUMBER = re.compile(r"(?<![\w.])[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?(?![\w.]*\w)")


def summarize_error(error: BaseException, row: Mapping[str, Any]) -> str:
    """Return the class of an error and the last line of its message, with `<value>` for each value of the row.

    Parameters
    ----------
    row
        The failed row, by column.

    Examples
    --------
    >>> summarize_error(ValueError("could not convert string to float: 'Zoe'"), {"name": "Zoe", "age": 3})
    "ValueError: could not convert string to float: <value>"
    """
    text = _ENFORCEMENT.sub("", str(error))  # MLflow prints the whole batch before the reason
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    values = [value for value in _values(row) if value is not None]
    line = lines[-1]
    texts = {str(value) for value in values if not isinstance(value, bool)} | {repr(value) for value in values}
    for value_text in sorted(texts - {"", "True", "False", "nan", "inf"}, key=len, reverse=True):
        line = re.sub(rf"(?<!\w){re.escape(value_text)}(?!\w)", "<value>", line)
    numbers = [float(value) for value in values if isinstance(value, int | float | Decimal)]
    line = _NUMBER.sub(lambda match: "<value>" if _is_one_of(match[0], numbers) else match[0], line)
    return f"{type(error).__name__}: {line[:MESSAGE_CHARS]}"


def _values(value: Any) -> Iterator[Any]:
    """Yield the value, or its nested values."""
    if isinstance(value, Mapping):
        for item in value.values():
            yield from _values(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _values(item)
    else:
        yield value


def _is_one_of(text: str, numbers: list[float]) -> bool:
    """Return whether a number equals one of `numbers`, possibly rounded."""
    return any(math.isclose(float(text), number, rel_tol=1e-3) for number in numbers)
