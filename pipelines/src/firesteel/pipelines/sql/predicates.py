"""Conditions on one relation that a scan can apply early, and the partition values in them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import sqlglot
from pydantic import JsonValue
from sqlglot import exp

DIALECT = "spark"
_ISO_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")

_NOT_PLAIN = (
    exp.Query,
    exp.Subquery,
    exp.Exists,
    exp.AggFunc,
    exp.Window,
    exp.Anonymous,
    exp.AnonymousAggFunc,
    exp.Rand,
    exp.Randn,
    exp.Uuid,
    exp.CurrentTimestamp,
    exp.CurrentDate,
    exp.CurrentUser,
    exp.Explode,
    exp.Lambda,
)
"""Nodes that make a condition depend on more than its row, or return another value when evaluated again."""


@dataclass(frozen=True, slots=True)
class Predicate:
    """A condition on the columns of one relation, as Spark SQL with unqualified columns."""

    relation: str
    sql: str

    @classmethod
    def of(cls, relation: str, condition: exp.Expr) -> Predicate:
        """Return the predicate of a tree whose columns may be qualified."""
        tree = condition.copy()
        for column in tree.find_all(exp.Column):
            column.set("table", None)
        return cls(relation, tree.sql(dialect=DIALECT))

    @property
    def tree(self) -> exp.Expr:
        """Return a copy of the parsed condition, which the caller may change."""
        return _parsed(self.sql).copy()

    @property
    def columns(self) -> frozenset[str]:
        """Return the columns of the condition."""
        return _columns(self.sql)

    def moved(self, relation: str, names: Mapping[str, str]) -> Predicate:
        """Return the same condition on another relation with other column names."""
        if all(name == other for name, other in names.items()):
            return Predicate(relation, self.sql)
        tree = self.tree
        for column in list(tree.find_all(exp.Column)):
            column.set("this", exp.to_identifier(names[column.name]))
        return Predicate(relation, tree.sql(dialect=DIALECT))

    def values(self, column: str, kind: str) -> tuple[str, ...] | None:
        """Return the only values of `column` that satisfy the condition, as text; None if it does not list them.

        `kind` is the column's type, `string` or `date`. Spark also accepts `'2013-6-1'` as a date, but a directory has another name.
        """
        tree = self.tree
        if isinstance(tree, exp.EQ):
            sides = [tree.this, tree.expression]
            for one, other in (sides, sides[::-1]):
                if isinstance(one, exp.Column) and one.name.lower() == column.lower():
                    text = _text(other, kind)
                    return None if text is None else (text,)
        if isinstance(tree, exp.In) and isinstance(tree.this, exp.Column) and tree.this.name.lower() == column.lower():
            texts = [_text(item, kind) for item in tree.expressions]
            if texts and not tree.args.get("query") and all(text is not None for text in texts):
                return tuple(dict.fromkeys(text for text in texts if text is not None))
        return None


@lru_cache(maxsize=4096)
def _parsed(sql: str) -> exp.Expr:
    return sqlglot.parse_one(sql, dialect=DIALECT)


@lru_cache(maxsize=4096)
def _columns(sql: str) -> frozenset[str]:
    return frozenset(column.name for column in _parsed(sql).find_all(exp.Column))


def is_plain(condition: exp.Expr) -> bool:
    """Return whether a condition depends only on its row."""
    return not any(isinstance(node, _NOT_PLAIN) for node in condition.walk())


def is_fixed(condition: exp.Expr) -> bool:
    """Return whether a condition has no unbound marker."""
    return not any(condition.find_all(exp.Placeholder, exp.Parameter))


def bound(condition: exp.Expr, args: Mapping[str, JsonValue]) -> exp.Expr | None:
    """Return the condition with the values of its markers as literals; None if one is not a scalar."""
    tree = condition.copy()
    for marker in list(tree.find_all(exp.Placeholder)):
        value = args.get(str(marker.this))
        if not isinstance(value, str | int | float | bool):
            return None
        literal = exp.convert(value)
        if marker is tree:
            return literal
        marker.replace(literal)
    return tree


def _text(node: exp.Expr, kind: str) -> str | None:
    """Return the text of a literal that can be a directory's value: a string, or an ISO date for dates."""
    if kind == "date" and isinstance(node, exp.Cast) and node.is_type(exp.DataType.Type.DATE):
        node = node.this
    if not isinstance(node, exp.Literal) or not node.is_string:
        return None
    text = str(node.this)
    return text if kind == "string" or _ISO_DATE.fullmatch(text) else None
