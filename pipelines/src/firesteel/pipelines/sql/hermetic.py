"""Refuse SQL that reads data outside the spec, or that returns other values in another run.

A plan pins the files of its sources, its SQL and its settings. Equal plans give equal rows only if the SQL uses nothing else.
Functions are found by their names in the text, because sqlglot translates many functions to others.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.tokenizer_core import Token, TokenType

from firesteel.conf.errors import FiresteelError, SqlError, Where
from firesteel.pipelines.sql.predicates import DIALECT
from firesteel.pipelines.sql.select import ParsedSelect

_RELATION_KEYS = {"this", "alias", "joins", "laterals", "pivots", "sample"}
"""What a relation in FROM may have besides its name; `db`, `catalog`, `version`, `when` and others read other data."""

_KEYWORDS = {"table", "stream"}
"""Names after which Spark expects a relation, and which sqlglot reads as a relation."""

_GENERATORS = {
    "explode",
    "explode_outer",
    "inline",
    "inline_outer",
    "json_tuple",
    "posexplode",
    "posexplode_outer",
    "stack",
}

_TIME = 'Bind a time of the interval, for example `args: {at: "${interval.start}"}`, and write `:at`.'
_RANDOM = "Use a hash of a stable key, for example `pmod(xxhash64(id), 100) < 10` for about 10 % of the rows."
_KEY = "Use a hash of a stable key, for example `xxhash64(id)`, or `row_number()` over columns that identify a row."
_MACHINE = "Bind the value in the step's `args`, so that the plan contains it."
_CODE = "Compute the value in SQL, or before the pipeline reads the data."
_FILE = "Use the source's partition columns, or write the value to a column."

_UNPINNED = {
    **dict.fromkeys(
        ("curdate", "current_date", "current_time", "current_timestamp", "localtime", "localtimestamp", "now"), _TIME
    ),
    **dict.fromkeys(("rand", "randn", "random", "randstr", "shuffle", "uniform"), _RANDOM),
    **dict.fromkeys(("monotonically_increasing_id", "spark_partition_id", "uuid"), _KEY),
    **dict.fromkeys(("input_file_block_length", "input_file_block_start", "input_file_name"), _FILE),
    **dict.fromkeys(
        (
            *("current_catalog", "current_database", "current_path", "current_schema", "current_user"),
            *("session_user", "user", "version"),
        ),
        _MACHINE,
    ),
    **dict.fromkeys(("identifier", "java_method", "reflect", "try_reflect"), _CODE),
}
"""Function -> what to write instead. A seed does not help: Spark adds the number of the partition to it."""

_WITHOUT_ARGUMENTS = {"unix_timestamp": _TIME, "to_unix_timestamp": _TIME}
_AES_WITH_IV = 5
_BARE = {
    exp.CurrentDate: "current_date",
    exp.CurrentTime: "current_time",
    exp.CurrentTimestamp: "current_timestamp",
    exp.CurrentUser: "current_user",
    exp.Localtime: "localtime",
    exp.Localtimestamp: "localtimestamp",
    exp.SessionUser: "session_user",
}
"""Functions that SQL writes without parentheses."""

_STRINGS = {TokenType.STRING, TokenType.RAW_STRING, TokenType.NATIONAL_STRING, TokenType.HEX_STRING}
_TYPES_OF_TIME = {"date", "timestamp", "timestamp_ltz", "timestamp_ntz"}
_SPECIAL_TIME = re.compile(r"\s*(?:now|today|tomorrow|yesterday)\b", re.IGNORECASE)
_CONTINUED_COMMENT = re.compile(r"--[^\r\n]*\\\n")


def outside_errors(parsed: ParsedSelect) -> list[FiresteelError]:
    """Return FS2007 for each part of a SELECT that reads anything but a source or a step by its name."""
    return [SqlError("FS2007", what, where=where, hint=hint) for what, where, hint in dict.fromkeys(_outside(parsed))]


def unpinned_errors(parsed: ParsedSelect) -> list[FiresteelError]:
    """Return FS2008 for each function and clause whose result is not the same in every run of a plan."""
    problems: dict[str, tuple[int | None, str]] = {}
    for what, offset, hint in _unpinned(parsed):
        problems.setdefault(what, (offset, hint))
    return [
        SqlError(
            "FS2008", f"the result of {what} is not the same in every run.", where=parsed.text.at(offset), hint=hint
        )
        for what, (offset, hint) in problems.items()
    ]


def _outside(parsed: ParsedSelect) -> Iterator[tuple[str, Where, str]]:
    tree, text = parsed.tree, parsed.text
    for table in tree.find_all(exp.Table):
        where = text.at(_start(table))
        written = table.copy()
        for key in set(written.args) - {"this", "db", "catalog"}:
            written.set(key, None)
        name = written.sql(DIALECT)
        alias = table.args.get("alias")
        if table.args.get("db") or table.args.get("catalog"):
            hint = "Declare the table as a source under `sources`, and use the source's name without a qualifier."
            yield f"`{name}` is a qualified name, expected the name of a source or a step.", where, hint
        elif not isinstance(table.this, exp.Identifier):
            hint = "Use `VALUES`, `LATERAL VIEW explode(...)`, or a source."
            yield f"`{name}` is a table function, expected the name of a source or a step.", where, hint
        elif not table.this.quoted and table.name.lower() in _KEYWORDS:
            yield f"`{name} ...` is a keyword, expected SELECT or a name.", where, "Write `SELECT * FROM NAME`."
        elif extra := {key for key, value in table.args.items() if value} - _RELATION_KEYS:
            hint = "Write only the name. A source's `select` chooses its partitions."
            yield f"`{name}` has {', '.join(sorted(extra)).upper()}, which views do not have.", where, hint
        elif alias is not None and not isinstance(alias.this, exp.Identifier | None):
            yield f"`{table.sql(DIALECT)}` has an alias that is not a name.", where, "Write only the name."
    for lateral in tree.find_all(exp.Lateral):
        if not isinstance(lateral.this, exp.Subquery | exp.Query) and _function(lateral.this) not in _GENERATORS:
            what = f"`{lateral.this.sql(DIALECT)}` is not a generator."
            yield what, text.at(_start(lateral)), f"Use one of: {', '.join(sorted(_GENERATORS))}."
    for transform in tree.find_all(exp.QueryTransform):
        yield "TRANSFORM starts a process.", text.at(_start(transform)), _CODE
    for dot in tree.find_all(exp.Dot):
        if isinstance(dot.expression, exp.Func):
            what = f"`{dot.sql(DIALECT)}` is a function of a catalog, expected a function of Spark."
            yield what, text.at(_start(dot)), "Write the function's name without a qualifier."
    if continued := _CONTINUED_COMMENT.search(text.sql):
        what = "a comment ends with `\\`, so Spark takes the next line for a comment."
        yield what, text.at(continued.start()), "Remove the backslash."


def _unpinned(parsed: ParsedSelect) -> Iterator[tuple[str, int | None, str]]:
    try:
        tokens = sqlglot.tokenize(parsed.text.sql, dialect=DIALECT)
    except SqlglotError:  # it did parse, so it has tokens
        return
    for index, token in enumerate(tokens):
        name = token.text.lower()
        following = tokens[index + 1] if index + 1 < len(tokens) else None
        if following is None or token.token_type in _STRINGS:
            continue
        if following.token_type == TokenType.L_PAREN:
            if name in _UNPINNED:
                yield f"`{name}()`", token.start, _UNPINNED[name]
            elif name in _WITHOUT_ARGUMENTS and not _arguments(tokens, index + 1):
                yield f"`{name}()`", token.start, _WITHOUT_ARGUMENTS[name]
            elif name in {"aes_encrypt", "try_aes_encrypt"} and _arguments(tokens, index + 1) < _AES_WITH_IV:
                yield f"`{name}()` without an `iv`", token.start, "Pass `iv`, the fifth argument."
        elif following.token_type in _STRINGS and name in _TYPES_OF_TIME and _SPECIAL_TIME.match(following.text):
            yield f"`{name} '{following.text}'`", token.start, _TIME
    named = {token.text.lower() for token in tokens}
    for kind, name in _BARE.items():
        if name in named and any(parsed.tree.find_all(kind)):
            yield f"`{name}()`", parsed.text.sql.lower().find(name), _UNPINNED[name]
    for sample in parsed.tree.find_all(exp.TableSample):
        yield "TABLESAMPLE", _start(sample), _RANDOM


def _arguments(tokens: Sequence[Token], start: int) -> int:
    """Return the number of arguments in the parentheses that open at `start`."""
    depth = commas = 0
    for index in range(start, len(tokens)):
        kind = tokens[index].token_type
        depth += (kind == TokenType.L_PAREN) - (kind == TokenType.R_PAREN)
        commas += kind == TokenType.COMMA and depth == 1
        if not depth:
            return commas + 1 if index > start + 1 else 0
    return commas + 1


def _function(node: exp.Expr) -> str:
    if isinstance(node, exp.Anonymous):
        return node.name.lower()
    return node.sql_name().lower() if isinstance(node, exp.Func) else node.key


def _start(node: exp.Expr) -> int | None:
    """Return where a node starts in the text: sqlglot knows it for names."""
    around: exp.Expr | None = node
    while around is not None:
        offsets = [int(part.meta["start"]) for part in around.walk() if "start" in part.meta]
        if offsets:
            return min(offsets)
        around = around.parent
    return None
