"""A SELECT that Arrow can compute exactly as Spark: one relation, a condition, simple expressions. Anything else says why not.

Expressions come out as `(op, type, *arguments)` with Spark's types, every coercion written down as a cast: what evaluates them
(`firesteel.udfs.direct.expressions`) guesses nothing. The rules are those of Spark's ANSI mode, which is its default, and only
those of them that have no case in which Arrow could differ. A division by a column is not among them (zero), a cast to a narrower
type neither (overflow), nor anything on decimals and timestamps but to copy and compare with null.
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
    """Output column -> expression, and the condition on the rows."""

    columns: tuple[tuple[str, Expression], ...]
    where: Expression | None

    def columns_of(self) -> tuple[Column, ...]:
        """The columns that it gives, with Spark's types."""
        return tuple(Column(name, each[1]) for name, each in self.columns)


class NotMapOnlyError(Exception):
    """Why a SELECT is not for Arrow; a phrase."""


def map_only(tree: exp.Expr, columns: Sequence[Column], args: Mapping[str, Any]) -> MapOnly:
    """Translate a SELECT over one relation.

    Parameters
    ----------
    columns
        Of the relation.
    args
        Values of the :markers.

    Raises
    ------
    NotMapOnlyError
        It is not one, or not provably the same in Arrow.
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
        raise NotMapOnlyError("it samples, or names a catalogue")
    compiler = _Compiler(columns, args, tables[0].alias_or_name.lower())
    made: list[tuple[str, Expression]] = []
    for select in tree.expressions:
        if isinstance(select, exp.Star) and not any(select.args.values()):
            made += [(each.name, ("column", each.type, each.name)) for each in columns]
        elif isinstance(select, exp.Alias):
            made.append((select.alias, compiler.value(select.this)))
        elif isinstance(select, exp.Column) and not isinstance(select.this, exp.Star):
            made.append((select.name, compiler.value(select)))
        else:
            raise NotMapOnlyError(f"`{select.sql('spark')}` has no name")
    names = [name.lower() for name, _ in made]
    if len(set(names)) < len(names):
        raise NotMapOnlyError("two columns have one name")
    where = tree.args.get("where")
    condition = compiler.boolean(where.this) if where else None
    return MapOnly(tuple(made), condition)


class _Compiler:
    """One SELECT's expressions. Each method gives an expression, or raises NotMapOnlyError."""

    def __init__(self, columns: Sequence[Column], args: Mapping[str, Any], relation: str) -> None:
        self._columns = {column.name.lower(): column for column in columns}
        self._args = args
        self._relation = relation

    def value(self, node: exp.Expr) -> Expression:
        """Any expression."""
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
        if isinstance(node, exp.Cast):  # sqlglot makes Spark's CAST a TryCast; those that pass cannot fail
            return self._cast(node)
        if type(node) in _ARITHMETIC:
            a, b = self._numbers(node.this, node.expression)
            return (_ARITHMETIC[type(node)], a[1], a, b)
        if isinstance(node, exp.Div):
            return self._divide(node)
        if isinstance(node, exp.Coalesce):
            return self._alike("coalesce", [node.this, *node.expressions])
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
        """A condition."""
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
            pairs = [self._comparable(node.this, each) for each in node.expressions]
            if len({pair[0] for pair in pairs}) == 1:
                return ("in", "boolean", pairs[0][0], *(pair[1] for pair in pairs))
        if isinstance(node, exp.Column | exp.Boolean | exp.Placeholder | exp.If | exp.Coalesce | exp.Case):
            found = self.value(node)
            if found[1] == "boolean":
                return found
        raise _unknown(node)

    def _column(self, node: exp.Column) -> Expression:
        column = self._columns.get(node.name.lower())
        if column is None or (node.table and node.table.lower() != self._relation):
            raise _unknown(node)
        return ("column", column.type, column.name)

    def _any(self, node: exp.Expr) -> Expression:
        """A column of any type, or an expression."""
        return self._column(node) if isinstance(node, exp.Column) else self.value(node)

    def _negative(self, node: exp.Neg) -> Expression:
        inner = self.value(node.this)
        if inner[0] == "literal" and inner[1] in ("int", "decimal", "double"):
            return ("literal", inner[1], -inner[2])
        if inner[1] not in (*INTEGERS, *FLOATS):
            raise _unknown(node)
        return ("negate", inner[1], inner)

    def _cast(self, node: exp.Cast) -> Expression:
        wanted = node.to.sql("spark").lower()
        if isinstance(node.this, exp.Literal) and node.this.is_string and wanted == "date":
            return _date(str(node.this.this), node)
        inner = self.value(node.this)
        if inner[1] == wanted and inner[1] != "decimal":
            return inner
        if not _widens(inner[1], wanted):
            raise _unknown(node)
        return _to(inner, wanted)

    def _numbers(self, left: exp.Expr, right: exp.Expr) -> tuple[Expression, Expression]:
        """Two numbers in the type that Spark computes with."""
        a, b = self.value(left), self.value(right)
        kinds = {a[1], b[1]}
        if kinds <= set(INTEGERS):
            wide = max(kinds, key=INTEGERS.index)
            return _to(a, wide), _to(b, wide)
        if kinds == {"float"}:
            return a, b
        # With a double all becomes a double; float with an integer or a decimal has rules of its own.
        if "double" in kinds and kinds <= {"double", "float", "decimal", *INTEGERS}:
            return _to(a, "double"), _to(b, "double")
        raise _unknown(left.parent or left)

    def _divide(self, node: exp.Div) -> Expression:
        by = self.value(node.expression)
        if by[0] != "literal" or by[1] not in ("int", "bigint", "double", "decimal") or not by[2]:
            raise _unknown(node)
        a = self.value(node.this)
        # An integer by a decimal is a decimal in Spark.
        if a[1] == "double" or (a[1] in INTEGERS and by[1] != "decimal"):
            return ("/", "double", _to(a, "double"), _to(by, "double"))
        raise _unknown(node)

    def _comparable(self, left: exp.Expr, right: exp.Expr) -> tuple[Expression, Expression]:
        """Two values in the type that Spark compares them in."""
        a, b = self.value(left), self.value(right)
        if a[1] == b[1] and a[1] in ("string", "boolean", "date"):
            return a, b
        if {a[1], b[1]} == {"date", "string"}:
            a, b = (_as_date(a, left), b) if a[1] == "string" else (a, _as_date(b, right))
            return a, b
        return self._numbers(left, right)

    def _alike(self, op: str, nodes: Sequence[exp.Expr]) -> Expression:
        values = [self.value(each) for each in nodes]
        kinds = {each[1] for each in values}
        if len(kinds) != 1 or kinds == {"decimal"}:
            if "double" not in kinds or not kinds <= {"double", "float", "decimal", *INTEGERS}:
                raise _unknown(nodes[0].parent or nodes[0])
            values = [_to(each, "double") for each in values]
        return (op, values[0][1], *values)

    def _if(self, node: exp.If) -> Expression:
        otherwise = node.args.get("false")
        if otherwise is None:
            raise _unknown(node)
        found = self._alike("if", [node.args["true"], otherwise])
        return ("if", found[1], self.boolean(node.this), *found[2:])

    def _case(self, node: exp.Case) -> Expression:
        default = node.args.get("default")
        if default is None:
            raise _unknown(node)
        branches = node.args["ifs"]
        found = self._alike("coalesce", [*(each.args["true"] for each in branches), default])
        result: Expression = found[-1]
        for branch, value in zip(reversed(branches), reversed(found[2:-1]), strict=True):
            result = ("if", found[1], self.boolean(branch.this), value, result)
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
    """A value that Spark binds to a :marker."""
    if isinstance(value, bool):
        return ("literal", "boolean", value)
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return ("literal", "int" if -(2**31) <= value < 2**31 else "bigint", value)
    if isinstance(value, float):
        return ("literal", "double", value)
    if isinstance(value, str):
        return ("literal", "string", value)
    raise NotMapOnlyError("an arg is neither a number nor a text")


def _to(value: Expression, wanted: str) -> Expression:
    if value[1] == wanted:
        return value
    if value[0] == "literal":
        return ("literal", wanted, float(value[2]) if wanted in FLOATS else value[2])
    return ("cast", wanted, value)


def _widens(found: str, wanted: str) -> bool:
    if found in INTEGERS and wanted in INTEGERS:
        return INTEGERS.index(found) <= INTEGERS.index(wanted)
    return wanted == "double" and found in ("float", "decimal", *INTEGERS)


def _as_date(value: Expression, node: exp.Expr) -> Expression:
    """Spark reads a text that is compared with a date as a date."""
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
    return NotMapOnlyError(f"`{node.sql('spark')}` is left to Spark")
