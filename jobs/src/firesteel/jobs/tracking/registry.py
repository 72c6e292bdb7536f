"""Pin model URIs to a version and a digest, and fetch the pinned files when a plan is applied.

::

    models:/NAME@ALIAS --alias--> models:/NAME/VERSION --source--> artifact folder --SHA-256--> digest
    folder, file:///folder --------------------------------------^

`apply` uses the pinned files of a version that was deleted from the registry, if the pipeline's storage has a copy (model_copies.py).
"""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from firesteel.conf.errors import ModelError, PlanDrift, Where
from firesteel.jobs.tracking.artifacts import add, cached, downloading, fetch
from firesteel.jobs.tracking.connect import connect, mlflow_faults, without_secrets
from firesteel.jobs.tracking.model_copies import restore_copy
from firesteel.jobs.tracking.signature import example_warnings, read_inputs
from firesteel.pipelines.plan.model import ModelPlan

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflow import MlflowClient

    from firesteel.pipelines.publish.state_store import StateStore
    from firesteel.udfs.requirements import Policy

_LOG = logging.getLogger(__name__)
_REGISTERED = re.compile(r"models:/+(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<version>[^/@]+))$")
_MISSING = "RESOURCE_DOES_NOT_EXIST"
_LISTED = 10


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """A pinned model and the local folder of its files."""

    plan: ModelPlan
    folder: Path


def short_name(uri: str) -> str:
    """Return the registered name in a model's URI, or the last folder of its path."""
    registered = _REGISTERED.match(uri)
    return registered["name"] if registered else uri.rstrip("/").rpartition("/")[2]


def resolve_model(
    name: str,
    uri: str,
    *,
    method: str,
    trust_formats: tuple[str, ...],
    skops_types: tuple[str, ...] = (),
    max_size: int | None,
    requirements: Policy = "enforce",
    tracking_uri: str,
    where: Where | None = None,
) -> ResolvedModel:
    """Pin a model: resolve its alias, digest, format and inputs, without loading it.

    Parameters
    ----------
    name
        The model's name in the spec.
    uri
        `models:/NAME@ALIAS`, `models:/NAME/VERSION`, a folder, or its `file:` URI.
    trust_formats, skops_types, max_size
        Allowed formats, types in a skops file, and size in bytes; see `firesteel.udfs.trust`.
    requirements
        The policy for packages that differ from those that the model requires; see `firesteel.udfs.requirements`.
    where
        The location of `uri` in the spec, for errors.

    Raises
    ------
    ModelError
        FS3001 (unknown model or version), FS3003 (no signature with column names), FS3005 (unknown alias),
        FS3009 and FS3010 (untrusted format or types, too large), FS3011 (the model has links or devices), FS3013 (a required package
        is missing or has another major version).
    RuntimeFault
        FS9003 if MLflow cannot be reached.
    """
    registered = _REGISTERED.match(uri)
    if registered:
        version, source = find_version(uri, tracking_uri, where)
        with _located(where):
            folder = fetch(source, tracking_uri, max_size, known=True)
        resolved = f"models:/{registered['name']}/{version}"
    else:
        folder = _local_folder(uri, where)
        version, resolved = "", folder.as_uri()
    _check_is_model(folder, uri, where)

    from firesteel.udfs.digest import private_copy
    from firesteel.udfs.requirements import check_requirements
    from firesteel.udfs.trust import check_trust

    with _located(where), private_copy(folder, max_size) as (copy, digest):
        format_ = check_trust(copy, trust_formats, skops_types, name)
        plan = ModelPlan(
            name=name,
            uri=uri,
            resolved_uri=resolved,
            version=version or digest.hex[:12],
            digest=digest.hex,
            size_bytes=digest.size_bytes,
            format=format_,
            method=method,
            inputs=read_inputs(copy, name, where),
            skops_types=skops_types,
            warnings=(*example_warnings(copy), *check_requirements(copy, name, requirements, format_)),
            requirements=requirements,
        )
    return ResolvedModel(plan, folder)


@contextmanager
def _located(where: Where | None) -> Iterator[None]:
    """Add the location in the spec to errors of a model."""
    try:
        yield
    except ModelError as error:
        raise ModelError(error.code, error.what, where=error.where or where, hint=error.hint) from error


def is_registered(model: ModelPlan) -> bool:
    """Return whether the model is a version of MLflow's registry, and not a folder."""
    return _REGISTERED.match(model.uri) is not None


def fetch_pinned(
    model: ModelPlan,
    tracking_uri: str,
    store: StateStore | None = None,
    warn: Callable[[str], None] = _LOG.warning,
) -> Path:
    """Return the local folder of a pinned model, for `apply`.

    If the version was deleted from the registry, the copy in `store` is used, and `warn` is called. The local cache makes no difference.

    Raises
    ------
    PlanDrift
        FS6002 if the alias points to another version, or the version or folder no longer exists and `store` has no copy.
    ModelError
        FS3011 if the files do not match the pinned digest.
    """
    registered = _REGISTERED.match(model.uri)
    if registered is None:
        folder = _local_folder(model.resolved_uri, None)
    else:
        client = connect(tracking_uri, create=False)
        name, alias = registered["name"], registered["alias"]
        exists = bool(alias) and _alias_is_current(client, model, name, alias)
        folder_in_cache = cached(model.digest)
        if exists and folder_in_cache is not None:
            return folder_in_cache
        source = _source(client, name, model.version)
        if source is None:
            return _copy_of_deleted(model, store, warn)
        if alias and not exists:
            raise _drift(model, f"@{alias} no longer exists")
        if folder_in_cache is not None:
            return folder_in_cache
        folder = fetch(source, tracking_uri)
    _check_pinned(model, folder)
    return folder


def _copy_of_deleted(model: ModelPlan, store: StateStore | None, warn: Callable[[str], None]) -> Path:
    """Return the pinned files of a version that the registry no longer has, from the copy in the storage."""
    with downloading() as partial:
        restored = partial / "model"
        if store is None or not restore_copy(store, model.digest, restored, model.size_bytes):
            raise PlanDrift(
                "FS6002",
                f"{_pinned(model)}; {model.resolved_uri} is no longer in the registry, and the storage has no copy of it.",
                hint="Run `plan` again.",
            )
        _check_pinned(model, restored)
        folder = add(restored)
    warn(
        f"{model.resolved_uri} is no longer in the registry: the run uses the copy in the storage, SHA-256 {model.digest[:12]}."
    )
    return folder


def _check_pinned(model: ModelPlan, folder: Path) -> None:
    """Raise FS3011 if the files are not those of the plan."""
    from firesteel.udfs.digest import digest_of

    try:
        digest = digest_of(folder, model.size_bytes).hex if folder.is_dir() else "nothing"
    except ModelError as error:
        if error.code != "FS3010":
            raise
        digest = "more bytes"
    if digest != model.digest:
        raise ModelError(
            "FS3011",
            f"model {model.name} (v{model.version}): the plan pins SHA-256 {model.digest[:12]}, "
            f"but {model.resolved_uri} has {digest[:12]}. The model was not loaded.",
            hint="Find out who changed the files. Run `plan` again to use the current files.",
        )


def _pinned(model: ModelPlan) -> str:
    return f"the plan was made for {model.name} v{model.version} (sha {model.digest[:4]}..)"


def _alias_is_current(client: MlflowClient, model: ModelPlan, name: str, alias: str) -> bool:
    """Return whether the alias has the pinned version, False if there is no such alias. FS6002 if it has another version."""
    with mlflow_faults(registry_uri(client), f"resolving {model.uri}", _permission(name)):
        try:
            version = _aliases(client, name).get(alias)
        except ModelError:  # the registered model was deleted, with its versions
            return False
    if version not in (None, model.version):
        raise _drift(model, f"@{alias} is now v{version}")
    return version is not None


def _drift(model: ModelPlan, change: str) -> PlanDrift:
    return PlanDrift("FS6002", f"{_pinned(model)}; {change}.", hint=f"Run `plan` again, or pin {model.resolved_uri}.")


def find_version(uri: str, tracking_uri: str, where: Where | None = None) -> tuple[str, str]:
    """Return the version of a `models:/` URI and its artifact URI, without a download.

    Raises
    ------
    ModelError
        FS3001 (unknown model or version), FS3005 (unknown alias).
    """
    parts = _REGISTERED.match(uri)
    if parts is None:
        _local_folder(uri, where)  # raises FS3001
        raise AssertionError(uri)
    client = connect(tracking_uri, create=False)
    name, alias = parts["name"], parts["alias"]
    with mlflow_faults(registry_uri(client), f"resolving {uri}", _permission(name)):
        aliases = _aliases(client, name, where, uri)
    if alias:
        if alias not in aliases:
            known = ", ".join(f"{name_}->{aliases[name_]}" for name_ in sorted(aliases)) or "none"
            raise ModelError(
                "FS3005",
                f"{uri}: the alias does not exist (aliases: {known}).",
                where=where,
                hint="Set the alias, or use an existing alias.",
            )
        version = aliases[alias]
    else:
        version = parts["version"]
    source = _source(client, name, version) if version.isdigit() else None
    if source is None:
        with mlflow_faults(registry_uri(client), f"resolving {uri}", _permission(name)):
            versions = [
                int(model_version.version) for model_version in client.search_model_versions(f"name = '{name}'")
            ]
        known = ", ".join(str(number) for number in sorted(versions, reverse=True)[:_LISTED]) or "none"
        raise ModelError("FS3001", f"{uri}: the version does not exist (versions of {name}: {known}).", where=where)
    return version, source


def _aliases(client: MlflowClient, name: str, where: Where | None = None, uri: str = "") -> dict[str, str]:
    """Return the versions by alias, or raise FS3001 with the registered names if the model is not registered."""
    from mlflow.exceptions import MlflowException

    try:
        model = client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code != _MISSING:
            raise
    else:
        return {alias: str(version) for alias, version in model.aliases.items()}
    names = [model.name for model in client.search_registered_models(max_results=1000)]
    near = difflib.get_close_matches(name, names, 1)
    known = ", ".join(sorted(names)[:_LISTED]) + (f" and {len(names) - _LISTED} more" if len(names) > _LISTED else "")
    raise ModelError(
        "FS3001",
        f"{uri or name}: the model `{name}` is not registered (registered: {known or 'none'}).",
        where=where,
        hint=f"Did you mean `{near[0]}`?"
        if near
        else f"Register the model, or check the URI of the registry ({without_secrets(registry_uri(client))}).",
    )


def _source(client: MlflowClient, name: str, version: str) -> str | None:
    """Return the artifact URI of a version, or None if the version does not exist.

    A download of `models:/NAME/VERSION` adds a file of MLflow (`registered_model_meta`), which changes the digest.
    """
    from mlflow.exceptions import MlflowException

    with mlflow_faults(registry_uri(client), f"resolving models:/{name}/{version}", _permission(name)):
        try:
            return client.get_model_version_download_uri(name, version)
        except MlflowException as error:
            if error.error_code != _MISSING:
                raise
            return None


def registry_uri(client: MlflowClient) -> str:
    """Return the URI of the registry, for messages: MLFLOW_REGISTRY_URI can name another server than that of the runs."""
    return str(client._registry_uri)  # noqa: SLF001 - MLflow has no public name for it


def _permission(name: str) -> str:
    """Return the permission that a plan needs, for messages."""
    return f"READ on the registered model {name}"


def _local_folder(uri: str, where: Where | None) -> Path:
    parts = urlsplit(uri)
    if parts.scheme not in ("", "file"):
        raise ModelError(
            "FS3001",
            f"{uri}: firesteel cannot pin this kind of URI.",
            where=where,
            hint="Write models:/NAME@ALIAS, models:/NAME/VERSION, or a folder.",
        )
    try:
        folder = Path(unquote(parts.path) if parts.scheme else uri).expanduser().resolve()
        exists = folder.is_dir()
    except (OSError, ValueError, RuntimeError) as error:  # name too long, NUL character or no home folder
        raise ModelError(
            "FS3001", f"{uri!r} is not a valid path: {error}.", where=where, hint="Check the path."
        ) from None
    if where is not None and not exists:
        raise ModelError(
            "FS3001",
            f"the folder {folder} does not exist.",
            where=where,
            hint="Check the path. A relative path starts at the spec's folder.",
        )
    return folder


def _check_is_model(folder: Path, uri: str, where: Where | None) -> None:
    if "%" in str(folder):
        raise ModelError(
            "FS3001",
            f"{uri}: the path {folder} contains `%`, which MLflow decodes as an escape.",
            where=where,
            hint="Move the model to a path without `%`.",
        )
    if not (folder / "MLmodel").is_file():
        raise ModelError(
            "FS3001",
            f"{uri}: {folder} is not an MLflow model (no MLmodel file).",
            where=where,
            hint="Check that the model's store is on this machine.",
        )
