"""Expressions over Arrow columns that mean what they mean in Spark: types, nulls, NaN.

An expression is `(op, type, *arguments)`. The compiler makes them (`firesteel.pipelines.sql.mapping`) and lets pass only what is
here; types are Spark's, coerced already, so that no operator has to guess. Spark orders NaN above all numbers and equal to
itself, Arrow follows IEEE 754: comparisons of floats say which.
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
    """The rows that fulfil the condition, and the columns made of them."""
    if projection.where is not None:
        mask = _column(evaluate(projection.where, table), table.num_rows)
        table = table.filter(pc.fill_null(mask, False))  # unknown is not true
    names = [name for name, _ in projection.columns]
    values = [_column(evaluate(each, table), table.num_rows) for _, each in projection.columns]
    return pa.table(values, names=names)


def evaluate(expression: Expression, table: pa.Table) -> Any:
    """The value: a column as long as the table, or a scalar."""
    op, kind, *arguments = expression
    if op == "column":
        return table.column(_find(table, arguments[0]))
    if op == "literal":
        return pa.scalar(arguments[0], ARROW_TYPES[kind])
    if op == "cast":
        return pc.cast(evaluate(arguments[0], table), ARROW_TYPES[kind], safe=False)  # only widening ones come here
    values = [evaluate(each, table) for each in arguments]
    if op in _ARITHMETIC:
        return _ARITHMETIC[op](*values)
    return _OPERATORS[op](*values)


def _find(table: pa.Table, name: str) -> int:
    lower = name.lower()
    return next(index for index, each in enumerate(table.column_names) if each.lower() == lower)


def _column(value: Any, rows: int) -> Any:
    if isinstance(value, pa.Scalar):
        return pa.nulls(rows, value.type) if not value.is_valid else pa.repeat(value, rows)
    return value


def _equal(a: Any, b: Any) -> Any:
    found = pc.equal(a, b)
    return pc.or_(found, pc.and_(pc.is_nan(a), pc.is_nan(b))) if a.type in _FLOATS else found


def _less(a: Any, b: Any) -> Any:
    found = pc.less(a, b)
    return pc.or_(found, pc.and_(pc.is_nan(b), pc.invert(pc.is_nan(a)))) if a.type in _FLOATS else found


def _in(value: Any, *choices: Any) -> Any:
    found = _equal(value, choices[0])
    for choice in choices[1:]:
        found = pc.or_kleene(found, _equal(value, choice))
    return found


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
"""All that the compiler may use."""
