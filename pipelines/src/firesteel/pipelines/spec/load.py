"""Spec file -> `LoadedSpec`: parsed, merged with its profile, params bound, checked. All errors at once.

::

    text -> tree (places) -> profile merged -> params typed -> ${...} resolved -> features, suites expanded -> pydantic -> checked -> LoadedSpec
"""

from __future__ import annotations

import difflib
import os
import types
import typing
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from firesteel.conf.errors import FiresteelError, SpecError, SpecErrors
from firesteel.conf.secrets import references
from firesteel.pipelines.spec.contradictions import contradictions
from firesteel.pipelines.spec.features import expand_features
from firesteel.pipelines.spec.model import Param, Spec
from firesteel.pipelines.spec.refs import Resolver, did_you_mean
from firesteel.pipelines.spec.secret_places import secret_errors
from firesteel.pipelines.spec.suites import expand_suites
from firesteel.pipelines.spec.support import unsupported
from firesteel.pipelines.spec.tree import KeyPath, Node, read_tree
from firesteel.pipelines.spec.values import ParamValue, parse_param

LOCATION_TYPE = "uri"
M = TypeVar("M", bound=BaseModel)

DEFAULT_PROFILE = "default"
"""The spec as it stands, where no profile is chosen: it names a place in the storage, as every profile does."""


@dataclass(frozen=True, slots=True)
class LoadedSpec:
    """A spec ready to be compiled.

    `spec` has all params resolved; `canonical` is the same with location params (`type: uri`) left as references, which
    is what the code hash is made of; `tree` knows where everything stands.
    """

    path: Path
    text: str
    profile: str
    params: Mapping[str, ParamValue]
    spec: Spec
    canonical: Spec
    tree: Node
    errors: tuple[FiresteelError, ...] = ()
    """What is wrong with the spec, when enough of it was left to analyse the rest. `builder.check` raises them all."""

    @property
    def folder(self) -> Path:
        """Where `sql_file` paths start."""
        return self.path.parent


def load_spec(
    path: Path | str,
    *,
    profile: str = "",
    params: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
) -> LoadedSpec:
    """Load a spec file as far as it goes: what is wrong is in `errors`, so that all errors come out at once.

    Parameters
    ----------
    path
        The YAML file.
    profile
        The profile that is merged over the spec: mappings deeply, lists replaced.
    params
        Values as the command line gives them, or of the param's own type.
    environ
        For `${env:...}`; the process's environment by default.

    Raises
    ------
    SpecErrors
        Nothing can be made of the file: all that is wrong with it, in the order of the file.
    """
    path = Path(path)
    parsed = read_tree(path)
    tree, errors = parsed.root, list(parsed.errors)
    tree = _with_profile(tree, profile, errors)
    values = _param_values(tree, params or {}, errors)
    env = os.environ if environ is None else environ
    locations = frozenset(name for name, declared in _declared(tree).items() if declared.type == LOCATION_TYPE)
    resolver = Resolver(values, env)
    resolved = resolver.tree(_without(tree, "params", "profiles"))
    errors += resolver.errors
    resolved = replace(resolved, value={**_mapping(resolved), **_only(tree, "params")})
    resolved = expand_suites(expand_features(resolved, errors), path.parent, errors)
    spec, resolved = validate_tree(Spec, resolved, errors)
    if spec is None:
        raise SpecErrors.of(errors)
    errors += unsupported(spec, resolved)
    errors += contradictions(spec, resolved)
    kept = Resolver(values, env, keep=locations).tree(_without(tree, "params", "profiles"))
    canonical = (
        spec if errors else Spec.model_validate(expand_suites(expand_features(kept, []), path.parent, []).plain())
    )
    return LoadedSpec(path, parsed.text, profile or DEFAULT_PROFILE, values, spec, canonical, resolved, tuple(errors))


def unset_locations(path: Path, profile: str, given: Collection[str]) -> tuple[str, ...]:
    """The params of type `uri` that have neither a value among `given` nor a default.

    Raises
    ------
    SpecErrors
        The file cannot be read, or is not YAML.
    """
    tree = _with_profile(read_tree(path).root, profile, [])
    declared = _declared(tree).items()
    return tuple(
        name for name, each in declared if each.type == LOCATION_TYPE and each.default is None and name not in given
    )


def _mapping(node: Node) -> dict[str, Node]:
    return node.value if isinstance(node.value, dict) else {}


def _without(tree: Node, *keys: str) -> Node:
    return replace(tree, value={key: node for key, node in _mapping(tree).items() if key not in keys})


def _only(tree: Node, *keys: str) -> dict[str, Node]:
    return {key: node for key, node in _mapping(tree).items() if key in keys}


def _with_profile(tree: Node, profile: str, errors: list[FiresteelError]) -> Node:
    if profile in {"", DEFAULT_PROFILE}:
        return tree
    profiles = _mapping(_mapping(tree).get("profiles", replace(tree, value={})))
    if profile not in profiles:
        errors.append(
            SpecError(
                "FS1009",
                f"profile `{profile}` is not declared (declared: {_names(profiles)}).",
                where=tree.nearest(("profiles",)).where,
                hint=did_you_mean(profile, profiles),
            )
        )
        return tree
    over = dict(_mapping(profiles[profile]))
    if "params" in over:  # a profile gives params values; it does not declare them
        over["params"] = replace(
            over["params"],
            value={
                name: node if isinstance(node.value, dict) else replace(node, value={"default": node})
                for name, node in _mapping(over["params"]).items()
            },
        )
    return _merge(tree, replace(tree, value=over))


def _merge(base: Node, over: Node) -> Node:
    if not isinstance(base.value, dict) or not isinstance(over.value, dict):
        return over
    merged = dict(base.value)
    for key, node in over.value.items():
        merged[key] = _merge(merged[key], node) if key in merged else node
    return replace(base, value=merged)


def _declared(tree: Node) -> dict[str, Param]:
    """The params that are declared well; others are reported when the whole spec is validated."""
    declared: dict[str, Param] = {}
    for name, node in _mapping(_mapping(tree).get("params", replace(tree, value={}))).items():
        try:
            declared[name] = Param.model_validate(node.plain())
        except ValidationError:
            continue
    return declared


def _param_values(tree: Node, given: Mapping[str, object], errors: list[FiresteelError]) -> dict[str, ParamValue]:
    declared = _declared(tree)
    nodes = _mapping(_mapping(tree).get("params", replace(tree, value={})))
    values: dict[str, ParamValue] = {}
    errors += [
        SpecError(
            "FS1009",
            f"--param {name} is not declared (declared: {_names(nodes)}).",
            where=tree.nearest(("params",)).where,
            hint=did_you_mean(name, nodes),
        )
        for name in given
        if name not in nodes
    ]
    for name, param in declared.items():
        where = nodes[name].where
        value: object = given.get(name, param.default)
        if value is None:
            if param.required:
                errors.append(
                    SpecError(
                        "FS1006",
                        f"param `{name}` ({param.type}) has no value.",
                        where=where,
                        hint=f"Pass --param {name}=VALUE, or choose a --profile that sets it.",
                    )
                )
            else:
                errors.append(SpecError("FS1006", f"param `{name}` has neither a value nor a default.", where=where))
            values[name] = "file:///unset" if param.type == LOCATION_TYPE else ""  # keep looking for more errors
            continue
        if references(str(value)):
            errors += secret_errors(references(str(value))[0][2:].removesuffix("}"), ("params", name), where)
            values[name] = "file:///unset" if param.type == LOCATION_TYPE else ""
            continue
        try:
            values[name] = _in_range(param, parse_param(param.type, value))
        except ValueError as error:
            errors.append(SpecError("FS1008", f"param `{name}`: {error}.", where=where))
            values[name] = ""
    for name in nodes:
        values.setdefault(name, "")
    return values


def _in_range(param: Param, value: ParamValue) -> ParamValue:
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, int | float) and not isinstance(item, bool):
            if param.min is not None and item < param.min:
                raise ValueError(f"{item} is less than min {param.min:g}")
            if param.max is not None and item > param.max:
                raise ValueError(f"{item} is more than max {param.max:g}")
        if param.choices and item not in param.choices:
            raise ValueError(f"{item!r} is not one of {', '.join(map(str, param.choices))}")
    return value


def _names(names: Mapping[str, object]) -> str:
    return ", ".join(names) or "none"


def validate_tree(
    kind: type[M], tree: Node, errors: list[FiresteelError], whole: str = "the spec"
) -> tuple[M | None, Node]:
    """A tree as a model, if need be without the values that are wrong: what is left can still be checked.

    An unknown key that is close to a missing one is one mistake, not two: it is reported and read as the missing one.

    Parameters
    ----------
    errors
        What is wrong is added here.
    whole
        What the tree is called in errors.

    Returns
    -------
    The model, or None when too much is wrong, and the tree that it was made of.
    """
    try:
        return kind.model_validate(tree.plain()), tree
    except ValidationError as error:
        problems = error.errors(include_url=False)
    if len(problems) > MAX_PROBLEMS:
        more = f"{len(problems) - MAX_PROBLEMS:,} more like these."
        errors.append(SpecError("FS1004", more, where=tree.where, hint="Is this a pipeline spec?"))
        problems = problems[:MAX_PROBLEMS]
    missing = {problem["loc"] for problem in problems if problem["type"] == "missing"}
    misspelt = {}
    for problem in problems:
        *parent, key = problem["loc"]
        close = difflib.get_close_matches(str(key), [str(loc[-1]) for loc in missing if list(loc[:-1]) == parent], n=1)
        if problem["type"] == "extra_forbidden" and close:
            misspelt[problem["loc"]] = close[0]
    found = {(*loc[:-1], name) for loc, name in misspelt.items()}
    rest = tree
    for problem in problems:
        loc = problem["loc"]
        if loc not in found:
            allowed = _allowed(kind, loc[:-1])
            errors.append(_problem(tree, problem["type"], loc, problem["msg"], problem.get("input"), allowed, whole))
        rest = (
            rest.renamed(_path(loc), misspelt[loc])
            if loc in misspelt
            else rest.without(_path(loc))
            if loc not in found
            else rest
        )
    try:
        return kind.model_validate(rest.plain()), rest
    except ValidationError:
        return None, tree


MAX_PROBLEMS = 200
"""Nobody reads more, and finding the nearest key for each takes time."""


def _path(loc: KeyPath) -> KeyPath:
    """A pydantic location without the tags of its unions."""
    tags = {"sql-step", "score-step", "drift-gate", "gx-gate", "value", "list", "range", "file-lineage", "http-lineage"}
    return tuple(part for index, part in enumerate(loc) if not (part in tags and index > 1))


def _problem(
    tree: Node, kind: str, loc: KeyPath, message: str, found: object, allowed: list[str], whole: str
) -> FiresteelError:
    path = _path(loc)
    where = tree.nearest(path).where
    owner = ".".join(str(part) for part in path[:-1]) or whole
    key = str(path[-1]) if path else ""
    if kind == "extra_forbidden":
        return SpecError(
            "FS1003",
            f"unknown key `{key}` in {owner}.",
            where=where,
            hint=did_you_mean(key, allowed) or f"Known: {', '.join(allowed)}.",
        )
    if kind == "missing":
        return SpecError("FS1005", f"`{key}` is missing in {owner}.", where=where)
    text = message.removeprefix("Value error, ").removeprefix("Input should be ")
    shown = f", found {found!r}" if isinstance(found, str | int | float | bool) or found is None else ""
    if kind != "value_error":
        text = f"should be {text[0].lower()}{text[1:]}{shown}"
    return SpecError("FS1004", f"`{'.'.join(map(str, path))}`: {text}.", where=where)


def _allowed(whole: type[BaseModel], loc: KeyPath) -> list[str]:
    """The keys that the model knows at `loc`: follows fields, mapping values, items and tagged unions."""
    kind: object = whole
    for part in loc:
        kind = _step_into(_bare(kind), part)
    bare = _bare(kind)
    if isinstance(bare, type) and issubclass(bare, BaseModel):
        return [field.alias or name for name, field in bare.model_fields.items()]
    return []


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
