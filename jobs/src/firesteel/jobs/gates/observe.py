"""Convert results of Great Expectations to JSON values without row values.

The ledger, MLflow and the report store the results. They may hold numbers, times, types and column names. Of string values, lists of
distinct values and unexpected rows, firesteel stores only the count.
"""

from __future__ import annotations

import datetime as dt
import decimal
import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from firesteel.conf.redaction import redact
from firesteel.pipelines.result import ExpectationResult

if TYPE_CHECKING:
    from pydantic import JsonValue

    from firesteel.jobs.gates.gx import RawResult
    from firesteel.pipelines.plan.model import Expectation

_SCHEMA = (
    "expect_column_to_exist",
    "expect_column_type_to_be",
    "expect_column_values_to_be_of_type",
    "expect_column_values_to_be_in_type_list",
    "expect_table_column",
)
"""Names (or prefixes) of schema expectations. Their strings are column names and types."""

_SPARK_CONDITION = re.compile(r"\[([A-Z][A-Z0-9_]*(?:\.[A-Z0-9_]+)*)\]\s*([^\n]*)")
_SCHEMA_CONDITIONS = ("UNRESOLVED_", "DATATYPE_MISMATCH", "PARSE_", "TABLE_OR_VIEW_NOT_FOUND", "INVALID_EXTRACT")
"""Conditions of the analysis phase, whose text names columns and types. Conditions of running jobs quote values."""

_JAVA_CAUSE = re.compile(r"(?:Caused by: |: )([\w$]+(?:\.[\w$]+)+(?:Exception|Error))\b")


def column_of(kwargs: Mapping[str, object]) -> str:
    """Return the column names of an expectation, or an empty string for an expectation on the table."""
    names = [kwargs[key] for key in ("column", "column_A", "column_B") if kwargs.get(key) is not None]
    several = kwargs.get("column_list")
    if isinstance(several, list | tuple):
        names += several
    return ", ".join(str(name) for name in names)


def result_of(expectation: Expectation, raw: RawResult) -> ExpectationResult:
    """Return the verdict on one expectation.

    For row-wise expectations, `observed` is the fraction of checked rows that pass, which `mostly` limits.
    """
    values = raw.result
    rows, unexpected = _count(values.get("element_count")), _count(values.get("unexpected_count"))
    missing = _count(values.get("missing_count")) or 0
    note = ""
    observed: JsonValue
    if rows is not None and unexpected is not None:
        checked = rows - missing
        observed = round((checked - unexpected) / checked, 6) if checked else None
        note = f"{missing:,} nulls not checked" if missing else ""
    else:
        observed = _aggregate(expectation.type, values)
    if expectation.failing_rows != "keep" and not raw.success:
        action = "quarantined" if expectation.failing_rows == "quarantine" else "dropped"
        note = "; ".join(text for text in (f"{unexpected or 0:,} rows {action}", note) if text)
    return ExpectationResult(
        type=expectation.type,
        column=column_of(dict(expectation.kwargs)),
        severity=expectation.severity,
        success=raw.success,
        observed=observed,
        element_count=rows,
        unexpected_count=unexpected,
        note=note,
    )


def one_line(cause: str) -> str:
    """Return the cause of a failed evaluation without the row values that Spark's messages quote."""
    cause = redact(cause)  # before truncation, because redaction misses half a secret
    condition = _SPARK_CONDITION.search(cause)
    if condition:
        name, text = condition.groups()
        if not name.startswith(_SCHEMA_CONDITIONS):
            return f"Spark raised {name}"
        return f"{name}: {text.split(' SQLSTATE:')[0].rstrip('.')[:300]}"
    java_causes = _JAVA_CAUSE.findall(cause)
    if java_causes:
        return f"Spark raised {java_causes[-1].rsplit('.', 1)[-1]}"
    lines = [line.strip() for line in cause.splitlines() if line.strip()] or ["no reason given"]
    if " validation error" in lines[0] and len(lines) > 2:  # pydantic names the field in the second line
        lines = [f"{lines[1]}: {lines[2].split(' (type=')[0]}"]
    line = lines[0]
    return line.removeprefix("Error: ").rstrip(".")[:300]


def _count(value: Any) -> int | None:
    return None if value is None else int(value)


def _aggregate(type_: str, values: Mapping[str, Any]) -> JsonValue:
    if "observed_value" not in values:
        return None
    value = values["observed_value"]
    if type_.startswith(_SCHEMA):
        return to_json(value)
    if type_.startswith("expect_column_distinct_values") or type_ == "expect_column_most_common_value_to_be_in_set":
        return {"distinct_values": len(value)} if isinstance(value, list | tuple | set) else _wrong_values(values)
    return _without_text(to_json(value))


def _wrong_values(values: Mapping[str, Any]) -> JsonValue:
    count = _count(values.get("unexpected_count"))
    return None if count is None else {"values_not_expected": count}


def _without_text(value: JsonValue) -> JsonValue:
    """Replace string values by `(text)`. Numbers and times stay."""
    if isinstance(value, str) and not _TIME.fullmatch(value) and value not in _NOT_FINITE.values():
        return "(text)"
    if isinstance(value, list):
        return [_without_text(item) for item in value]
    if isinstance(value, dict):
        return {key: _without_text(item) for key, item in value.items()}
    return value


_TIME = re.compile(r"\d{4}-\d\d-\d\d(T[\d:.+-]+)?")
_NOT_FINITE = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


def to_json(value: Any) -> JsonValue:
    """Return a strict JSON value: numpy scalars unwrapped, NaN and infinities as text, times in ISO format, sets sorted."""
    if hasattr(value, "tolist"):  # numpy scalars and arrays
        value = value.tolist()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else _NOT_FINITE[str(value)]
    if isinstance(value, decimal.Decimal):
        return to_json(float(value))
    if isinstance(value, dt.date | dt.datetime | dt.time):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return sorted((to_json(item) for item in value), key=repr)
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    return str(value)
