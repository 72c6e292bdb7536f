"""Compare two plans: their differences, and the intervals that must be scored again."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Literal, Protocol

import sqlglot
from sqlglot.errors import SqlglotError

from firesteel.pipelines.plan.model import (
    ChallengerPlan,
    Column,
    Expectation,
    GatePlan,
    IntervalPlan,
    ModelPlan,
    Plan,
    SqlStepPlan,
)
from firesteel.pipelines.plan.settings import changes_results
from firesteel.pipelines.sql.predicates import DIALECT

Touches = Literal["results", "gates", "nothing"]
"""What a difference affects: the published rows, the gates, or nothing but the execution."""

_DERIVED = {"operator_reason", "resolved_uri", "size_bytes", "read", "filters", "kind"}
"""Fields that are derived from others."""
_HARMLESS = {
    ("source", "path"),
    ("sink", "path"),
    ("sink", "keep_versions"),
    ("sink", "keep_dead_letters_s"),
    ("sink", "keep_quarantine_s"),
    ("sink", "file_bytes"),
    ("sink", "on_empty"),
    ("sink", "min_rows"),
    ("score", "threads"),
    ("score", "warmup"),
    ("model", "uri"),
}
"""(kind, field) pairs that change only the execution and no hash."""


@dataclass(frozen=True, slots=True)
class Change:
    """One difference: the changed object, a description, and detail lines such as those of SQL."""

    of: str
    words: str
    touches: Touches = "results"
    detail: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Difference:
    """All differences. `scored_again`, `added` and `removed` are intervals; `same` is the number of equal intervals."""

    changes: tuple[Change, ...]
    scored_again: tuple[str, ...]
    added: tuple[str, ...]
    removed: tuple[str, ...]
    same: int
    equal_code: bool


class _Named(Protocol):
    @property
    def name(self) -> str: ...


def diff(old: Plan, new: Plan) -> Difference:
    """Return the differences of two plans, or of two sketches (`Pipeline.sketch`)."""
    changes = [
        *_values("pipeline", old, new, ("pipeline", "environment"), "results"),
        *_values("pipeline", old, new, ("owner", "profile", "storage", "master", "tracking"), "nothing"),
        *_items("source", old.sources, new.sources),
        *_items("model", old.models, new.models),
        *_items("step", old.steps, new.steps),
        *_items("gate", old.gates, new.gates),
        *_items("sink", old.sinks, new.sinks),
        *_settings(dict(old.spark_conf), dict(new.spark_conf)),
    ]
    before = {interval.id: interval for interval in old.intervals}
    after = {interval.id: interval for interval in new.intervals}
    both = [name for name in before if name in after]
    again = tuple(name for name in both if before[name].plan_hash != after[name].plan_hash)
    changes += [change for name in both for change in _inputs(before[name], after[name])]
    return Difference(
        tuple(changes),
        again,
        tuple(name for name in after if name not in before),
        tuple(name for name in before if name not in after),
        len(both) - len(again),
        old.code_hash == new.code_hash,
    )


def _values(of: str, old: object, new: object, names: Iterable[str], touches: Touches) -> Iterator[Change]:
    for name in names:
        one, other = getattr(old, name), getattr(new, name)
        if one != other:
            yield Change(of, f"{name}: {_text(one)} -> {_text(other)}", touches)


def _items(kind: str, old: Iterable[_Named], new: Iterable[_Named]) -> Iterator[Change]:
    before, after = {item.name: item for item in old}, {item.name: item for item in new}
    for name in before.keys() - after.keys():
        yield Change(f"{kind} {name}", "is removed", _whole(before[name]))
    for name, item in after.items():
        if name not in before:
            yield Change(f"{kind} {name}", "is new", _whole(item))
        elif before[name] != item:
            yield from _item(kind, f"{kind} {name}", before[name], item)


def _whole(item: _Named) -> Touches:
    return "gates" if isinstance(item, GatePlan) and not item.excludes_rows else "results"


def _item(kind: str, of: str, old: _Named, new: _Named) -> Iterator[Change]:
    if type(old) is not type(new):
        yield Change(of, "is of another kind")
        return
    if isinstance(old, ModelPlan) and isinstance(new, ModelPlan):
        yield from _model(of, old, new)
    if isinstance(old, GatePlan) and isinstance(new, GatePlan):
        yield from _expectations(of, old, new)
    for field in fields(old):  # type: ignore[arg-type]
        one, other = getattr(old, field.name), getattr(new, field.name)
        if one == other or field.name in {*_DERIVED, "version", "digest", "expectations"}:
            continue
        score = kind == "step" and not isinstance(old, SqlStepPlan)
        touches: Touches = "nothing" if ("score" if score else kind, field.name) in _HARMLESS else "results"
        if field.name == "challenger":
            yield from _challenger(of, one, other)
        elif field.name == "sql":
            lines = _sql_lines(str(one), str(other))
            if lines:
                yield Change(of, "SQL changed", "results", lines)
            else:
                yield Change(of, "SQL changed only in comments or white space", "nothing")
        elif _are_columns(one, other):
            yield from _columns(of, field.name, one, other)
        else:
            yield Change(
                of, f"{field.name}: {_text(one)} -> {_text(other)}", _whole(old) if kind == "gate" else touches
            )


def _model(of: str, old: ModelPlan, new: ModelPlan) -> Iterator[Change]:
    if (old.version, old.digest) != (new.version, new.digest):
        same = old.digest == new.digest
        what = f"v{old.version} (sha {old.digest[:8]}) -> v{new.version} (sha {new.digest[:8]})"
        yield Change(of, f"{what}{', the same files' if same else ''}", "nothing" if same else "results")


def _challenger(of: str, old: ChallengerPlan | None, new: ChallengerPlan | None) -> Iterator[Change]:
    """Yield changes of the challenger, which affect results only if its scores are published."""
    published = any(challenger is not None and challenger.outputs for challenger in (old, new))
    touches: Touches = "results" if published else "nothing"
    if old is None or new is None:
        yield Change(
            of, f"challenger {new.uri if new else old.uri if old else ''} is {'new' if new else 'removed'}", touches
        )
        return
    before, after = (challenger.pinned for challenger in (old, new))
    if before is not None and after is not None:
        for change in _model(f"{of} challenger", before, after):
            yield replace(change, touches=change.touches if published else "nothing")
    if old.uri != new.uri:
        yield Change(of, f"challenger: {old.uri} -> {new.uri}", "nothing")
    if old.tolerance != new.tolerance:
        yield Change(of, f"challenger's tolerance: {old.tolerance:g} -> {new.tolerance:g}", "nothing")
    if old.outputs != new.outputs:
        yield Change(of, f"columns of the challenger: {_text(old.outputs)} -> {_text(new.outputs)}", "results")


def _expectations(of: str, old: GatePlan, new: GatePlan) -> Iterator[Change]:
    for sign, gate, other in (("-", old, new), ("+", new, old)):
        for expectation in gate.expectations:
            if expectation not in other.expectations:
                touches: Touches = "gates" if expectation.failing_rows == "keep" else "results"
                yield Change(of, f"{sign} {_expectation(expectation)}", touches)


def _expectation(expectation: Expectation) -> str:
    arguments = ", ".join(f"{key}={_text(value)}" for key, value in expectation.kwargs)
    action = expectation.severity if expectation.failing_rows == "keep" else expectation.failing_rows
    return f"{expectation.type}({arguments}) {action}"


def _are_columns(*values: object) -> bool:
    items = [item for value in values if isinstance(value, tuple) for item in value]
    return bool(items) and all(isinstance(item, Column) for item in items)


def _columns(of: str, field: str, old: Iterable[Column], new: Iterable[Column]) -> Iterator[Change]:
    before, after = {column.name: column for column in old}, {column.name: column for column in new}
    what = "partition" if field == "partitions" else "input" if field == "inputs" else "column"
    for name in [name for name in before if name not in after]:
        yield Change(of, f"- {what} {name}: {before[name].type}")
    for name, column in after.items():
        if name not in before:
            yield Change(of, f"+ {what} {name}: {column.type}")
        elif column != before[name]:
            yield Change(of, f"{what} {name}: {_typed(before[name])} -> {_typed(column)}")
    if list(before) != list(after) and before.keys() == after.keys():
        yield Change(of, f"{what}s in another order")


def _typed(column: Column) -> str:
    return f"{column.type}{'' if column.nullable else '!'}"


def _sql_lines(old: str, new: str) -> tuple[str, ...]:
    """Return the lines that differ, after the same formatting of both SQL texts."""
    lines = difflib.unified_diff(_pretty(old).splitlines(), _pretty(new).splitlines(), lineterm="", n=1)
    return tuple(line for line in lines if not line.startswith(("---", "+++", "@@")))


def _pretty(sql: str) -> str:
    try:
        return sqlglot.parse_one(sql, dialect=DIALECT).sql(dialect=DIALECT, pretty=True, comments=False)
    except SqlglotError:  # a plan of another version: compare its text
        return sql


def _settings(old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[Change]:
    for key in sorted(old.keys() | new.keys()):
        if old.get(key) != new.get(key):
            touches: Touches = "results" if changes_results(key) else "nothing"
            yield Change("Spark", f"{key}: {old.get(key, 'not set')} -> {new.get(key, 'not set')}", touches)


def _inputs(old: IntervalPlan, new: IntervalPlan) -> Iterator[Change]:
    if old.args != new.args:
        yield Change(f"interval {new.id}", f"args: {_text(old.args)} -> {_text(new.args)}")
    sources = {source.source: source for source in old.inputs}
    for source in new.inputs:
        old_source = sources.get(source.source)
        if old_source is None or old_source.files == source.files:
            continue
        before, after = ({file.path: file for file in files} for files in (old_source.files, source.files))
        removed, added = before.keys() - after.keys(), after.keys() - before.keys()
        changed = [path for path in before.keys() & after.keys() if before[path] != after[path]]
        counts = ((len(added), "new"), (len(removed), "removed"), (len(changed), "changed"))
        words = ", ".join(f"{count} {what}" for count, what in counts if count)
        yield Change(f"interval {new.id}", f"input {source.source}: files: {words}")


def _text(value: object) -> str:
    if isinstance(value, tuple | list):
        return f"[{', '.join(_text(item) for item in value)}]"
    if hasattr(value, "__dataclass_fields__"):
        given = ((field.name, getattr(value, field.name)) for field in fields(value))  # type: ignore[arg-type]
        return "{" + ", ".join(f"{name}: {_text(item)}" for name, item in given if item not in ("", None)) + "}"
    return str(value) if value != "" else "none"
