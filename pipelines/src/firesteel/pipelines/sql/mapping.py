"""Translate a SELECT that Arrow computes exactly as Spark: one relation, a condition and simple expressions.

An expression is `(op, type, *arguments)` with Spark's types and explicit casts, so that the evaluation
(`firesteel.udfs.direct.expressions`) needs no type rules. The rules are those of Spark's ANSI mode, its default, restricted to cases
in which Arrow cannot differ. Not supported are division by a column (zero), casts to a narrower type (overflow), and operations on
decimals and timestamps other than copying and comparing with null.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlglot import exp

from firesteel.conf.types import FLOATS, INTEGERS
from firesteel.pipelines.plan.model import Column

Expression = tuple[Any, ...]

_COMPARISONS: dict[type[exp.Expr], str] = {
    exp.EQ: "=", exp.NEQ: "<>", exp.LT: "<", exp.GT: ">", exp.LTE: "<=", exp.GTE: ">=",
}  # fmt: skip
_ARITHMETIC: dict[type[exp.Expr], str] = {exp.Add: "+", exp.Sub: "-", exp.Mul: "*"}
_ISO_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_CLAUSES = {"expressions", "from_", "from", "where"}


@dataclass(frozen=True, slots=True)
class MapOnly:
    """The expressions of the output columns, and the condition on the rows."""

    columns: tuple[tuple[str, Expression], ...]
    where: Expression | None

    def columns_of(self) -> tuple[Column, ...]:
        """Return the output columns, with Spark's types."""
        return tuple(Column(name, expression[1]) for name, expression in self.columns)


class NotMapOnlyError(Exception):
    """The SELECT cannot be translated; the message is a phrase with the reason."""


def map_only(tree: exp.Expr, columns: Sequence[Column], args: Mapping[str, Any]) -> MapOnly:
    """Return the translation of a SELECT over one relation.

    Parameters
    ----------
    columns
        The columns of the relation.
    args
        Values of the :markers.

    Raises
    ------
    NotMapOnlyError
        The SELECT reads several relations, or Arrow could return other values.
    """
    if not isinstance(tree, exp.Select):
        raise NotMapOnlyError(f"it is a {tree.key.upper()}")
    clauses = {name for name, value in tree.args.items() if value} - _CLAUSES
    if clauses:
        raise NotMapOnlyError(f"it has {', '.join(sorted(clauses)).upper().replace('_', '')}")
    tables = list(tree.find_all(exp.Table))
    if len(tables) != 1 or tree.find(exp.Subquery) is not None:
        raise NotMapOnlyError("it reads more than one relation")
    if {name for name, value in tables[0].args.items() if value} - {"this", "alias"}:
        raise NotMapOnlyError("it samples, or uses a catalogue")
    compiler = _Compiler(columns, args, tables[0].alias_or_name.lower())
    outputs: list[tuple[str, Expression]] = []
    for select in tree.expressions:
        if isinstance(select, exp.Star) and not any(select.args.values()):
            outputs += [(column.name, ("column", column.type, column.name)) for column in columns]
        elif isinstance(select, exp.Alias):
            outputs.append((select.alias, compiler.value(select.this)))
        elif isinstance(select, exp.Column) and not isinstance(select.this, exp.Star):
            outputs.append((select.name, compiler.value(select)))
        else:
            raise NotMapOnlyError(f"`{select.sql('spark')}` has no name")
    names = [name.lower() for name, _ in outputs]
    if len(set(names)) < len(names):
        raise NotMapOnlyError("two columns have the same name")
    where = tree.args.get("where")
    condition = compiler.boolean(where.this) if where else None
    return MapOnly(tuple(outputs), condition)


class _Compiler:
    """Translates the expressions of one SELECT. Each method returns an expression or raises NotMapOnlyError."""

    def __init__(self, columns: Sequence[Column], args: Mapping[str, Any], relation: str) -> None:
        self._columns = {column.name.lower(): column for column in columns}
        self._args = args
        self._relation = relation

    def value(self, node: exp.Expr) -> Expression:
        """Return the translation of any expression."""
        if isinstance(node, exp.Paren):
            return self.value(node.this)
        if isinstance(node, exp.Column):
            return self._column(node)
        if isinstance(node, exp.Literal):
            return _literal(node)
        if isinstance(node, exp.Boolean):
            return ("literal", "boolean", bool(node.this))
        if isinstance(node, exp.Placeholder) and node.this:
            return _bound(self._args.get(str(node.this)))
        if isinstance(node, exp.Neg):
            return self._negative(node)
        if isinstance(node, exp.Cast):  # sqlglot parses Spark's CAST as TryCast; the supported ones cannot fail
            return self._cast(node)
        if type(node) in _ARITHMETIC:
            a, b = self._numbers(node.this, node.expression)
            return (_ARITHMETIC[type(node)], a[1], a, b)
        if isinstance(node, exp.Div):
            return self._divide(node)
        if isinstance(node, exp.Coalesce):
            return self._same_type("coalesce", [node.this, *node.expressions])
        if isinstance(node, exp.If):
            return self._if(node)
        if isinstance(node, exp.Case) and node.this is None:
            return self._case(node)
        if isinstance(node, exp.Abs):
            inner = self.value(node.this)
            if inner[1] not in (*INTEGERS, *FLOATS):
                raise _unknown(node)
            return ("abs", inner[1], inner)
        return self.boolean(node)

    def boolean(self, node: exp.Expr) -> Expression:
        """Return the translation of a condition."""
        if isinstance(node, exp.Paren):
            return self.boolean(node.this)
        if isinstance(node, exp.And | exp.Or):
            op = "and" if isinstance(node, exp.And) else "or"
            return (op, "boolean", self.boolean(node.this), self.boolean(node.expression))
        if isinstance(node, exp.Not):
            return ("not", "boolean", self.boolean(node.this))
        if isinstance(node, exp.Is) and isinstance(node.expression, exp.Null):
            return ("is null", "boolean", self._any(node.this))
        if type(node) in _COMPARISONS:
            return (_COMPARISONS[type(node)], "boolean", *self._comparable(node.this, node.expression))
        if isinstance(node, exp.Between) and not node.args.get("symmetric"):
            low = self._comparable(node.this, node.args["low"])
            high = self._comparable(node.this, node.args["high"])
            return ("and", "boolean", (">=", "boolean", *low), ("<=", "boolean", *high))
        if isinstance(node, exp.In) and node.expressions and not node.args.get("query"):
            pairs = [self._comparable(node.this, item) for item in node.expressions]
            if len({pair[0] for pair in pairs}) == 1:
                return ("in", "boolean", pairs[0][0], *(pair[1] for pair in pairs))
        if isinstance(node, exp.Column | exp.Boolean | exp.Placeholder | exp.If | exp.Coalesce | exp.Case):
            value = self.value(node)
            if value[1] == "boolean":
                return value
        raise _unknown(node)

    def _column(self, node: exp.Column) -> Expression:
        column = self._columns.get(node.name.lower())
        if column is None or (node.table and node.table.lower() != self._relation):
            raise _unknown(node)
        return ("column", column.type, column.name)

    def _any(self, node: exp.Expr) -> Expression:
        """Return the translation of a column of any type, or of an expression."""
        return self._column(node) if isinstance(node, exp.Column) else self.value(node)

    def _negative(self, node: exp.Neg) -> Expression:
        inner = self.value(node.this)
        if inner[0] == "literal" and inner[1] in ("int", "decimal", "double"):
            return ("literal", inner[1], -inner[2])
        if inner[1] not in (*INTEGERS, *FLOATS):
            raise _unknown(node)
        return ("negate", inner[1], inner)

    def _cast(self, node: exp.Cast) -> Expression:
        target = node.to.sql("spark").lower()
        if isinstance(node.this, exp.Literal) and node.this.is_string and target == "date":
            return _date(str(node.this.this), node)
        inner = self.value(node.this)
        if inner[1] == target and inner[1] != "decimal":
            return inner
        if not _widens(inner[1], target):
            raise _unknown(node)
        return _to(inner, target)

    def _numbers(self, left: exp.Expr, right: exp.Expr) -> tuple[Expression, Expression]:
        """Return two numbers in the type that Spark computes with."""
        a, b = self.value(left), self.value(right)
        kinds = {a[1], b[1]}
        if kinds <= set(INTEGERS):
            wide = max(kinds, key=INTEGERS.index)
            return _to(a, wide), _to(b, wide)
        if kinds == {"float"}:
            return a, b
        # Spark converts all to double if one is double. Float with integer or decimal has other rules.
        if "double" in kinds and kinds <= {"double", "float", "decimal", *INTEGERS}:
            return _to(a, "double"), _to(b, "double")
        raise _unknown(left.parent or left)

    def _divide(self, node: exp.Div) -> Expression:
        by = self.value(node.expression)
        if by[0] != "literal" or by[1] not in ("int", "bigint", "double", "decimal") or not by[2]:
            raise _unknown(node)
        a = self.value(node.this)
        # In Spark, an integer divided by a decimal is a decimal.
        if a[1] == "double" or (a[1] in INTEGERS and by[1] != "decimal"):
            return ("/", "double", _to(a, "double"), _to(by, "double"))
        raise _unknown(node)

    def _comparable(self, left: exp.Expr, right: exp.Expr) -> tuple[Expression, Expression]:
        """Return two values in the type in which Spark compares them."""
        a, b = self.value(left), self.value(right)
        if a[1] == b[1] and a[1] in ("string", "boolean", "date"):
            return a, b
        if {a[1], b[1]} == {"date", "string"}:
            a, b = (_as_date(a, left), b) if a[1] == "string" else (a, _as_date(b, right))
            return a, b
        return self._numbers(left, right)

    def _same_type(self, op: str, nodes: Sequence[exp.Expr]) -> Expression:
        values = [self.value(node) for node in nodes]
        kinds = {value[1] for value in values}
        if len(kinds) != 1 or kinds == {"decimal"}:
            if "double" not in kinds or not kinds <= {"double", "float", "decimal", *INTEGERS}:
                raise _unknown(nodes[0].parent or nodes[0])
            values = [_to(value, "double") for value in values]
        return (op, values[0][1], *values)

    def _if(self, node: exp.If) -> Expression:
        otherwise = node.args.get("false")
        if otherwise is None:
            raise _unknown(node)
        branches = self._same_type("if", [node.args["true"], otherwise])
        return ("if", branches[1], self.boolean(node.this), *branches[2:])

    def _case(self, node: exp.Case) -> Expression:
        default = node.args.get("default")
        if default is None:
            raise _unknown(node)
        branches = node.args["ifs"]
        values = self._same_type("coalesce", [*(branch.args["true"] for branch in branches), default])
        result: Expression = values[-1]
        for branch, value in zip(reversed(branches), reversed(values[2:-1]), strict=True):
            result = ("if", values[1], self.boolean(branch.this), value, result)
        return result


def _literal(node: exp.Literal) -> Expression:
    text = str(node.this)
    if node.is_string:
        return ("literal", "string", text)
    if re.fullmatch(r"\d+", text):
        number = int(text)
        if number < 2**31:
            return ("literal", "int", number)
        if number < 2**63:
            return ("literal", "bigint", number)
    if re.fullmatch(r"\d*\.\d+|\d+\.\d*", text) and len(text) <= 16:  # all digits fit in a double and in a decimal
        return ("literal", "decimal", float(text))
    if re.fullmatch(r"(\d*\.\d+|\d+\.?)[eE][+-]?\d+", text):
        return ("literal", "double", float(text))
    raise _unknown(node)


def _bound(value: object) -> Expression:
    """Return the literal that Spark binds to a :marker."""
    if isinstance(value, bool):
        return ("literal", "boolean", value)
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return ("literal", "int" if -(2**31) <= value < 2**31 else "bigint", value)
    if isinstance(value, float):
        return ("literal", "double", value)
    if isinstance(value, str):
        return ("literal", "string", value)
    raise NotMapOnlyError("an arg is not a number, boolean or text")


def _to(value: Expression, kind: str) -> Expression:
    if value[1] == kind:
        return value
    if value[0] == "literal":
        return ("literal", kind, float(value[2]) if kind in FLOATS else value[2])
    return ("cast", kind, value)


def _widens(kind: str, target: str) -> bool:
    if kind in INTEGERS and target in INTEGERS:
        return INTEGERS.index(kind) <= INTEGERS.index(target)
    return target == "double" and kind in ("float", "decimal", *INTEGERS)


def _as_date(value: Expression, node: exp.Expr) -> Expression:
    """Return a text as a date: Spark converts a text that is compared with a date."""
    if value[0] != "literal":
        raise _unknown(node)
    return _date(value[2], node)


def _date(text: str, node: exp.Expr) -> Expression:
    from datetime import date

    if not _ISO_DATE.fullmatch(text):
        raise _unknown(node)
    try:
        return ("literal", "date", date.fromisoformat(text))
    except ValueError:
        raise _unknown(node) from None


def _unknown(node: exp.Expr) -> NotMapOnlyError:
    return NotMapOnlyError(f"only Spark can compute `{node.sql('spark')}`")
