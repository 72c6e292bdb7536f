"""Evaluate expressions over Arrow columns with Spark's semantics for types, nulls and NaN.

An expression is `(op, type, *arguments)`. The compiler (`firesteel.pipelines.sql.mapping`) creates only supported expressions, with
Spark types after coercion. In Spark, NaN equals NaN and is greater than all numbers. Arrow follows IEEE 754, so float comparisons need
extra code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from firesteel.conf.types import ARROW, FLOATS, INTEGERS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from firesteel.udfs.direct.spec import Expression, Projection

ARROW_TYPES = {
    name: pa.type_for_alias(ARROW[name]) for name in ("boolean", *INTEGERS, *FLOATS, "string", "binary", "date")
}
_ARITHMETIC = {"+": pc.add_checked, "-": pc.subtract_checked, "*": pc.multiply_checked, "/": pc.divide}
_FLOATS = {pa.float32(), pa.float64()}


def project(table: pa.Table, projection: Projection) -> pa.Table:
    """Return the projected columns of the rows that satisfy the condition."""
    if projection.where is not None:
        mask = _column(evaluate(projection.where, table), table.num_rows)
        table = table.filter(pc.fill_null(mask, False))  # null does not satisfy the condition
    names = [name for name, _ in projection.columns]
    values = [_column(evaluate(expression, table), table.num_rows) for _, expression in projection.columns]
    return pa.table(values, names=names)


def evaluate(expression: Expression, table: pa.Table) -> Any:
    """Return the value: a column of the table's length, or a scalar."""
    op, kind, *arguments = expression
    if op == "column":
        return table.column(_find(table, arguments[0]))
    if op == "literal":
        return pa.scalar(arguments[0], ARROW_TYPES[kind])
    if op == "cast":
        return pc.cast(
            evaluate(arguments[0], table), ARROW_TYPES[kind], safe=False
        )  # the compiler allows only widening casts
    values = [evaluate(argument, table) for argument in arguments]
    if op in _ARITHMETIC:
        return _ARITHMETIC[op](*values)
    return _OPERATORS[op](*values)


def _find(table: pa.Table, name: str) -> int:
    lower = name.lower()
    return next(index for index, column in enumerate(table.column_names) if column.lower() == lower)


def _column(value: Any, rows: int) -> Any:
    if isinstance(value, pa.Scalar):
        return pa.nulls(rows, value.type) if not value.is_valid else pa.repeat(value, rows)
    return value


def _equal(a: Any, b: Any) -> Any:
    result = pc.equal(a, b)
    return pc.or_(result, pc.and_(pc.is_nan(a), pc.is_nan(b))) if a.type in _FLOATS else result


def _less(a: Any, b: Any) -> Any:
    result = pc.less(a, b)
    return pc.or_(result, pc.and_(pc.is_nan(b), pc.invert(pc.is_nan(a)))) if a.type in _FLOATS else result


def _in(value: Any, *choices: Any) -> Any:
    result = _equal(value, choices[0])
    for choice in choices[1:]:
        result = pc.or_kleene(result, _equal(value, choice))
    return result


def _if(condition: Any, then: Any, otherwise: Any) -> Any:
    return pc.if_else(pc.fill_null(condition, False), then, otherwise)


_OPERATORS: Mapping[str, Any] = {
    "=": _equal,
    "<>": lambda a, b: pc.invert(_equal(a, b)),
    "<": _less,
    ">": lambda a, b: _less(b, a),
    "<=": lambda a, b: pc.invert(_less(b, a)),
    ">=": lambda a, b: pc.invert(_less(a, b)),
    "and": pc.and_kleene,
    "or": pc.or_kleene,
    "not": pc.invert,
    "is null": pc.is_null,
    "in": _in,
    "negate": pc.negate_checked,
    "abs": pc.abs_checked,
    "coalesce": pc.coalesce,
    "if": _if,
}
OPERATORS = frozenset({"column", "literal", "cast", *_ARITHMETIC, *_OPERATORS})
"""Operators that the compiler may use."""
