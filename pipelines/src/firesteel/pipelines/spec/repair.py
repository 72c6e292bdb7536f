"""Validate a tree against a model, and repair it so that the valid parts can be checked further.

Each error is reported once. A wrong value is replaced by its default, or by a placeholder if it has none. Errors that later
checks find at replaced paths are consequences.
"""

from __future__ import annotations

import difflib
import re
import types
import typing
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from firesteel.conf.errors import FiresteelError, SpecError
from firesteel.pipelines.spec.refs import did_you_mean
from firesteel.pipelines.spec.tree import KeyPath, Node

M = TypeVar("M", bound=BaseModel)

MAX_PROBLEMS = 200
"""Limit of reported problems: the search for the closest key takes time for each."""
MAX_ROUNDS = 20
"""Each round repairs one more level of nesting; a spec has fewer levels."""
PLACEHOLDER = "string"
"""Replaces any missing text: it is a valid name, column type and output."""

_EXPECTED = {
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "string_type": "text",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "finite_number": "a finite number",
}
"""Pydantic's error type -> the expected value."""
_NAME_PATTERN = re.compile(r"\^\[A-Za-z_\]\[(A-Za-z0-9_|\w)\]\*\$")
_TAG = re.compile(r".*\[.*|[a-z]+-(step|gate|lineage)|value|list|range|str|int|float|bool|constrained-\w+|function-.*")


@dataclass(frozen=True, slots=True)
class Repaired(Generic[M]):
    """The model (None if the repair failed), its tree, and the paths that were replaced or removed."""

    model: M | None
    tree: Node
    replaced: tuple[KeyPath, ...] = ()


def validate_tree(
    kind: type[M], tree: Node, errors: list[FiresteelError], whole: str = "the spec"
) -> tuple[M | None, Node]:
    """Return the model of a tree and the repaired tree; see `repair`."""
    repaired = repair(kind, tree, errors, whole)
    return repaired.model, repaired.tree


def repair(kind: type[M], tree: Node, errors: list[FiresteelError], whole: str = "the spec") -> Repaired[M]:
    """Return the model of a tree, repaired until it is valid.

    A misspelt key is one error: it is reported, and its value is used for the intended key.

    Parameters
    ----------
    errors
        Errors are added to this list.
    whole
        The name of the tree in errors.
    """
    replaced: list[KeyPath] = []
    tries: Counter[KeyPath] = Counter()
    for _ in range(MAX_ROUNDS):
        try:
            return Repaired(kind.model_validate(tree.plain()), tree, tuple(replaced))
        except ValidationError as error:
            problems = error.errors(include_url=False)
        if len(problems) > MAX_PROBLEMS:
            if not tries:
                more = f"{len(problems) - MAX_PROBLEMS:,} more errors of this kind."
                errors.append(SpecError("FS1004", more, where=tree.where, hint="Check that this is a pipeline spec."))
            problems = problems[:MAX_PROBLEMS]
        before, misspelt = tree, _misspelt(kind, tree, problems)
        intended = {(*path[:-1], name) for path, name in misspelt.items()}
        for group in _by_path(tree, problems):
            path = group[0].path
            if path in misspelt:
                errors.append(_unknown_key(kind, before, group[0], whole))
                tree = tree.renamed(path, misspelt[path])
                continue
            if path in intended:
                continue
            if not any(_is_nested(path, other) for other in replaced):
                errors.append(_report(kind, before, group, whole))
            tree = _fix(kind, tree, group[0], tries, replaced)
    return Repaired(None, tree, tuple(replaced))


@dataclass(frozen=True, slots=True)
class _Problem:
    """One of pydantic's errors; `path` is its location without the tags of unions."""

    path: KeyPath
    loc: tuple[str | int, ...]
    kind: str
    message: str
    value: object
    context: dict[str, Any]


def _by_path(tree: Node, problems: Sequence[ErrorDetails]) -> list[list[_Problem]]:
    """Group problems by path: those of a union are one. If parts of a union's value are wrong, only they count."""
    groups: dict[KeyPath, list[_Problem]] = {}
    for error in problems:
        path = _path(tree, error["loc"])
        problem = _Problem(path, error["loc"], error["type"], error["msg"], error.get("input"), error.get("ctx", {}))
        groups.setdefault(path, []).append(problem)
    unions = {path for path, group in groups.items() if len(group) > 1}
    inner = {path[:cut] for path in groups for cut in range(len(path))}
    return [group for path, group in groups.items() if not (path in unions and path in inner)]


def _path(tree: Node, loc: Sequence[str | int]) -> KeyPath:
    """Return a pydantic location without the tags of unions, which are not keys of the tree."""
    path: list[str | int] = []
    node: Node | None = tree
    for part in loc:
        value = node.value if node is not None else None
        known = isinstance(value, dict) and part in value
        if not known and isinstance(part, str) and path and _TAG.fullmatch(part):
            continue
        path.append(part)
        node = value.get(str(part)) if isinstance(value, dict) else _item(value, part)
    return tuple(path)


def _item(value: object, part: str | int) -> Node | None:
    return value[part] if isinstance(value, list) and isinstance(part, int) and part < len(value) else None


def _is_nested(path: KeyPath, other: KeyPath) -> bool:
    """Return whether one of two paths contains the other."""
    shorter = min(len(path), len(other))
    return path[:shorter] == other[:shorter]


def _misspelt(kind: type[BaseModel], tree: Node, problems: Sequence[ErrorDetails]) -> dict[KeyPath, str]:
    """Return unknown key -> intended key: the closest missing key, else the closest unused key."""
    missing = {_path(tree, error["loc"]) for error in problems if error["type"] == "missing"}
    intended: dict[KeyPath, str] = {}
    for error in problems:
        if error["type"] != "extra_forbidden":
            continue
        path = _path(tree, error["loc"])
        parent = tree.nearest(path[:-1]).value
        free = [key for key in _allowed(kind, error["loc"][:-1]) if not (isinstance(parent, dict) and key in parent)]
        free = [key for key in free if (*path[:-1], key) not in {(*at[:-1], name) for at, name in intended.items()}]
        required = [str(at[-1]) for at in missing if at[:-1] == path[:-1] and at[-1] in free]
        for names, cutoff in ((required, 0.6), (free, 0.8)):
            close = difflib.get_close_matches(str(path[-1]), names, n=1, cutoff=cutoff)
            if close:
                intended[path] = close[0]
                break
    return intended


# messages


def _report(kind: type[BaseModel], tree: Node, group: Sequence[_Problem], whole: str) -> FiresteelError:
    first = group[0]
    where = tree.nearest(first.path).where
    if first.kind == "extra_forbidden":
        return _unknown_key(kind, tree, first, whole)
    if first.kind == "missing":
        owner = ".".join(map(str, first.path[:-1])) or whole
        return SpecError("FS1005", f"`{first.path[-1]}` is missing in {owner}.", where=where)
    place = ".".join(map(str, first.path))
    refused = next((problem for problem in group if problem.kind == "value_error"), None)
    if refused is not None:
        return SpecError("FS1004", f"`{place}`: {refused.message.removeprefix('Value error, ')}.", where=where)
    value = first.value
    shown = f", found {value!r}" if isinstance(value, str | int | float | bool) or value is None else ""
    if first.kind == "too_short":
        return SpecError("FS1004", f"`{place}` must not be empty.", where=where)
    if len(group) == 1 and first.kind == "tuple_type" and shown:
        return SpecError("FS1004", f"`{place}` must be a list: [{value}]{shown}.", where=where)
    expected = " or ".join(dict.fromkeys(_expected(problem) for problem in group))
    return SpecError("FS1004", f"`{place}` must be {expected}{shown}.", where=where)


def _expected(problem: _Problem) -> str:
    if problem.kind in _EXPECTED:
        return _EXPECTED[problem.kind]
    if problem.kind == "string_pattern_mismatch":
        pattern = str(problem.context.get("pattern"))
        return (
            "a name of letters, digits and `_`" if _NAME_PATTERN.fullmatch(pattern) else f"text that matches {pattern}"
        )
    text = problem.message.removeprefix("Input should be ")
    return f"{text[0].lower()}{text[1:]}"


def _unknown_key(kind: type[BaseModel], tree: Node, problem: _Problem, whole: str) -> FiresteelError:
    allowed = _allowed(kind, problem.loc[:-1])
    key = str(problem.path[-1])
    owner = ".".join(map(str, problem.path[:-1])) or whole
    return SpecError(
        "FS1003",
        f"unknown key `{key}` in {owner}.",
        where=tree.nearest(problem.path).where,
        hint=did_you_mean(key, allowed) or f"Use one of: {', '.join(allowed)}.",
    )


# repairs


def _fix(
    kind: type[BaseModel], tree: Node, problem: _Problem, tries: Counter[KeyPath], replaced: list[KeyPath]
) -> Node:
    """Return the tree without the wrong value, or with a placeholder. After a failed attempt, repair one level higher."""
    keep = len(problem.path) - tries[problem.path]
    tries[problem.path] += 1
    path = problem.path[: max(keep, 1)]
    loc = problem.loc
    while len(_path(tree, loc)) > len(path) or (
        loc and _path(tree, loc[:-1]) == path
    ):  # the location may end with tags
        loc = loc[:-1]
    replaced.append(path)
    if problem.kind == "extra_forbidden" and path == problem.path:
        return tree.without(path)
    value = _required_value(kind, loc)
    if value is None:
        return tree.without(path)
    return _with(tree, path, _nodes(value, tree.nearest(path)))


def _required_value(whole: type[BaseModel], loc: Sequence[str | int]) -> object | None:
    """Return a placeholder for the value at `loc`; None if the value is optional."""
    parent = _kind_at(whole, loc[:-1])
    if isinstance(parent, type) and issubclass(parent, BaseModel):
        for name, field in parent.model_fields.items():
            if loc[-1] in (name, field.alias):
                return _field(field) if field.is_required() else None
        return None
    args = typing.get_args(parent)
    if typing.get_origin(parent) is dict:
        return _placeholder(args[1])
    return (
        _placeholder(args[0]) if typing.get_origin(parent) is tuple else None
    )  # a removed item would move the next ones


def _field(field: Any) -> object:
    value = _placeholder(field.annotation)
    if value == {} and any(getattr(constraint, "min_length", 0) for constraint in field.metadata):
        return {PLACEHOLDER: _placeholder(typing.get_args(_bare(field.annotation))[1])}
    return value


def _placeholder(kind: object) -> object:
    """Return a valid value of an annotation."""
    bare = _bare(kind)
    origin, args = typing.get_origin(bare), typing.get_args(bare)
    if origin in (typing.Union, types.UnionType):
        return _placeholder(args[0])
    if origin is typing.Literal:
        return args[0]
    if isinstance(bare, type) and issubclass(bare, BaseModel):
        return {field.alias or name: _field(field) for name, field in bare.model_fields.items() if field.is_required()}
    if origin is dict:
        return {}
    if origin is tuple:
        return [_placeholder(args[0])]
    return {int: 1, float: 1.0, bool: False}.get(bare, PLACEHOLDER)  # type: ignore[call-overload]  # any key is allowed


def _nodes(value: object, place: Node) -> Node:
    if isinstance(value, dict):
        return replace(place, value={key: _nodes(item, place) for key, item in value.items()})
    if isinstance(value, list):
        return replace(place, value=[_nodes(item, place) for item in value])
    assert value is None or isinstance(value, str | int | float)
    return replace(place, value=value)


def _with(tree: Node, path: KeyPath, node: Node) -> Node:
    """Return a copy with `node` at `path`; missing mappings on the path are created."""
    if not path:
        return node
    head, value = path[0], tree.value
    if isinstance(value, list) and isinstance(head, int):
        items = [_with(item, path[1:], node) if index == head else item for index, item in enumerate(value)]
        return replace(tree, value=items)
    known = value if isinstance(value, dict) else {}
    inner = known.get(str(head), replace(tree, value={}))
    return replace(tree, value={**known, str(head): _with(inner, path[1:], node)})


# annotations


def _allowed(whole: type[BaseModel], loc: Sequence[str | int]) -> list[str]:
    """Return the keys that the model has at `loc`."""
    kind = _kind_at(whole, loc)
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return [field.alias or name for name, field in kind.model_fields.items()]
    return []


def _kind_at(whole: type[BaseModel], loc: Sequence[str | int]) -> object:
    """Return the annotation at `loc`, through fields, mapping values, items and tagged unions."""
    kind: object = whole
    for part in loc:
        kind = _step_into(_bare(kind), part)
    return _bare(kind)


def _bare(kind: object) -> object:
    """Return X of `Annotated[X, ...]` and `X | None`."""
    while True:
        origin = typing.get_origin(kind)
        if origin is typing.Annotated:
            kind = typing.get_args(kind)[0]
        elif origin in (typing.Union, types.UnionType):
            rest = [arg for arg in typing.get_args(kind) if arg is not type(None)]
            if len(rest) != 1:
                return kind
            kind = rest[0]
        else:
            return kind


def _step_into(kind: object, part: str | int) -> object:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        for name, field in kind.model_fields.items():
            if part in (name, field.alias):
                return field.annotation
        return object
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):  # a tagged union: `part` is the tag
        for arg in args:
            tags = [getattr(meta, "tag", None) for meta in typing.get_args(arg)[1:]]
            if part in tags:
                return arg
        return object
    if origin is dict:
        return args[1]
    return args[0] if args else object
