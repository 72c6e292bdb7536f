"""Spec file -> `LoadedSpec`: parsed, merged with its profile, params bound, checked. All errors at once.

::

    text -> tree (places) -> profile merged -> params typed -> ${...} resolved -> features, suites expanded -> pydantic -> checked -> LoadedSpec
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import ValidationError

from firesteel.conf.errors import FiresteelError, SpecError, SpecErrors, Where
from firesteel.conf.secrets import references
from firesteel.pipelines.spec.contradictions import contradictions
from firesteel.pipelines.spec.features import expand_features
from firesteel.pipelines.spec.model import Model, Param, Spec
from firesteel.pipelines.spec.refs import Resolver, did_you_mean
from firesteel.pipelines.spec.repair import repaired
from firesteel.pipelines.spec.secret_places import secret_errors
from firesteel.pipelines.spec.suites import expand_suites
from firesteel.pipelines.spec.support import unsupported
from firesteel.pipelines.spec.tree import KeyPath, Node, read_tree
from firesteel.pipelines.spec.values import ParamValue, parse_param

LOCATION_TYPE = "uri"
_OF_A_SPEC = frozenset({"storage", "interval", "sources", "models", "steps", "gates", "sinks"})
"""Keys that other files rarely have. One without `spec_version` and two of them is no spec."""

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
    """What is wrong with the spec. The rest of it can be analysed all the same; `check` raises all errors together."""
    replaced: frozenset[KeyPath] = frozenset()
    """Paths whose values were wrong: `spec` has a default or a stand-in there."""
    unclear: frozenset[Where] = frozenset()
    """Places whose values are not what the spec means. What is wrong there is a consequence of an error in `errors`."""

    @property
    def folder(self) -> Path:
        """Where relative paths start: `sql_file`, `suite`, and a model's folder."""
        return self.path.parent

    def is_replaced(self, *path: str) -> bool:
        """Whether the value at `path`, or something within it, was wrong."""
        return any(each[: len(path)] == path for each in self.replaced)

    def own(self, errors: Iterable[FiresteelError]) -> list[FiresteelError]:
        """Those of some errors that are no consequences of others."""
        return [error for error in errors if error.where not in self.unclear]


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
    _check_is_spec(parsed.root)
    errors = list(parsed.errors)
    tree = _with_declarations(_with_profile(parsed.root, profile, errors), errors)
    values, unusable = _param_values(tree, params or {}, errors)
    env = os.environ if environ is None else environ
    locations = frozenset(name for name, declared in _declared(tree).items() if declared.type == LOCATION_TYPE)
    resolver = Resolver(values, env, unusable=unusable)
    resolved = resolver.tree(_without(tree, "params", "profiles"))
    errors += resolver.errors
    resolved = replace(resolved, value={**_mapping(resolved), **_only(tree, "params")})
    resolved = expand_suites(expand_features(resolved, errors), path.parent, errors)
    wrong: list[FiresteelError] = []
    found = repaired(Spec, resolved, wrong)
    errors += (error for error in wrong if error.where not in resolver.unclear)
    if found.model is None:
        raise SpecErrors.of(errors)
    unclear = frozenset({*resolver.unclear, *(resolved.nearest(each).where for each in found.replaced)})
    spec = _with_absolute_models(found.model, path.parent)
    loaded = LoadedSpec(
        path,
        parsed.text,
        profile or DEFAULT_PROFILE,
        values,
        spec,
        spec,
        found.tree,
        replaced=frozenset(found.replaced),
        unclear=unclear,
    )
    errors += loaded.own([*unsupported(spec, found.tree), *contradictions(spec, found.tree)])
    if errors:
        return replace(loaded, errors=tuple(errors))
    kept = Resolver(values, env, keep=locations).tree(_without(tree, "params", "profiles"))
    canonical = Spec.model_validate(expand_suites(expand_features(kept, []), path.parent, []).plain())
    return replace(loaded, canonical=canonical)


def _check_is_spec(tree: Node) -> None:
    """Refuse another kind of file without a word of what it holds, which may be secret.

    Raises
    ------
    SpecErrors
        FS1005.
    """
    keys = _mapping(tree).keys()
    if "spec_version" not in keys and len(keys & _OF_A_SPEC) < 2:
        what = "this is no pipeline spec: it has no `spec_version`, and neither sources, steps nor sinks."
        hint = "Give the path of a spec; `firesteel init` writes one."
        raise SpecErrors((SpecError("FS1005", what, where=tree.where, hint=hint),))


def _with_declarations(tree: Node, errors: list[FiresteelError]) -> Node:
    """The tree with its params' declarations, in which no reference is resolved."""
    declared = _only(tree, "params")
    resolver = Resolver({}, {})
    params = {key: resolver.tree(node, (key,)) for key, node in declared.items()}
    errors += resolver.errors
    return replace(tree, value={**_mapping(tree), **params})


def _with_absolute_models(spec: Spec, folder: Path) -> Spec:
    """The spec with models in relative folders found from the spec's own folder, as its SQL files are."""

    def absolute(uri: str) -> str:
        parts = urlsplit(uri)
        if parts.scheme not in {"", "file"} or parts.netloc or uri.startswith("~") or not parts.path or "\0" in uri:
            return uri
        return uri if parts.path.startswith("/") else str((folder / uri.removeprefix("file:")).resolve())

    def moved(model: Model) -> Model:
        update: dict[str, object] = {"uri": absolute(model.uri)}
        if model.challenger is not None:
            update["challenger"] = model.challenger.model_copy(update={"uri": absolute(model.challenger.uri)})
        return model.model_copy(update=update)

    return spec.model_copy(update={"models": {name: moved(model) for name, model in spec.models.items()}})


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


def _param_values(
    tree: Node, given: Mapping[str, object], errors: list[FiresteelError]
) -> tuple[dict[str, ParamValue], frozenset[str]]:
    """The value of each param, and the names of those that have no good one: something stands for it then."""
    declared = _declared(tree)
    nodes = _mapping(_mapping(tree).get("params", replace(tree, value={})))
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
    values: dict[str, ParamValue] = {}
    for name, param in declared.items():
        try:
            values[name] = _param_value(name, param, given.get(name, param.default), nodes[name])
        except SpecErrors as wrong:
            errors += wrong.errors
    unusable = frozenset(name for name in nodes if name not in values)
    for name in unusable:
        kind = declared[name].type if name in declared else ""
        values[name] = "file:///unset" if kind == LOCATION_TYPE else [] if kind.startswith("array") else ""
    return values, unusable


def _param_value(name: str, param: Param, value: object, node: Node) -> ParamValue:
    """One param's value. SpecErrors when it has none, or a wrong one."""
    if value is None:
        what, hint = f"param `{name}` has neither a value nor a default.", ""
        if param.required:
            what = f"param `{name}` ({param.type}) has no value."
            hint = f"Pass --param {name}=VALUE, or choose a --profile that sets it."
        raise SpecErrors((SpecError("FS1006", what, where=node.where, hint=hint),))
    if secrets := references(str(value)):
        raise SpecErrors.of(secret_errors(secrets[0][2:].removesuffix("}"), ("params", name), node.where))
    try:
        return _in_range(param, parse_param(param.type, value))
    except ValueError as error:
        raise SpecErrors((SpecError("FS1008", f"param `{name}`: {error}.", where=node.where),)) from None


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
