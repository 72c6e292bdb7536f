"""Expectations as columns of one Spark aggregation: the common ones, with Great Expectations' own verdicts.

Each compiled expectation is the condition that Great Expectations itself builds for Spark, in one `agg` with all others,
instead of a job or two each; and without the seconds that importing Great Expectations takes. What is not compiled here
(another type, another argument, a column of another type) runs in Great Expectations. `tests/integration/test_gates_same.py`
holds both to the same verdict and counts on random data.
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
"""Name of an aggregate -> its value."""

_SAID = {"description", "meta", "notes", "severity"}
"""Arguments that change no verdict."""
_ROWS = "rows"
_EXACT = 1 << 53
"""Great Expectations makes doubles of bounds: up to here that is the same comparison."""


@dataclass(frozen=True, slots=True)
class Compiled:
    """Aggregates by name, and what they say; None when they do not say enough, and Great Expectations has to count.

    `failing` is true of a row that fails; None where the expectation is not about single rows.
    """

    aggregates: Mapping[str, Column]
    verdict: Callable[[Values], RawResult | None]
    failing: Column | None = None


def compile_expectation(expectation: Expectation, schema: StructType) -> Compiled | None:
    """The expectation as aggregates; None when Great Expectations has to look at it."""
    kwargs = {key: value for key, value in expectation.kwargs if key not in _SAID and value is not None}
    compiler = _COMPILERS.get(expectation.type)
    if compiler is None:
        return None
    compile_, known = compiler
    if not kwargs.keys() <= known:
        return None
    column = kwargs.get("column")
    types = {field.name: field.dataType.simpleString() for field in schema.fields}
    if "column" in known and (not isinstance(column, str) or column not in types):
        return None
    return compile_(expectation.type, kwargs, types.get(str(column), ""))


def one_pass(frame: DataFrame, asked: Iterable[Mapping[str, Column]]) -> Values:
    """The values of all aggregates, by one job; those of one name are one."""
    aggregates: dict[str, Column] = {}
    for each in asked:
        aggregates |= each
    row = frame.agg(*(column.alias(name) for name, column in aggregates.items())).first() if aggregates else None
    return row.asDict() if row is not None else {}


def _every(kwargs: Mapping[str, Any], name: str, expected: Column) -> Compiled | None:
    """A condition on each value that is not null, as `column_condition_partial` asks it: unexpected where it is false."""
    from pyspark.sql import functions as F  # noqa: N812 - Spark's own convention

    mostly = kwargs.get("mostly", 1)
    if not isinstance(mostly, int | float) or isinstance(mostly, bool) or not 0 <= mostly <= 1:
        return None
    column = _column(kwargs)
    nulls, wrong = f"nulls {kwargs['column']}", f"wrong {name} {sorted(kwargs.items())}"
    failing = column.isNotNull() & ~expected

    def verdict(values: Values) -> RawResult:
        rows, missing, unexpected = (int(values[key] or 0) for key in (_ROWS, nulls, wrong))
        looked_at = rows - missing
        success = looked_at == 0 or (float(looked_at) - float(unexpected)) / float(looked_at) >= mostly
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
    """Nulls themselves are what is looked at: none is missing."""
    from pyspark.sql import functions as F  # noqa: N812

    mostly = kwargs.get("mostly", 1)
    if not isinstance(mostly, int | float) or isinstance(mostly, bool) or not 0 <= mostly <= 1:
        return None
    wanted = type_ == "expect_column_values_to_not_be_null"
    column = _column(kwargs)
    nulls = f"nulls {kwargs['column']}"

    def verdict(values: Values) -> RawResult:
        rows, missing = int(values[_ROWS] or 0), int(values[nulls] or 0)
        unexpected = missing if wanted else rows - missing
        success = rows == 0 or (rows - unexpected) / rows >= mostly
        return RawResult(success, {"element_count": rows, "unexpected_count": unexpected})

    return Compiled(
        {_ROWS: F.count(F.lit(1)), nulls: F.sum(F.when(~column.isNotNull(), 1).otherwise(0))},
        verdict,
        column.isNull() if wanted else column.isNotNull(),
    )


def _between(type_: str, kwargs: Mapping[str, Any], kind: str) -> Compiled | None:
    bounds = _bounds(kwargs)
    if bounds is None or not is_number(kind):
        return None
    return _every(kwargs, type_, _within(_column(kwargs), kwargs))


def _in_set(type_: str, kwargs: Mapping[str, Any], kind: str) -> Compiled | None:
    values = kwargs.get("value_set")
    if not isinstance(values, list | tuple) or not values:
        return None
    text = kind == "string" and all(isinstance(each, str) for each in values)
    if not text and not (is_number(kind) and all(_is_number(each) for each in values)):
        return None
    found = _column(kwargs).isin(list(values))
    return _every(kwargs, type_, found if type_.endswith("_to_be_in_set") else ~found)


def _regex(type_: str, kwargs: Mapping[str, Any], kind: str) -> Compiled | None:
    if kind != "string" or not isinstance(kwargs.get("regex"), str):
        return None
    found = _column(kwargs).rlike(kwargs["regex"])
    return _every(kwargs, type_, ~found if "_not_" in type_ else found)


def _lengths(type_: str, kwargs: Mapping[str, Any], kind: str) -> Compiled | None:
    from pyspark.sql import functions as F  # noqa: N812

    if kind != "string":
        return None
    length = F.length(_column(kwargs))
    if type_ == "expect_column_value_lengths_to_equal":
        value = kwargs.get("value")
        return _every(kwargs, type_, length == value) if isinstance(value, int) and _is_number(value) else None
    bounds = _bounds(kwargs)
    if bounds is None or any(not isinstance(bound, int) for bound in bounds if bound is not None):
        return None
    return _every(kwargs, type_, _within(length, kwargs))


def _aggregate(type_: str, kwargs: Mapping[str, Any], kind: str) -> Compiled | None:
    """One number of a column, held between bounds as `_validate_metric_value_between` does."""
    from pyspark.sql import functions as F  # noqa: N812

    functions = {"min": F.min, "max": F.max, "mean": F.mean, "stdev": F.stddev_samp}
    what = type_.removeprefix("expect_column_").removesuffix("_to_be_between")
    if _bounds(kwargs, one=False) is None or not kind.startswith(("int", "bigint", "float", "double")):
        return None
    name = f"{what} {kwargs['column']}"
    return Compiled({name: functions[what](_column(kwargs))}, lambda values: _held(values[name], kwargs))


def _distinct(_type: str, kwargs: Mapping[str, Any], _kind: str) -> Compiled | None:
    from pyspark.sql import functions as F  # noqa: N812

    if _bounds(kwargs, one=False) is None:
        return None
    name = f"distinct {kwargs['column']}"
    return Compiled({name: F.countDistinct(_column(kwargs))}, lambda values: _held(values[name], kwargs))


def _unique(_type: str, kwargs: Mapping[str, Any], kind: str) -> Compiled | None:
    """As many distinct values as values: all pass. Else the rows that share one are counted by Great Expectations."""
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
        else Compiled(aggregates, lambda values: _held(values[_ROWS], kwargs))
    )


def _held(value: Any, kwargs: Mapping[str, Any]) -> RawResult:
    if value is None or value != value:  # noqa: PLR0124 - NaN, which is no answer either
        return RawResult(success=False, result={"observed_value": None})
    low, high = kwargs.get("min_value"), kwargs.get("max_value")
    above = low is None or (value > low if kwargs.get("strict_min") else value >= low)
    below = high is None or (value < high if kwargs.get("strict_max") else value <= high)
    return RawResult(bool(above and below), {"observed_value": value})


def _bounds(kwargs: Mapping[str, Any], *, one: bool = True) -> tuple[Any, Any] | None:
    """(min, max) when they are numbers in order; `one` of them must be given where rows are looked at."""
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
    above = below = None
    if low is not None:
        above = column > F.lit(low) if kwargs.get("strict_min") else column >= F.lit(low)
    if high is not None:
        below = column < F.lit(high) if kwargs.get("strict_max") else column <= F.lit(high)
    if above is None or below is None:
        found = below if above is None else above
        assert found is not None
        return found
    return above & below


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
    **{name: (_BY_ROW[name], known) for name, known in ROWWISE.items()},
    "expect_column_values_to_be_unique": (_unique, frozenset({"column", "mostly"})),
    "expect_column_min_to_be_between": (_aggregate, _RANGE | {"column"}),
    "expect_column_max_to_be_between": (_aggregate, _RANGE | {"column"}),
    "expect_column_mean_to_be_between": (_aggregate, _RANGE | {"column"}),
    "expect_column_stdev_to_be_between": (_aggregate, _RANGE | {"column"}),
    "expect_column_unique_value_count_to_be_between": (_distinct, _RANGE | {"column"}),
    "expect_table_row_count_to_be_between": (_row_count, _RANGE),
    "expect_table_row_count_to_equal": (_row_count, frozenset({"value"})),
}
