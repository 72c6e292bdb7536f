"""Compile common expectations to aggregates of one Spark job.

Great Expectations runs one or two jobs per expectation and its import takes seconds. This module builds the same conditions and
evaluates them in one `agg`. Great Expectations evaluates all other types, arguments and column types.
`tests/integration/test_gates_same.py` compares the verdicts and counts of both on random data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from firesteel.conf.types import is_number
from firesteel.jobs.gates.check import ROWWISE
from firesteel.jobs.gates.gx import RawResult

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame
    from pyspark.sql.types import StructType

    from firesteel.pipelines.plan.model import Expectation

Values = Mapping[str, Any]
"""Aggregate values by name."""

_NO_EFFECT = {"description", "meta", "notes", "severity"}
"""Arguments that do not affect the verdict."""
_ROWS = "rows"
_EXACT = 1 << 53
"""Great Expectations converts bounds to doubles, which is exact up to this value."""


@dataclass(frozen=True, slots=True)
class Compiled:
    """A compiled expectation.

    Attributes
    ----------
    aggregates
        Spark aggregates by name.
    verdict
        Returns the result from the aggregate values, or None if Great Expectations must count.
    failing
        Condition that is true for failing rows; None if the expectation does not check single rows.
    """

    aggregates: Mapping[str, Column]
    verdict: Callable[[Values], RawResult | None]
    failing: Column | None = None


def compile_expectation(expectation: Expectation, schema: StructType) -> Compiled | None:
    """Compile an expectation, or return None if Great Expectations must evaluate it."""
    kwargs = {key: value for key, value in expectation.kwargs if key not in _NO_EFFECT and value is not None}
    compiler = _COMPILERS.get(expectation.type)
    if compiler is None:
        return None
    compile_, allowed = compiler
    if not kwargs.keys() <= allowed:
        return None
    column = kwargs.get("column")
    types = {field.name: field.dataType.simpleString() for field in schema.fields}
    if "column" in allowed and (not isinstance(column, str) or column not in types):
        return None
    return compile_(expectation.type, kwargs, types.get(str(column), ""))


def one_pass(frame: DataFrame, groups: Iterable[Mapping[str, Column]]) -> Values:
    """Compute all aggregates in one Spark job. Aggregates with the same name are computed once."""
    aggregates: dict[str, Column] = {}
    for group in groups:
        aggregates |= group
    row = frame.agg(*(column.alias(name) for name, column in aggregates.items())).first() if aggregates else None
    return row.asDict() if row is not None else {}


def _row_condition(kwargs: Mapping[str, Any], name: str, expected: Column) -> Compiled | None:
    """Compile a condition on non-null values, as `column_condition_partial` does."""
    from pyspark.sql import functions as F  # noqa: N812 - Spark's own convention

    mostly = kwargs.get("mostly", 1)
    if not isinstance(mostly, int | float) or isinstance(mostly, bool) or not 0 <= mostly <= 1:
        return None
    column = _column(kwargs)
    nulls, wrong = f"nulls {kwargs['column']}", f"wrong {name} {sorted(kwargs.items())}"
    failing = column.isNotNull() & ~expected

    def verdict(values: Values) -> RawResult:
        rows, missing, unexpected = (int(values[key] or 0) for key in (_ROWS, nulls, wrong))
        checked = rows - missing
        success = checked == 0 or (float(checked) - float(unexpected)) / float(checked) >= mostly
        return RawResult(success, {"element_count": rows, "unexpected_count": unexpected, "missing_count": missing})

    return Compiled(
        {
            _ROWS: F.count(F.lit(1)),
            nulls: F.sum(F.when(~column.isNotNull(), 1).otherwise(0)),
            wrong: F.sum(F.when(failing, 1).otherwise(0)),
        },
        verdict,
        failing,
    )


def _nulls(type_: str, kwargs: Mapping[str, Any], _kind: str) -> Compiled | None:
    """Compile a null check, in which null values are not missing."""
    from pyspark.sql import functions as F  # noqa: N812

    mostly = kwargs.get("mostly", 1)
    if not isinstance(mostly, int | float) or isinstance(mostly, bool) or not 0 <= mostly <= 1:
        return None
    not_null = type_ == "expect_column_values_to_not_be_null"
    column = _column(kwargs)
    nulls = f"nulls {kwargs['column']}"

    def verdict(values: Values) -> RawResult:
        rows, missing = int(values[_ROWS] or 0), int(values[nulls] or 0)
        unexpected = missing if not_null else rows - missing
        success = rows == 0 or (rows - unexpected) / rows >= mostly
        return RawResult(success, {"element_count": rows, "unexpected_count": unexpected})

    return Compiled(
        {_ROWS: F.count(F.lit(1)), nulls: F.sum(F.when(~column.isNotNull(), 1).otherwise(0))},
        verdict,
        column.isNull() if not_null else column.isNotNull(),
    )


def _between(type_: str, kwargs: Mapping[str, Any], kind: str) -> Compiled | None:
    bounds = _bounds(kwargs)
    if bounds is None or not is_number(kind):
        return None
    return _row_condition(kwargs, type_, _within(_column(kwargs), kwargs))


def _in_set(type_: str, kwargs: Mapping[str, Any], kind: str) -> Compiled | None:
    values = kwargs.get("value_set")
    if not isinstance(values, list | tuple) or not values:
        return None
    text = kind == "string" and all(isinstance(value, str) for value in values)
    if not text and not (is_number(kind) and all(_is_number(value) for value in values)):
        return None
    in_set = _column(kwargs).isin(list(values))
    return _row_condition(kwargs, type_, in_set if type_.endswith("_to_be_in_set") else ~in_set)


def _regex(type_: str, kwargs: Mapping[str, Any], kind: str) -> Compiled | None:
    if kind != "string" or not isinstance(kwargs.get("regex"), str):
        return None
    matches = _column(kwargs).rlike(kwargs["regex"])
    return _row_condition(kwargs, type_, ~matches if "_not_" in type_ else matches)


def _lengths(type_: str, kwargs: Mapping[str, Any], kind: str) -> Compiled | None:
    from pyspark.sql import functions as F  # noqa: N812

    if kind != "string":
        return None
    length = F.length(_column(kwargs))
    if type_ == "expect_column_value_lengths_to_equal":
        value = kwargs.get("value")
        return _row_condition(kwargs, type_, length == value) if isinstance(value, int) and _is_number(value) else None
    bounds = _bounds(kwargs)
    if bounds is None or any(not isinstance(bound, int) for bound in bounds if bound is not None):
        return None
    return _row_condition(kwargs, type_, _within(length, kwargs))


def _aggregate(type_: str, kwargs: Mapping[str, Any], kind: str) -> Compiled | None:
    """Compile bounds on one aggregate of a column, as `_validate_metric_value_between` does."""
    from pyspark.sql import functions as F  # noqa: N812

    functions = {"min": F.min, "max": F.max, "mean": F.mean, "stdev": F.stddev_samp}
    function = type_.removeprefix("expect_column_").removesuffix("_to_be_between")
    if _bounds(kwargs, one=False) is None or kind not in {"int", "bigint", "float", "double"}:
        return None
    name = f"{function} {kwargs['column']}"
    return Compiled({name: functions[function](_column(kwargs))}, lambda values: _check_bounds(values[name], kwargs))


def _distinct(_type: str, kwargs: Mapping[str, Any], _kind: str) -> Compiled | None:
    from pyspark.sql import functions as F  # noqa: N812

    if _bounds(kwargs, one=False) is None:
        return None
    name = f"distinct {kwargs['column']}"
    return Compiled({name: F.countDistinct(_column(kwargs))}, lambda values: _check_bounds(values[name], kwargs))


def _unique(_type: str, kwargs: Mapping[str, Any], kind: str) -> Compiled | None:
    """Compile a uniqueness check. Great Expectations counts the duplicates if there are any."""
    from pyspark.sql import functions as F  # noqa: N812

    if kind.startswith(("map", "array", "struct", "variant")):
        return None
    column = _column(kwargs)
    nulls, name = f"nulls {kwargs['column']}", f"distinct {kwargs['column']}"

    def verdict(values: Values) -> RawResult | None:
        rows, missing, distinct = (int(values[key] or 0) for key in (_ROWS, nulls, name))
        if distinct != rows - missing:
            return None
        return RawResult(success=True, result={"element_count": rows, "unexpected_count": 0, "missing_count": missing})

    return Compiled(
        {
            _ROWS: F.count(F.lit(1)),
            nulls: F.sum(F.when(~column.isNotNull(), 1).otherwise(0)),
            name: F.countDistinct(column),
        },
        verdict,
    )


def _row_count(type_: str, kwargs: Mapping[str, Any], _kind: str) -> Compiled | None:
    from pyspark.sql import functions as F  # noqa: N812

    aggregates = {_ROWS: F.count(F.lit(1))}
    if type_ == "expect_table_row_count_to_equal":
        value = kwargs.get("value")
        if not isinstance(value, int) or not _is_number(value):
            return None
        return Compiled(aggregates, lambda values: RawResult(values[_ROWS] == value, {"observed_value": values[_ROWS]}))
    return (
        None
        if _bounds(kwargs, one=False) is None
        else Compiled(aggregates, lambda values: _check_bounds(values[_ROWS], kwargs))
    )


def _check_bounds(value: Any, kwargs: Mapping[str, Any]) -> RawResult:
    if value is None or value != value:  # noqa: PLR0124 - true for NaN
        return RawResult(success=False, result={"observed_value": None})
    low, high = kwargs.get("min_value"), kwargs.get("max_value")
    above_minimum = low is None or (value > low if kwargs.get("strict_min") else value >= low)
    below_maximum = high is None or (value < high if kwargs.get("strict_max") else value <= high)
    return RawResult(bool(above_minimum and below_maximum), {"observed_value": value})


def _bounds(kwargs: Mapping[str, Any], *, one: bool = True) -> tuple[Any, Any] | None:
    """Return (min, max) if they are ordered numbers, else None. `one` requires at least one of them."""
    low, high = kwargs.get("min_value"), kwargs.get("max_value")
    if any(bound is not None and not _is_number(bound) for bound in (low, high)):
        return None
    if any(not isinstance(kwargs.get(key, False), bool) for key in ("strict_min", "strict_max")):
        return None
    if any(bound is not None and abs(bound) > _EXACT for bound in (low, high)):
        return None
    if (one and low is None and high is None) or (low is not None and high is not None and low > high):
        return None
    return low, high


def _within(column: Column, kwargs: Mapping[str, Any]) -> Column:
    from pyspark.sql import functions as F  # noqa: N812

    low, high = kwargs.get("min_value"), kwargs.get("max_value")
    lower = upper = None
    if low is not None:
        lower = column > F.lit(low) if kwargs.get("strict_min") else column >= F.lit(low)
    if high is not None:
        upper = column < F.lit(high) if kwargs.get("strict_max") else column <= F.lit(high)
    if lower is None or upper is None:
        bound = upper if lower is None else lower
        assert bound is not None
        return bound
    return lower & upper


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _column(kwargs: Mapping[str, Any]) -> Column:
    from pyspark.sql import functions as F  # noqa: N812

    return F.col("`" + str(kwargs["column"]).replace("`", "``") + "`")


_Compiler = Callable[[str, Mapping[str, Any], str], Compiled | None]
_RANGE = frozenset({"min_value", "max_value", "strict_min", "strict_max"})
_BY_ROW: Mapping[str, _Compiler] = {
    "expect_column_values_to_not_be_null": _nulls,
    "expect_column_values_to_be_null": _nulls,
    "expect_column_values_to_be_between": _between,
    "expect_column_values_to_be_in_set": _in_set,
    "expect_column_values_to_not_be_in_set": _in_set,
    "expect_column_values_to_match_regex": _regex,
    "expect_column_values_to_not_match_regex": _regex,
    "expect_column_value_lengths_to_be_between": _lengths,
    "expect_column_value_lengths_to_equal": _lengths,
}
_COMPILERS: Mapping[str, tuple[_Compiler, frozenset[str]]] = {
    **{name: (_BY_ROW[name], arguments) for name, arguments in ROWWISE.items()},
    "expect_column_values_to_be_unique": (_unique, frozenset({"column", "mostly"})),
    "expect_column_min_to_be_between": (_aggregate, _RANGE | {"column"}),
    "expect_column_max_to_be_between": (_aggregate, _RANGE | {"column"}),
    "expect_column_mean_to_be_between": (_aggregate, _RANGE | {"column"}),
    "expect_column_stdev_to_be_between": (_aggregate, _RANGE | {"column"}),
    "expect_column_unique_value_count_to_be_between": (_distinct, _RANGE | {"column"}),
    "expect_table_row_count_to_be_between": (_row_count, _RANGE),
    "expect_table_row_count_to_equal": (_row_count, frozenset({"value"})),
}
