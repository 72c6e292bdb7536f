"""What Great Expectations observed -> JSON values that hold no rows.

Results reach the ledger, MLflow and the report. Numbers, times, types and names of columns may go there; values of
string columns, lists of distinct values and unexpected rows may not: of those only the number is kept.
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
"""Expectations (or starts of their names) that look at the schema: their strings are names and types."""

_SPARK_CONDITION = re.compile(r"\[([A-Z][A-Z0-9_]*(?:\.[A-Z0-9_]+)*)\]\s*([^\n]*)")
_SCHEMA_CONDITIONS = ("UNRESOLVED_", "DATATYPE_MISMATCH", "PARSE_", "TABLE_OR_VIEW_NOT_FOUND", "INVALID_EXTRACT")
"""Raised while analysing: their text names columns and types. Those of running jobs quote values."""

_JAVA_CAUSE = re.compile(r"(?:Caused by: |: )([\w$]+(?:\.[\w$]+)+(?:Exception|Error))\b")


def column_of(kwargs: Mapping[str, object]) -> str:
    """The column or columns that an expectation looks at; empty for one on the whole table."""
    names = [kwargs[key] for key in ("column", "column_A", "column_B") if kwargs.get(key) is not None]
    several = kwargs.get("column_list")
    if isinstance(several, list | tuple):
        names += several
    return ", ".join(str(name) for name in names)


def result_of(expectation: Expectation, raw: RawResult) -> ExpectationResult:
    """The verdict on one expectation.

    Row-wise expectations observe the fraction of the rows looked at that pass: what `mostly` is compared with.
    """
    found = raw.result
    rows, unexpected = _count(found.get("element_count")), _count(found.get("unexpected_count"))
    missing = _count(found.get("missing_count")) or 0
    note = ""
    observed: JsonValue
    if rows is not None and unexpected is not None:
        looked_at = rows - missing
        observed = round((looked_at - unexpected) / looked_at, 6) if looked_at else None
        note = f"{missing:,} nulls not looked at" if missing else ""
    else:
        observed = _aggregate(expectation.type, found)
    if expectation.failing_rows != "keep" and not raw.success:
        taken = "quarantined" if expectation.failing_rows == "quarantine" else "dropped"
        note = "; ".join(text for text in (f"{unexpected or 0:,} rows {taken}", note) if text)
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
    """Why an expectation could not be evaluated, without the values that Spark's messages quote."""
    cause = redact(cause)  # before it is cut: half a secret would not be found
    condition = _SPARK_CONDITION.search(cause)
    if condition:
        name, text = condition.groups()
        if not name.startswith(_SCHEMA_CONDITIONS):
            return f"Spark raised {name}"
        return f"{name}: {text.split(' SQLSTATE:')[0].rstrip('.')[:300]}"
    java = _JAVA_CAUSE.findall(cause)
    if java:
        return f"Spark raised {java[-1].rsplit('.', 1)[-1]}"
    lines = [line.strip() for line in cause.splitlines() if line.strip()] or ["no reason given"]
    if " validation error" in lines[0] and len(lines) > 2:  # pydantic: the field stands below the headline
        lines = [f"{lines[1]}: {lines[2].split(' (type=')[0]}"]
    line = lines[0]
    return line.removeprefix("Error: ").rstrip(".")[:300]


def _count(value: Any) -> int | None:
    return None if value is None else int(value)


def _aggregate(type_: str, found: Mapping[str, Any]) -> JsonValue:
    if "observed_value" not in found:
        return None
    value = found["observed_value"]
    if type_.startswith(_SCHEMA):
        return to_json(value)
    if type_.startswith("expect_column_distinct_values") or type_ == "expect_column_most_common_value_to_be_in_set":
        return {"distinct_values": len(value)} if isinstance(value, list | tuple | set) else _wrong_values(found)
    return _without_text(to_json(value))


def _wrong_values(found: Mapping[str, Any]) -> JsonValue:
    count = _count(found.get("unexpected_count"))
    return None if count is None else {"values_not_expected": count}


def _without_text(value: JsonValue) -> JsonValue:
    """Values of string columns (the largest name, say) become a mark; numbers and times stay."""
    if isinstance(value, str) and not _TIME.fullmatch(value) and value not in _NOT_FINITE.values():
        return "(text)"
    if isinstance(value, list):
        return [_without_text(each) for each in value]
    if isinstance(value, dict):
        return {key: _without_text(each) for key, each in value.items()}
    return value


_TIME = re.compile(r"\d{4}-\d\d-\d\d(T[\d:.+-]+)?")
_NOT_FINITE = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


def to_json(value: Any) -> JsonValue:
    """A strict JSON value: numpy scalars unwrapped, NaN and infinities as text, times in ISO form, sets sorted."""
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
        return {str(key): to_json(each) for key, each in value.items()}
    if isinstance(value, set | frozenset):
        return sorted((to_json(each) for each in value), key=repr)
    if isinstance(value, list | tuple):
        return [to_json(each) for each in value]
    return str(value)
