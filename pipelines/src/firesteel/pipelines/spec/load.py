"""Load a spec file and collect all of its errors.

::

    text -> tree with locations -> merge profile -> parse params -> resolve ${...} -> expand features and suites -> pydantic -> checks -> LoadedSpec
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
from firesteel.pipelines.spec.conflicts import setting_conflicts
from firesteel.pipelines.spec.features import expand_features
from firesteel.pipelines.spec.model import Model, Param, Spec
from firesteel.pipelines.spec.refs import Resolver, did_you_mean
from firesteel.pipelines.spec.repair import repair
from firesteel.pipelines.spec.secret_places import password_errors, secret_errors
from firesteel.pipelines.spec.suites import expand_suites
from firesteel.pipelines.spec.support import unsupported
from firesteel.pipelines.spec.tree import KeyPath, Node, read_tree
from firesteel.pipelines.spec.values import ParamValue, parse_param

LOCATION_TYPE = "uri"
_SPEC_KEYS = frozenset({"storage", "interval", "sources", "models", "steps", "gates", "sinks"})
"""Keys that other files rarely have. A file without `spec_version` and with fewer than two of these is not a spec."""

DEFAULT_PROFILE = "default"
"""The name of the spec without a profile, also in the paths of the state store."""


@dataclass(frozen=True, slots=True)
class LoadedSpec:
    """A spec ready to be compiled.

    `spec` has all params resolved. `canonical` keeps location params (`type: uri`) as references and is the input of the code
    hash. `tree` has the location of each value.
    """

    path: Path
    text: str
    profile: str
    params: Mapping[str, ParamValue]
    spec: Spec
    canonical: Spec
    tree: Node
    errors: tuple[FiresteelError, ...] = ()
    """Errors of the spec. The valid parts can still be analysed; `check` raises all errors together."""
    replaced: frozenset[KeyPath] = frozenset()
    """Paths of wrong values; `spec` has a default or a placeholder there."""
    unclear: frozenset[Where] = frozenset()
    """Locations of values that an error in `errors` affects. Other errors at these locations are consequences of it."""

    @property
    def folder(self) -> Path:
        """Return the base folder of relative paths: `sql_file`, `suite`, and a model's folder."""
        return self.path.parent

    @property
    def sink_uris(self) -> dict[str, str]:
        """Return the URI of each sink by name."""
        return {name: sink.path for name, sink in self.spec.sinks.items()}

    def is_replaced(self, *path: str) -> bool:
        """Return whether the value at `path`, or a part of it, was wrong."""
        return any(replaced[: len(path)] == path for replaced in self.replaced)

    def root_causes(self, errors: Iterable[FiresteelError]) -> list[FiresteelError]:
        """Return the errors that are not consequences of errors in `errors`."""
        return [error for error in errors if error.where not in self.unclear]


def load_spec(
    path: Path | str,
    *,
    profile: str = "",
    params: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
) -> LoadedSpec:
    """Return a loaded spec. Its `errors` holds the recoverable errors, so that the caller can report all errors together.

    Parameters
    ----------
    path
        The YAML file.
    profile
        The profile to merge over the spec. Mappings are merged deeply; lists are replaced.
    params
        Values as text from the command line, or in the param's own type.
    environ
        Variables for `${env:...}`; the process environment by default.

    Raises
    ------
    SpecErrors
        The file cannot be loaded; holds its errors in the order of the file.
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
    errors += password_errors(resolved)
    resolved = expand_suites(expand_features(resolved, errors), path.parent, errors)
    schema_errors: list[FiresteelError] = []
    repaired = repair(Spec, resolved, schema_errors)
    errors += (error for error in schema_errors if error.where not in resolver.unclear)
    if repaired.model is None:
        raise SpecErrors.of(errors)
    unclear = frozenset({*resolver.unclear, *(resolved.nearest(key_path).where for key_path in repaired.replaced)})
    spec = _with_absolute_models(repaired.model, path.parent)
    loaded = LoadedSpec(
        path,
        parsed.text,
        profile or DEFAULT_PROFILE,
        values,
        spec,
        spec,
        repaired.tree,
        replaced=frozenset(repaired.replaced),
        unclear=unclear,
    )
    errors += loaded.root_causes([*unsupported(spec, repaired.tree), *setting_conflicts(spec, repaired.tree)])
    if errors:
        return replace(loaded, errors=tuple(errors))
    with_locations = Resolver(values, env, keep=locations).tree(_without(tree, "params", "profiles"))
    canonical = Spec.model_validate(expand_suites(expand_features(with_locations, []), path.parent, []).plain())
    return replace(loaded, canonical=canonical)


def _check_is_spec(tree: Node) -> None:
    """Refuse another kind of file. The error does not quote the file, which may contain secrets.

    Raises
    ------
    SpecErrors
        FS1005.
    """
    keys = _mapping(tree).keys()
    if "spec_version" not in keys and len(keys & _SPEC_KEYS) < 2:
        what = "the file is not a pipeline spec: it has no `spec_version`, sources, steps or sinks."
        hint = "Pass the path of a spec; `firesteel init` creates one."
        raise SpecErrors((SpecError("FS1005", what, where=tree.where, hint=hint),))


def _with_declarations(tree: Node, errors: list[FiresteelError]) -> Node:
    """Return the tree with the declarations of its params; references in them are errors."""
    declared = _only(tree, "params")
    resolver = Resolver({}, {})
    params = {key: resolver.tree(node, (key,)) for key, node in declared.items()}
    errors += resolver.errors
    return replace(tree, value={**_mapping(tree), **params})


def _with_absolute_models(spec: Spec, folder: Path) -> Spec:
    """Return the spec with relative model folders resolved against the spec's folder."""

    def absolute(uri: str) -> str:
        parts = urlsplit(uri)
        if parts.scheme not in {"", "file"} or parts.netloc or uri.startswith("~") or not parts.path or "\0" in uri:
            return uri
        return uri if parts.path.startswith("/") else str((folder / uri.removeprefix("file:")).resolve())

    def resolved(model: Model) -> Model:
        update: dict[str, object] = {"uri": absolute(model.uri)}
        if model.challenger is not None:
            update["challenger"] = model.challenger.model_copy(update={"uri": absolute(model.challenger.uri)})
        return model.model_copy(update=update)

    return spec.model_copy(update={"models": {name: resolved(model) for name, model in spec.models.items()}})


def unset_locations(path: Path, profile: str, given: Collection[str]) -> tuple[str, ...]:
    """Return the params of type `uri` without a default and without a value in `given`.

    Raises
    ------
    SpecErrors
        The file cannot be read, or is not valid YAML.
    """
    tree = _with_profile(read_tree(path).root, profile, [])
    declared = _declared(tree).items()
    return tuple(
        name for name, param in declared if param.type == LOCATION_TYPE and param.default is None and name not in given
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
    if "params" in over:  # a profile sets values of params; it does not declare params
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
    """Return the params with valid declarations. The validation of the spec reports the others."""
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
    """Return the value of each param, and the names of params without a valid value, which get a placeholder."""
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
    """Return one param's value. Raise SpecErrors when it is missing or not valid."""
    if value is None:
        what, hint = f"param `{name}` has no value and no default.", ""
        if param.required:
            what = f"param `{name}` ({param.type}) has no value."
            hint = f"Pass --param {name}=VALUE, or a --profile that sets it."
        raise SpecErrors((SpecError("FS1006", what, where=node.where, hint=hint),))
    if secrets := references(str(value)):
        raise SpecErrors.of(secret_errors(secrets[0][2:].removesuffix("}"), ("params", name), node.where))
    try:
        return _in_range(param, parse_param(param.type, value))
    except ValueError as error:
        hint = f"Set another value, or change the declaration `params.{name}`."
        raise SpecErrors((SpecError("FS1008", f"param `{name}`: {error}.", where=node.where, hint=hint),)) from None


def _in_range(param: Param, value: ParamValue) -> ParamValue:
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, int | float) and not isinstance(item, bool):
            if param.min is not None and item < param.min:
                raise ValueError(f"expected at least {param.min:g} (its `min`), found {item}")
            if param.max is not None and item > param.max:
                raise ValueError(f"expected at most {param.max:g} (its `max`), found {item}")
        if param.choices and item not in param.choices:
            raise ValueError(f"expected one of {', '.join(map(str, param.choices))} (its `choices`), found {item!r}")
    return value


def _names(names: Mapping[str, object]) -> str:
    return ", ".join(names) or "none"
