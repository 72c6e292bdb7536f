"""Analyse one SELECT offline: the relations and columns that it reads, and its output columns with their types.

sqlglot (Spark dialect) parses the SQL and propagates types; Spark gets the original text. A type that sqlglot cannot determine is
`unknown`; Spark's analysis checks it before the first job.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count

import sqlglot
from pydantic import JsonValue
from sqlglot import exp
from sqlglot.errors import OptimizeError, ParseError, SqlglotError, TokenError
from sqlglot.optimizer.annotate_types import annotate_types
from sqlglot.optimizer.qualify import qualify
from sqlglot.optimizer.scope import Scope, build_scope, traverse_scope

from firesteel.conf.errors import FiresteelError, SqlError, Where
from firesteel.pipelines.plan.model import Column
from firesteel.pipelines.spec.refs import constant_args
from firesteel.pipelines.spec.values import normal_type
from firesteel.pipelines.sql.dependencies import Dependencies, dependencies
from firesteel.pipelines.sql.predicates import DIALECT

UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class SqlText:
    """SQL and its location. Locations in a file are exact; inline SQL has the location of its key."""

    sql: str
    where: Where
    in_file: bool

    def at(self, offset: int | None) -> Where:
        """Return the location of a character."""
        if not self.in_file or offset is None:
            return self.where
        before = self.sql[:offset]
        return Where(self.where.file, before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1)


@dataclass(frozen=True, slots=True)
class ParsedSelect:
    """A parsed step: its tree, and the relations that it names with their locations."""

    text: SqlText
    tree: exp.Query
    tables: tuple[tuple[str, Where], ...]

    @property
    def reads(self) -> tuple[str, ...]:
        """Return the names of the relations that it reads, without duplicates, in the order of the text."""
        return tuple(dict.fromkeys(name for name, _ in self.tables))

    @property
    def canonical(self) -> str:
        """Return the SELECT in a canonical format, without comments."""
        return self.tree.sql(dialect=DIALECT, comments=False)

    def may_lack(self, column: str) -> bool:
        """Return whether an unused column of a relation can be omitted without a change of the result.

        It can if the SELECT does not name the column, and does not use columns by position (UNION) or all together (NATURAL JOIN,
        `struct(*)`).
        """
        if any(name.name.lower() == column.lower() for name in self.tree.find_all(exp.Identifier)):
            return False
        joins = self.tree.find_all(exp.Join)
        if self.tree.find(exp.SetOperation) or any(join.method == "NATURAL" for join in joins):
            return False
        stars = [star.parent if isinstance(star.parent, exp.Column) else star for star in self.tree.find_all(exp.Star)]
        return all(isinstance(star.parent, exp.Select | exp.Count) for star in stars)


@dataclass(frozen=True, slots=True)
class SelectFacts:
    """The result of the analysis. `origins` has the (relation, column) that an output column copies."""

    columns: tuple[Column, ...]
    uses: Mapping[str, frozenset[str]]
    origins: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    needs: Dependencies = field(default_factory=Dependencies)


def parse_select(text: SqlText) -> ParsedSelect:
    """Return the parsed SELECT of a step.

    Raises
    ------
    SqlError
        FS2001 when it does not parse, FS2002 when it is not exactly one SELECT.
    """
    try:
        trees = [tree for tree in sqlglot.parse(text.sql, dialect=DIALECT) if tree is not None]
    except ParseError as error:
        first = error.errors[0] if error.errors else {}
        where = text.where
        if text.in_file and first.get("line"):
            where = Where(where.file, first["line"], first["col"])
        near = first.get("highlight") or ""
        what = f"the SQL does not parse{f' near `{near}`' if near else ''}: {first.get('description', error)}."
        raise SqlError("FS2001", what.replace("..", "."), where=where) from None
    except TokenError as error:
        raise SqlError("FS2001", f"the SQL does not parse: {str(error).splitlines()[0]}.", where=text.where) from None
    except RecursionError:
        raise SqlError("FS2001", "the SQL is nested too deeply to parse.", where=text.where) from None
    if len(trees) != 1 or not isinstance(trees[0], exp.Query):
        found = "none" if not trees else f"{len(trees)} statements" if len(trees) > 1 else trees[0].key.upper()
        raise SqlError("FS2002", f"a step must be one SELECT, found {found}.", where=text.where)
    tree = trees[0]
    tables = list(tree.find_all(exp.Table))
    ctes = {id(table): _cte_of(table) for table in tables}
    relations = [table for table in tables if ctes[id(table)] is None]
    named = tuple((table.name, text.at(table.this.meta.get("start"))) for table in relations)
    _rename_ambiguous(tree, [(table, cte) for table in tables if (cte := ctes[id(table)]) is not None], relations)
    return ParsedSelect(text, tree, named)


def _cte_of(table: exp.Table) -> exp.CTE | None:
    """Return the CTE that a table names; None if it names a relation.

    As in Spark, the innermost CTE counts, and a CTE sees only those before it, and itself only after RECURSIVE.
    """
    if table.db or not isinstance(table.this, exp.Identifier):
        return None
    inner: exp.Expr = table
    outer = table.parent
    while outer is not None:
        visible: list[exp.CTE] = []
        if isinstance(outer, exp.With):
            index = next(index for index, cte in enumerate(outer.expressions) if cte is inner)
            visible = outer.expressions[: index + bool(outer.recursive)]
        elif (clause := outer.args.get("with_")) is not None and clause is not inner:
            visible = clause.expressions
        for cte in reversed(visible):
            if cte.alias_or_name.lower() == table.name.lower():
                return cte
        inner, outer = outer, outer.parent
    return None


def _rename_ambiguous(
    tree: exp.Query, references: Sequence[tuple[exp.Table, exp.CTE]], relations: Sequence[exp.Table]
) -> None:
    """Give each CTE whose name also means another CTE or a relation a name of its own, so that a name has one meaning."""
    ctes = list(tree.find_all(exp.CTE))
    names = [cte.alias_or_name.lower() for cte in ctes]
    others = {table.name.lower() for table in relations}
    taken = {*names, *others}
    for cte, name in zip(ctes, names, strict=True):
        if names.count(name) == 1 and name not in others:
            continue
        new = next(unused for number in count(2) if (unused := f"{name}_{number}") not in taken)
        taken.add(new)
        cte.args["alias"].set("this", exp.to_identifier(new))
        for table, target in references:
            if target is cte:
                if not table.args.get("alias"):
                    table.set("alias", exp.TableAlias(this=table.this.copy()))
                table.set("this", exp.to_identifier(new))


def check_markers(parsed: ParsedSelect, args: Collection[str]) -> list[FiresteelError]:
    """Return FS2005 for each `:marker` that no arg binds."""
    names = dict.fromkeys(str(marker.this) for marker in parsed.tree.find_all(exp.Placeholder) if marker.this)
    return [
        SqlError(
            "FS2005",
            f"`:{name}` is not bound (args: {', '.join(args) or 'none'}).",
            where=parsed.text.at(parsed.text.sql.find(f":{name}")),
            hint=f"Add `args: {{{name}: ...}}` to the step.",
        )
        for name in names
        if name not in args
    ]


def analyze_select(
    parsed: ParsedSelect, relations: Mapping[str, tuple[Column, ...]], args: Mapping[str, JsonValue] | None = None
) -> tuple[SelectFacts, list[FiresteelError]]:
    """Return the columns of a SELECT, resolved in the relations that it reads; `args` are the values or templates of its markers.

    Returns
    -------
    The facts, and FS2004 for each column that does not exist. With errors the facts are incomplete.
    """
    schema: dict[str, object] = {
        name: {column.name: column.type for column in columns} for name, columns in relations.items()
    }
    if errors := wrong_qualified(parsed, relations):
        return SelectFacts((), {}), errors  # qualify() stops at the first error and gives no location
    try:
        tree = qualify(
            parsed.tree.copy(), schema=schema, dialect=DIALECT, validate_qualify_columns=False, quote_identifiers=False
        )
        tree = annotate_types(tree, schema=schema, dialect=DIALECT)
    except (OptimizeError, SqlglotError) as error:
        return SelectFacts((), {}), [
            SqlError("FS2004", f"{str(error).splitlines()[0].rstrip('.')}.", where=parsed.text.where)
        ]
    uses: dict[str, set[str]] = {name: set() for name in relations}
    reported: set[str] = set()
    for scope in traverse_scope(tree):
        for column in scope.columns:
            relation = _relation(scope, column.table, relations)
            if relation is not None and column.name.lower() in _names(relations[relation]):
                uses[relation].add(_names(relations[relation])[column.name.lower()])
            elif relation is not None or (not column.table and not _is_alias(scope, column)):
                name = column.name.lower()
                if name not in reported:
                    reported.add(name)
                    errors.append(_no_such_column(parsed, column, relation, relations))
    for name in _excepted(parsed.tree):  # Spark requires these columns to exist
        for relation in relations:
            uses[relation] |= {known for lower, known in _names(relations[relation]).items() if lower == name}
    selects = tree.selects if isinstance(tree, exp.Query) else []
    columns = tuple(Column(select.alias_or_name, _type(select, args or {})) for select in selects)
    root = build_scope(tree)
    origins = {}
    for select in selects:
        origin = _origin(root, select, relations) if root else None
        if origin:
            origins[select.alias_or_name] = origin
    needs = dependencies(tree, {name: _names(known) for name, known in relations.items()}, constant_args(args or {}))
    return SelectFacts(columns, {name: frozenset(used) for name, used in uses.items()}, origins, needs), errors


def wrong_qualified(parsed: ParsedSelect, relations: Mapping[str, tuple[Column, ...]]) -> list[FiresteelError]:
    """Return FS2004 for each `alias.column` whose relation is known and lacks the column."""
    errors: dict[tuple[str, str], FiresteelError] = {}
    for scope in traverse_scope(parsed.tree):
        for column in scope.columns:
            relation = _relation(scope, column.table, relations) if column.table else None
            if (
                relation
                and not isinstance(column.this, exp.Star)
                and column.name.lower() not in _names(relations[relation])
            ):
                error = _no_such_column(parsed, column, relation, relations)
                errors.setdefault((relation, column.name.lower()), error)
    return list(errors.values())


def _excepted(tree: exp.Expr) -> set[str]:
    """Return the columns, in lower case, that a `* EXCEPT (...)` excludes."""
    return {column.name.lower() for star in tree.find_all(exp.Star) for column in star.args.get("except_") or ()}


def _names(columns: tuple[Column, ...]) -> dict[str, str]:
    return {column.name.lower(): column.name for column in columns}


def _relation(scope: Scope, alias: str, relations: Mapping[str, object]) -> str | None:
    source = scope.sources.get(alias)
    if isinstance(source, exp.Table):
        lower = {name.lower(): name for name in relations}
        return lower.get(source.name.lower())
    return None


def _is_alias(scope: Scope, column: exp.Column) -> bool:
    """Return whether ORDER BY, GROUP BY or HAVING names an output column of the same SELECT, which Spark allows."""
    selects = scope.expression.selects if isinstance(scope.expression, exp.Query) else []
    inside = column.find_ancestor(exp.Order, exp.Group, exp.Having, exp.Qualify)
    return inside is not None and column.name.lower() in {select.alias_or_name.lower() for select in selects}


def _type(select: exp.Expr, args: Mapping[str, JsonValue]) -> str:
    value = select.unalias()
    if isinstance(value, exp.Placeholder):
        return _bound_type(args.get(str(value.this)))
    kind = select.type
    if kind is None or kind.is_type(exp.DataType.Type.UNKNOWN, exp.DataType.Type.NULL):
        return UNKNOWN
    text = kind.sql(DIALECT)
    try:
        return normal_type(text)
    except ValueError:  # a type that a spec cannot declare, such as an interval
        return text.lower().replace(", ", ",")


def _bound_type(value: JsonValue) -> str:
    """Return the type of a value that Spark binds to a marker."""
    if isinstance(value, int) and not isinstance(value, bool):
        return "int" if -(2**31) <= value < 2**31 else "bigint"
    return {str: "string", bool: "boolean", float: "double"}.get(type(value), UNKNOWN)


def _origin(scope: Scope, select: exp.Expr, relations: Mapping[str, object]) -> tuple[str, str] | None:
    """Return the (relation, column) that an output column copies, through subqueries and CTEs."""
    value = select.unalias()
    if not isinstance(value, exp.Column) or not isinstance(scope.expression, exp.Select):
        return None
    source = scope.sources.get(value.table)
    if isinstance(source, exp.Table):
        relation = _relation(scope, value.table, relations)
        return (relation, value.name) if relation else None
    if isinstance(source, Scope) and isinstance(source.expression, exp.Select):
        inner = next((item for item in source.expression.selects if item.alias_or_name == value.name), None)
        return _origin(source, inner, relations) if inner is not None else None
    return None


def _no_such_column(
    parsed: ParsedSelect,
    column: exp.Column,
    relation: str | None,
    relations: Mapping[str, tuple[Column, ...]],
) -> FiresteelError:
    written = next(
        (node for node in parsed.tree.find_all(exp.Column) if node.name.lower() == column.name.lower()), column
    )
    inside = [relation] if relation else list(relations)
    known = {candidate.name: candidate for name in inside for candidate in relations[name]}
    close = difflib.get_close_matches(column.name, list(known), n=1, cutoff=0.5)
    hint = f"Did you mean `{close[0]}` ({known[close[0]].type})?" if close else f"Use one of: {', '.join(known)}."
    return SqlError(
        "FS2004",
        f"column `{column.name}` does not exist in {relation or ', '.join(inside) or 'any relation'}.",
        where=parsed.text.at(written.this.meta.get("start")),
        hint=hint,
    )
