"""A tree as a model: everything that is wrong is reported once, and a repaired tree lets the rest be checked as well.

A wrong value is replaced by its default, or by a stand-in where it has none. Later checks need to know where that happened:
what they find there is a consequence, and no error of its own.
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
"""Nobody reads more, and finding the nearest key for each takes time."""
MAX_ROUNDS = 20
"""Each round repairs one more level; a spec has fewer."""
STAND_IN = "string"
"""Stands for any text that is missing: it is a name, a column type and an output."""

_FORMS = {
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
"""Pydantic's kind of problem -> what was expected, in words."""
_NAME_PATTERN = re.compile(r"\^\[A-Za-z_\]\[(A-Za-z0-9_|\w)\]\*\$")
_TAG = re.compile(r".*\[.*|[a-z]+-(step|gate|lineage)|value|list|range|str|int|float|bool|constrained-\w+|function-.*")


@dataclass(frozen=True, slots=True)
class Repaired(Generic[M]):
    """The model (None where too much is wrong), the tree behind it, and the paths that were replaced or removed."""

    model: M | None
    tree: Node
    replaced: tuple[KeyPath, ...] = ()


def validate_tree(
    kind: type[M], tree: Node, errors: list[FiresteelError], whole: str = "the spec"
) -> tuple[M | None, Node]:
    """The model of a tree and the repaired tree; see `repaired`."""
    found = repaired(kind, tree, errors, whole)
    return found.model, found.tree


def repaired(kind: type[M], tree: Node, errors: list[FiresteelError], whole: str = "the spec") -> Repaired[M]:
    """Validate a tree; repair it until it is valid.

    A misspelt key is one mistake: it is reported and read as the key that was meant.

    Parameters
    ----------
    errors
        What is wrong is added here.
    whole
        What the tree is called in errors.
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
                more = f"{len(problems) - MAX_PROBLEMS:,} more like these."
                errors.append(SpecError("FS1004", more, where=tree.where, hint="Is this a pipeline spec?"))
            problems = problems[:MAX_PROBLEMS]
        before, misspelt = tree, _misspelt(kind, tree, problems)
        meant = {(*path[:-1], name) for path, name in misspelt.items()}
        for group in _by_path(tree, problems):
            path = group[0].path
            if path in misspelt:
                errors.append(_unknown_key(kind, before, group[0], whole))
                tree = tree.renamed(path, misspelt[path])
                continue
            if path in meant:
                continue
            if not any(_along(path, other) for other in replaced):
                errors.append(_report(kind, before, group, whole))
            tree = _mend(kind, tree, group[0], tries, replaced)
    return Repaired(None, tree, tuple(replaced))


@dataclass(frozen=True, slots=True)
class _Problem:
    """One of pydantic's errors; `path` is its place without the tags of unions."""

    path: KeyPath
    loc: tuple[str | int, ...]
    kind: str
    message: str
    found: object
    context: dict[str, Any]


def _by_path(tree: Node, problems: Sequence[ErrorDetails]) -> list[list[_Problem]]:
    """Problems at one place together: those of a union are one. Where the value's parts are wrong, they alone count."""
    groups: dict[KeyPath, list[_Problem]] = {}
    for each in problems:
        path = _path(tree, each["loc"])
        found = _Problem(path, each["loc"], each["type"], each["msg"], each.get("input"), each.get("ctx", {}))
        groups.setdefault(path, []).append(found)
    unions = {path for path, group in groups.items() if len(group) > 1}
    inner = {path[:cut] for path in groups for cut in range(len(path))}
    return [group for path, group in groups.items() if not (path in unions and path in inner)]


def _path(tree: Node, loc: Sequence[str | int]) -> KeyPath:
    """A pydantic location without the tags of its unions, which no mapping of the tree has as a key."""
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


def _along(path: KeyPath, other: KeyPath) -> bool:
    """Whether one of two paths leads to the other."""
    shorter = min(len(path), len(other))
    return path[:shorter] == other[:shorter]


def _misspelt(kind: type[BaseModel], tree: Node, problems: Sequence[ErrorDetails]) -> dict[KeyPath, str]:
    """Unknown key -> the key that was meant: the closest that is missing, or that is not there."""
    missing = {_path(tree, each["loc"]) for each in problems if each["type"] == "missing"}
    found: dict[KeyPath, str] = {}
    for each in problems:
        if each["type"] != "extra_forbidden":
            continue
        path = _path(tree, each["loc"])
        parent = tree.nearest(path[:-1]).value
        free = [key for key in _allowed(kind, each["loc"][:-1]) if not (isinstance(parent, dict) and key in parent)]
        free = [key for key in free if (*path[:-1], key) not in {(*at[:-1], name) for at, name in found.items()}]
        needed = [str(at[-1]) for at in missing if at[:-1] == path[:-1] and at[-1] in free]
        for names, cutoff in ((needed, 0.6), (free, 0.8)):
            close = difflib.get_close_matches(str(path[-1]), names, n=1, cutoff=cutoff)
            if close:
                found[path] = close[0]
                break
    return found


# what is said


def _report(kind: type[BaseModel], tree: Node, group: Sequence[_Problem], whole: str) -> FiresteelError:
    first = group[0]
    where = tree.nearest(first.path).where
    if first.kind == "extra_forbidden":
        return _unknown_key(kind, tree, first, whole)
    if first.kind == "missing":
        owner = ".".join(map(str, first.path[:-1])) or whole
        return SpecError("FS1005", f"`{first.path[-1]}` is missing in {owner}.", where=where)
    place = ".".join(map(str, first.path))
    said = next((each for each in group if each.kind == "value_error"), None)
    if said is not None:
        return SpecError("FS1004", f"`{place}`: {said.message.removeprefix('Value error, ')}.", where=where)
    found = first.found
    shown = f", found {found!r}" if isinstance(found, str | int | float | bool) or found is None else ""
    if first.kind == "too_short":
        return SpecError("FS1004", f"`{place}`: should not be empty.", where=where)
    if len(group) == 1 and first.kind == "tuple_type" and shown:
        return SpecError("FS1004", f"`{place}`: should be a list: [{found}]{shown}.", where=where)
    expected = " or ".join(dict.fromkeys(_expected(each) for each in group))
    return SpecError("FS1004", f"`{place}`: should be {expected}{shown}.", where=where)


def _expected(problem: _Problem) -> str:
    if problem.kind in _FORMS:
        return _FORMS[problem.kind]
    if problem.kind == "string_pattern_mismatch":
        pattern = str(problem.context.get("pattern"))
        return (
            "a name of letters, digits and `_`" if _NAME_PATTERN.fullmatch(pattern) else f"text of the form {pattern}"
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
        hint=did_you_mean(key, allowed) or f"Known: {', '.join(allowed)}.",
    )


# what is done


def _mend(
    kind: type[BaseModel], tree: Node, problem: _Problem, tries: Counter[KeyPath], replaced: list[KeyPath]
) -> Node:
    """Remove what is wrong, or put a stand-in there; what was tried in vain is done one level higher."""
    keep = len(problem.path) - tries[problem.path]
    tries[problem.path] += 1
    path = problem.path[: max(keep, 1)]
    loc = problem.loc
    while len(_path(tree, loc)) > len(path) or (loc and _path(tree, loc[:-1]) == path):  # it may end with tags
        loc = loc[:-1]
    replaced.append(path)
    if problem.kind == "extra_forbidden" and path == problem.path:
        return tree.without(path)
    stand_in = _needed(kind, loc)
    if stand_in is None:
        return tree.without(path)
    return _with(tree, path, _nodes(stand_in, tree.nearest(path)))


def _needed(whole: type[BaseModel], loc: Sequence[str | int]) -> object | None:
    """A stand-in for the value at `loc`; None where it can be left out."""
    parent = _kind_at(whole, loc[:-1])
    if isinstance(parent, type) and issubclass(parent, BaseModel):
        for name, field in parent.model_fields.items():
            if loc[-1] in (name, field.alias):
                return _field(field) if field.is_required() else None
        return None
    args = typing.get_args(parent)
    if typing.get_origin(parent) is dict:
        return _stand_in(args[1])
    return _stand_in(args[0]) if typing.get_origin(parent) is tuple else None  # the items after it keep their places


def _field(field: Any) -> object:
    made = _stand_in(field.annotation)
    if made == {} and any(getattr(each, "min_length", 0) for each in field.metadata):
        return {STAND_IN: _stand_in(typing.get_args(_bare(field.annotation))[1])}
    return made


def _stand_in(kind: object) -> object:
    """A value that a model of this kind takes."""
    bare = _bare(kind)
    origin, args = typing.get_origin(bare), typing.get_args(bare)
    if origin in (typing.Union, types.UnionType):
        return _stand_in(args[0])
    if origin is typing.Literal:
        return args[0]
    if isinstance(bare, type) and issubclass(bare, BaseModel):
        return {field.alias or name: _field(field) for name, field in bare.model_fields.items() if field.is_required()}
    if origin is dict:
        return {}
    if origin is tuple:
        return [_stand_in(args[0])]
    return {int: 1, float: 1.0, bool: False}.get(bare, STAND_IN)  # type: ignore[call-overload]  # any key may be asked


def _nodes(value: object, place: Node) -> Node:
    if isinstance(value, dict):
        return replace(place, value={key: _nodes(each, place) for key, each in value.items()})
    if isinstance(value, list):
        return replace(place, value=[_nodes(each, place) for each in value])
    assert value is None or isinstance(value, str | int | float)
    return replace(place, value=value)


def _with(tree: Node, path: KeyPath, node: Node) -> Node:
    """A copy with `node` at `path`; what is not a mapping on the way becomes one."""
    if not path:
        return node
    head, value = path[0], tree.value
    if isinstance(value, list) and isinstance(head, int):
        items = [_with(each, path[1:], node) if index == head else each for index, each in enumerate(value)]
        return replace(tree, value=items)
    known = value if isinstance(value, dict) else {}
    inner = known.get(str(head), replace(tree, value={}))
    return replace(tree, value={**known, str(head): _with(inner, path[1:], node)})


# kinds


def _allowed(whole: type[BaseModel], loc: Sequence[str | int]) -> list[str]:
    """The keys that the model knows at `loc`."""
    kind = _kind_at(whole, loc)
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return [field.alias or name for name, field in kind.model_fields.items()]
    return []


def _kind_at(whole: type[BaseModel], loc: Sequence[str | int]) -> object:
    """The annotation at `loc`: follows fields, mapping values, items and tagged unions."""
    kind: object = whole
    for part in loc:
        kind = _step_into(_bare(kind), part)
    return _bare(kind)


def _bare(kind: object) -> object:
    """`Annotated[X, ...]` and `X | None` -> X."""
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
