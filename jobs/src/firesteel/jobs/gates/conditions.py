"""Check the SQL and the values in the arguments of an expectation: Spark runs them, so they must be as pinned as the SQL of a step."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from firesteel.conf.errors import FiresteelError, Where
from firesteel.pipelines.sql.hermetic import is_special_time, outside_errors, unpinned_errors
from firesteel.pipelines.sql.select import SqlText, parse_select

BATCH = "tmp_view"
"""The view that Great Expectations makes of the checked rows."""
_PLACEHOLDER = re.compile(r"\{\{|\}\}|\{batch\}")
_QUOTED = re.compile(r"\"([^\"]*)\"|'([^']*)'")


def unpinned_argument(kwargs: Mapping[str, object]) -> str:
    """Return the problem of an argument that reads other data than the checked rows, or differs in each run; empty if there is none.

    Examples
    --------
    >>> unpinned_argument({"row_condition": "rand() < 0.5", "condition_parser": "spark"})
    '`row_condition`: the result of `rand()` is not the same in every run.'
    """
    for name, value in kwargs.items():
        if problem := next(_problems(name, value, kwargs), ""):
            return f"`{name}`: {problem}"
    return ""


def _problems(name: str, value: object, kwargs: Mapping[str, object]) -> Iterator[str]:
    nodes = list(_nodes(value))
    if any("$PARAMETER" in node for node in nodes if isinstance(node, Mapping)):
        yield "a suite parameter; only a Great Expectations checkpoint has its value."
    if name == "unexpected_rows_query" and isinstance(value, str):
        if set("{}") & set(_PLACEHOLDER.sub("", value)):
            yield "expected `{batch}` as the only text in braces; write other braces as `{{` and `}}`."
        else:
            yield from _sql_problems(value.format(batch=BATCH))
    if name == "row_condition":
        if isinstance(value, str) and kwargs.get("condition_parser") == "spark":
            yield from _filter_problems(value)
        elif isinstance(value, str):
            yield from _time_problems(text for match in _QUOTED.finditer(value) for text in match.groups() if text)
        for node in nodes:
            if isinstance(node, Mapping) and isinstance(node.get("pass_through_filter"), str):
                yield from _filter_problems(node["pass_through_filter"])
        if not isinstance(value, str):
            yield from _time_problems(node for node in nodes if isinstance(node, str))
    if name in {"min_value", "max_value"} and isinstance(value, str):
        yield from _time_problems([value])
    for node in nodes if name == "json_schema" else ():
        reference = node.get("$ref") if isinstance(node, Mapping) else None
        if isinstance(reference, str) and not reference.startswith("#"):
            yield f"`$ref: {reference}` reads another document, which the plan does not pin."


def _filter_problems(condition: str) -> Iterator[str]:
    # The line break ends a comment at the end of the text.
    yield from _sql_problems(f"SELECT * FROM {BATCH} WHERE ({condition}\n)")  # noqa: S608 - it is parsed, not run


def _sql_problems(sql: str) -> Iterator[str]:
    try:
        parsed = parse_select(SqlText(sql, Where("gates"), in_file=False))
    except FiresteelError as error:
        yield error.what
        return
    yield from (error.what for error in (*outside_errors(parsed), *unpinned_errors(parsed)))
    others = [relation for relation in parsed.reads if relation.lower() != BATCH]
    if others:
        yield f"it reads `{others[0]}`, expected only the checked rows."


def _time_problems(texts: Any) -> Iterator[str]:
    for text in texts:
        if is_special_time(text):
            yield f"Spark casts '{text}' to another time in each run."


def _nodes(value: object) -> Iterator[Any]:
    """Yield a value, and all values in it."""
    yield value
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    for item in inner:
        yield from _nodes(item)
