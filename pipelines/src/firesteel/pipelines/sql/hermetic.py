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
_CASTS_TO_TIME = (
    _TYPES_OF_TIME
    | {f"{prefix}to_{kind}" for prefix in ("", "try_") for kind in _TYPES_OF_TIME | {"unix_timestamp"}}
    | {"cast", "try_cast", "add_months", "date_add", "date_diff", "date_format", "date_part", "date_sub", "date_trunc"}
    | {"dateadd", "datediff", "datepart", "extract", "from_utc_timestamp", "last_day", "months_between", "next_day"}
    | {"timestampadd", "timestampdiff", "to_utc_timestamp", "trunc", "unix_date", "unix_micros", "unix_millis"}
    | {"unix_seconds", "unix_timestamp", "year", "quarter", "month", "weekofyear", "day", "dayofmonth", "dayofweek"}
    | {"dayofyear", "weekday", "hour", "minute", "second", "window", "date_from_unix_date"}
)
"""Functions that cast a string to a date or a timestamp. A run finds the casts of all others, such as those of comparisons."""
_SPECIAL_TIME = re.compile(r"[\x00-\x20]*(?:now|today|tomorrow|yesterday)(?![a-z])", re.IGNORECASE)

_READ_FILES = {"from_protobuf", "to_protobuf"}
_TAKE_OPTIONS = {"from_avro": 3, "schema_of_avro": 2, "from_xml": 3, "schema_of_xml": 2}
"""Functions with options that may name a file, and the number of the argument with the options."""
_FILE_OPTIONS = {"avroschemaurl", "rowvalidationxsdpath"}
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
    yield from _read_files(parsed)
    if continued := _CONTINUED_COMMENT.search(text.sql):
        what = "a comment ends with `\\`, so Spark takes the next line for a comment."
        yield what, text.at(continued.start()), "Remove the backslash."


def is_special_time(text: str) -> bool:
    """Return whether Spark casts a string to a date or time that differs in each run.

    Examples
    --------
    >>> is_special_time("today"), is_special_time("2024-01-01")
    (True, False)
    """
    return _SPECIAL_TIME.match(text) is not None


def _tokens(parsed: ParsedSelect) -> list[Token]:
    try:
        return list(sqlglot.tokenize(parsed.text.sql, dialect=DIALECT))
    except SqlglotError:  # it did parse, so it has tokens
        return []


def _read_files(parsed: ParsedSelect) -> Iterator[tuple[str, Where, str]]:
    """Yield the calls of functions that read a file on the driver or the executors."""
    tokens = _tokens(parsed)
    for index, token in enumerate(tokens[:-1]):
        name = token.text.lower()
        if tokens[index + 1].token_type != TokenType.L_PAREN or token.token_type in _STRINGS:
            continue
        number = _TAKE_OPTIONS.get(name, 0)
        arguments = _arguments(tokens, index + 1) if number else []
        if name in _READ_FILES:
            yield (
                f"`{name}()` reads a descriptor file, which the plan does not pin.",
                parsed.text.at(token.start),
                _CODE,
            )
        elif len(arguments) >= number > 0 and not _names_no_file(arguments[number - 1]):
            what = f"the options of `{name}()` may name a file, which the plan does not pin."
            hint = f"Write `map('KEY', 'VALUE')` without {' and '.join(sorted(_FILE_OPTIONS))}."
            yield what, parsed.text.at(token.start), hint


def _names_no_file(options: Sequence[Token]) -> bool:
    """Return whether options are `map('KEY', 'VALUE', ...)` without a file. Spark also evaluates expressions, such as `concat`."""
    inside = options[2:-1]
    return (
        [token.text.lower() for token in options[:2]] == ["map", "("]
        and all(token.token_type in _STRINGS for token in inside[::2])
        and all(token.token_type == TokenType.COMMA for token in inside[1::2])
        and not {token.text.strip().lower() for token in inside[::4]} & _FILE_OPTIONS
    )


def _unpinned(parsed: ParsedSelect) -> Iterator[tuple[str, int | None, str]]:
    tokens = _tokens(parsed)
    calls: list[str] = []
    for index, token in enumerate(tokens):
        name = token.text.lower()
        following = tokens[index + 1] if index + 1 < len(tokens) else None
        name_before = tokens[index - 1].text.lower() if index else ""
        if token.token_type == TokenType.L_PAREN:
            calls.append(name_before if name_before.isidentifier() else "")
        elif token.token_type == TokenType.R_PAREN and calls:
            calls.pop()
        elif token.token_type in _STRINGS and is_special_time(token.text) and name_before not in _TYPES_OF_TIME:
            casts = next((call for call in reversed(calls) if call), "") in _CASTS_TO_TIME
            if casts or (following is not None and following.token_type == TokenType.DCOLON):
                yield f"the time '{token.text}'", token.start, _TIME
        if following is None or token.token_type in _STRINGS:
            continue
        if following.token_type == TokenType.L_PAREN:
            if name in _UNPINNED:
                yield f"`{name}()`", token.start, _UNPINNED[name]
            elif name in _WITHOUT_ARGUMENTS and not _arguments(tokens, index + 1):
                yield f"`{name}()`", token.start, _WITHOUT_ARGUMENTS[name]
            elif name in {"aes_encrypt", "try_aes_encrypt"} and len(_arguments(tokens, index + 1)) < _AES_WITH_IV:
                yield f"`{name}()` without an `iv`", token.start, "Pass `iv`, the fifth argument."
        elif following.token_type in _STRINGS and name in _TYPES_OF_TIME and is_special_time(following.text):
            yield f"`{name} '{following.text}'`", token.start, _TIME
    named = {token.text.lower() for token in tokens}
    for kind, name in _BARE.items():
        if name in named and any(parsed.tree.find_all(kind)):
            yield f"`{name}()`", parsed.text.sql.lower().find(name), _UNPINNED[name]
    for sample in parsed.tree.find_all(exp.TableSample):
        yield "TABLESAMPLE", _start(sample), _RANDOM


def _arguments(tokens: Sequence[Token], start: int) -> list[list[Token]]:
    """Return the tokens of each argument in the parentheses that open at `start`."""
    depth, arguments = 1, list[list[Token]]([[]])
    for token in tokens[start + 1 :]:
        kind = token.token_type
        depth += (kind == TokenType.L_PAREN) - (kind == TokenType.R_PAREN)
        if not depth:
            break
        if kind == TokenType.COMMA and depth == 1:
            arguments.append([])
        else:
            arguments[-1].append(token)
    return arguments if arguments != [[]] else []


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
