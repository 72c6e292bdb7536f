"""Analyse the dependencies of one qualified SELECT: column lineage, row conditions, joins, and conditions to push down.

Dependencies refer to relations (sources and steps), through subqueries and CTEs. For SQL that this module does not support, the
result is conservative: all columns depend on all columns, and no condition is pushed down.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from pydantic import JsonValue
from sqlglot import exp
from sqlglot.optimizer.scope import Scope, build_scope

from firesteel.pipelines.sql.predicates import Predicate, bound, is_fixed, is_plain

Origin = tuple[str, str]
"""(relation, column)."""


@dataclass(frozen=True, slots=True)
class Join:
    """A join; `right` are the relations on its right side."""

    kind: str
    right: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Dependencies:
    """The dependencies of a SELECT.

    Attributes
    ----------
    outputs
        Output column -> the columns that its value is computed from.
    rows
        The columns that select rows: those of filters, joins, groups, windows, sorts and set operations.
    through
        Output column -> the column that it copies, if a condition on one is valid for the other.
    conditions
        Conditions of WHERE that every used row of a relation satisfies.
    joins, exchanges
        The joins, and the operations that need a shuffle (`groups`, `sorts`).
    """

    outputs: Mapping[str, frozenset[Origin]] = field(default_factory=dict)
    rows: frozenset[Origin] = frozenset()
    through: Mapping[str, Origin] = field(default_factory=dict)
    conditions: tuple[Predicate, ...] = ()
    joins: tuple[Join, ...] = ()
    exchanges: tuple[str, ...] = ()

    def of(self, columns: frozenset[str]) -> frozenset[Origin]:
        """Return all columns that must be read to compute `columns`."""
        return self.rows.union(*(self.outputs.get(column, frozenset()) for column in columns))


def dependencies(
    tree: exp.Query, relations: Mapping[str, Mapping[str, str]], args: Mapping[str, JsonValue]
) -> Dependencies:
    """Return the dependencies of a qualified tree.

    Parameters
    ----------
    relations
        Relation -> lower-case column -> column as declared.
    args
        Values of markers, for pushed conditions that contain markers.
    """
    root = build_scope(tree)
    if root is None:
        return Dependencies()
    work = _Work(relations, args)
    outputs = work.outputs(root)
    for scope in root.traverse():
        work.collect_rows(scope)
    return Dependencies(
        outputs=outputs,
        rows=frozenset(work.rows),
        through=work.through(root),
        conditions=tuple(dict.fromkeys(work.conditions)),
        joins=tuple(work.joins),
        exchanges=tuple(dict.fromkeys(work.exchanges)),
    )


class _Work:
    def __init__(self, relations: Mapping[str, Mapping[str, str]], args: Mapping[str, JsonValue]) -> None:
        self.relations = {name.lower(): (name, columns) for name, columns in relations.items()}
        self.args = args
        self.rows: set[Origin] = set()
        self.conditions: list[Predicate] = []
        self.joins: list[Join] = []
        self.exchanges: list[str] = []
        self._outputs: dict[int, dict[str, frozenset[Origin]]] = {}

    # columns

    def resolve(self, scope: Scope, column: exp.Column) -> frozenset[Origin]:
        """Return the relations' columns on which a column of `scope` depends."""
        source = scope.sources.get(column.table)
        if isinstance(source, exp.Table):
            origin = self.origin(source, column.name)
            return frozenset({origin}) if origin else frozenset()
        if isinstance(source, Scope):
            inner = self.outputs(source)
            return inner.get(column.name.lower(), frozenset().union(*inner.values()))
        if scope.parent is not None and column.table:
            return self.resolve(scope.parent, column)
        return frozenset()

    def origin(self, table: exp.Table, column: str) -> Origin | None:
        """Return (relation, column) as declared."""
        name, columns = self.relations.get(table.name.lower(), ("", {}))
        return (name, columns[column.lower()]) if column.lower() in columns else None

    def within(self, scope: Scope, node: exp.Expr) -> frozenset[Origin]:
        """Return all columns in `node`, including those of subqueries and of the outer scope."""
        origins: set[Origin] = set()
        inner = {id(child.expression): child for child in scope.subquery_scopes}
        for descendant in node.walk():
            if isinstance(descendant, exp.Column):
                origins |= self.resolve(_scope_of(descendant, scope, inner), descendant)
        return frozenset(origins)

    def outputs(self, scope: Scope) -> dict[str, frozenset[Origin]]:
        """Return lower-case output column -> the columns that it is computed from."""
        known = self._outputs.get(id(scope))
        if known is None:
            self._outputs[id(scope)] = {}  # ends the recursion of a recursive CTE, so that only its base counts
            known = self._outputs[id(scope)] = self._of(scope)
        return known

    def _of(self, scope: Scope) -> dict[str, frozenset[Origin]]:
        query = scope.expression
        if isinstance(query, exp.SetOperation) and len(scope.set_operation_scopes) == 2:
            left, right = (self.outputs(side) for side in scope.set_operation_scopes)
            pairs = zip(left.items(), right.values(), strict=False)
            return {name: one | other for (name, one), other in pairs}
        if isinstance(query, exp.Select):
            return {select.alias_or_name.lower(): self.within(scope, select) for select in query.selects}
        return {"": self.within(scope, query)}

    def through(self, root: Scope) -> dict[str, Origin]:
        """Return the output columns that copy a column of a relation, if each output row depends on one row of it."""
        query = root.expression
        if not isinstance(query, exp.Select) or not _row_by_row(query):
            return {}
        kept = _kept_aliases(query)
        copies: dict[str, Origin] = {}
        for select in query.selects:
            value = select.unalias()
            if not isinstance(value, exp.Column) or value.table not in kept:
                continue
            source = root.sources.get(value.table)
            origin = self.origin(source, value.name) if isinstance(source, exp.Table) else None
            if origin:
                copies[select.alias_or_name] = origin
        return copies

    # rows

    def collect_rows(self, scope: Scope) -> None:
        """Collect the columns, joins and operations that select the rows of one scope."""
        query = scope.expression
        if isinstance(query, exp.SetOperation):
            self._set_operation(scope, query)
        elif isinstance(query, exp.Select):
            self._select(scope, query)
        else:
            self.rows |= self.within(scope, query)
            if not isinstance(query, exp.Lateral | exp.Subquery | exp.Table):
                self.exchanges.append(f"has {query.key.upper()}")

    def _set_operation(self, scope: Scope, query: exp.SetOperation) -> None:
        if isinstance(query, exp.Union) and not query.args.get("distinct"):
            self.exchanges.append("unites relations")
        else:
            self.exchanges.append(f"compares rows ({query.key.upper()})")
            self.rows |= frozenset().union(*self.outputs(scope).values())
        self._modifiers(scope, query)

    def _select(self, scope: Scope, query: exp.Select) -> None:
        for key in ("where", "group", "having", "qualify", "laterals", "pivots"):
            part = query.args.get(key)
            for node in part if isinstance(part, list) else [part]:
                if isinstance(node, exp.Expr):
                    self.rows |= self.within(scope, node)
        if query.args.get("group") and query.args["group"].args.get("all"):
            self.rows |= frozenset().union(*self.outputs(scope).values())
        if query.args.get("distinct"):
            self.exchanges.append("removes duplicates")
            self.rows |= frozenset().union(*self.outputs(scope).values())
        if query.args.get("group") or any(_own(query, exp.AggFunc, within_windows=False)):
            self.exchanges.append("groups")
        if any(_own(query, exp.Window)):
            self.exchanges.append("uses windows")
        if any(_own(query, exp.Explode, exp.Posexplode, exp.Inline)):
            self.rows |= frozenset().union(*self.outputs(scope).values())
        for join in query.args.get("joins") or []:
            self._join(scope, join)
        for inner in scope.subquery_scopes:
            self.exchanges.append("asks a subquery")
            self.rows |= frozenset().union(*self.outputs(inner).values())
        self._modifiers(scope, query)
        self._where(scope, query)

    def _modifiers(self, scope: Scope, query: exp.Query) -> None:
        for key, word in (
            ("order", "sorts"),
            ("sort", "sorts"),
            ("cluster", "clusters"),
            ("distribute", "distributes"),
        ):
            node = query.args.get(key)
            if isinstance(node, exp.Expr):
                self.exchanges.append(word)
                self.rows |= self.within(scope, node)
        if query.args.get("limit") or query.args.get("offset"):
            self.exchanges.append("limits")

    def _join(self, scope: Scope, join: exp.Join) -> None:
        if isinstance(join.this, exp.Lateral | exp.Unnest):
            self.rows |= self.within(scope, join)
            return
        condition = join.args.get("on")
        if isinstance(condition, exp.Expr):
            self.rows |= self.within(scope, condition)
        source = scope.sources.get(join.alias_or_name)
        right = sorted(self._relations(source))
        kind = " ".join(word for word in (join.side, join.kind) if word) or "INNER"
        self.joins.append(Join(kind, tuple(right)))
        self.exchanges.append(f"joins {', '.join(right) or 'a subquery'}")

    def _relations(self, source: object) -> set[str]:
        if isinstance(source, exp.Table):
            name, _ = self.relations.get(source.name.lower(), ("", {}))
            return {name} if name else set()
        if isinstance(source, Scope):
            return set().union(*(self._relations(inner) for _, inner in source.selected_sources.values()))
        return set()

    def _where(self, scope: Scope, query: exp.Select) -> None:
        where = query.args.get("where")
        if where is None:
            return
        kept = _kept_aliases(query)
        for condition in where.this.flatten() if isinstance(where.this, exp.And) else [where.this]:
            columns = list(condition.find_all(exp.Column))
            aliases = {column.table for column in columns}
            source = scope.sources.get(next(iter(aliases), ""))
            if len(aliases) != 1 or not aliases <= kept or not isinstance(source, exp.Table) or not is_plain(condition):
                continue
            origins = [self.origin(source, column.name) for column in columns]
            whole = bound(condition, self.args)
            if whole is not None and all(origins) and is_fixed(whole):
                self.conditions.append(Predicate.of(source.name and self.relations[source.name.lower()][0], whole))


def _scope_of(column: exp.Column, scope: Scope, inner: Mapping[int, Scope]) -> Scope:
    """Return the scope of a column: that of the innermost query around it."""
    node: exp.Expr | None = column
    while node is not None and node is not scope.expression:
        if id(node) in inner:
            subquery = inner[id(node)]
            deeper = {id(child.expression): child for child in subquery.subquery_scopes}
            return _scope_of(column, subquery, deeper) if deeper else subquery
        node = node.parent
    return scope


def _own(query: exp.Select, *kinds: type[exp.Expr], within_windows: bool = True) -> Iterator[exp.Expr]:
    """Yield nodes of `kinds` in the SELECT list, HAVING and QUALIFY of a query, without its subqueries."""
    parts = [*query.selects, query.args.get("having"), query.args.get("qualify")]
    for part in parts:
        if not isinstance(part, exp.Expr):
            continue
        for node in part.walk(prune=lambda child: isinstance(child, exp.Query)):
            if isinstance(node, kinds) and (within_windows or node.find_ancestor(exp.Window, exp.Select) is query):
                yield node


def _row_by_row(query: exp.Select) -> bool:
    """Return whether each output row depends on only one row of the FROM relation."""
    stops = ("group", "distinct", "having", "qualify", "limit", "offset", "laterals", "pivots")
    return not any(query.args.get(key) for key in stops) and not any(
        _own(query, exp.Window, exp.AggFunc, exp.Explode, exp.Posexplode, exp.Inline)
    )


def _kept_aliases(query: exp.Select) -> frozenset[str]:
    """Return the aliases whose rows appear only if they satisfy WHERE: not those that an outer join fills with nulls."""
    start = query.args.get("from_")
    kept = {start.this.alias_or_name} if start else set()
    for join in query.args.get("joins") or []:
        if join.side == "FULL":
            return frozenset()
        if join.side == "RIGHT":
            kept = {join.alias_or_name}
        elif not join.side and join.kind not in {"SEMI", "ANTI"}:
            kept.add(join.alias_or_name)
    return frozenset(kept)
