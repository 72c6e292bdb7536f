"""Models: what a URI means now, pinned to a version and its bytes; and the pinned bytes again when a plan is applied.

::

    models:/NAME@ALIAS --alias--> models:/NAME/VERSION --source--> folder of artefacts --SHA-256--> digest
    folder, file:///folder ------------------------------------------^
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from firesteel.conf.errors import ModelError, PlanDrift, Where
from firesteel.jobs.tracking.artifacts import cached, fetch
from firesteel.jobs.tracking.connect import connect, mlflow_faults
from firesteel.jobs.tracking.signature import example_warnings, read_inputs
from firesteel.pipelines.plan.model import ModelPlan

if TYPE_CHECKING:
    from mlflow import MlflowClient

_REGISTERED = re.compile(r"models:/+(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<version>[^/@]+))$")
_MISSING = "RESOURCE_DOES_NOT_EXIST"
_LISTED = 10


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """A pinned model and where its files lie on this machine."""

    plan: ModelPlan
    folder: Path


def resolve_model(
    name: str,
    uri: str,
    *,
    method: str,
    trust_formats: tuple[str, ...],
    max_size: int | None,
    tracking_uri: str,
    where: Where | None = None,
) -> ResolvedModel:
    """Pin a model: alias -> version, the digest of its bytes, its format and its inputs. Nothing of it is loaded.

    Parameters
    ----------
    name
        The model's name in the spec.
    uri
        `models:/NAME@ALIAS`, `models:/NAME/VERSION`, a folder, or its `file:` URI.
    trust_formats, max_size
        What the spec allows; see `firesteel.udfs.trust`.
    where
        The place of `uri` in the spec, for errors.

    Raises
    ------
    ModelError
        FS3001 (no such model or version), FS3003 (no signature that names columns), FS3005 (no such alias),
        FS3009 and FS3010 (not trusted, too large).
    RuntimeFault
        FS9003 when MLflow cannot be reached.
    """
    registered = _REGISTERED.match(uri)
    if registered:
        version, folder = _download(uri, registered, tracking_uri, where)
        resolved = f"models:/{registered['name']}/{version}"
    else:
        folder = _local_folder(uri, where)
        version, resolved = "", folder.as_uri()
    _check_is_model(folder, uri, where)

    from firesteel.udfs.digest import digest_of
    from firesteel.udfs.trust import check_trust

    digest = digest_of(folder)
    try:
        format_ = check_trust(folder, trust_formats, max_size, name)
    except ModelError as error:  # say where, too: trust knows folders, not specs
        raise ModelError(error.code, error.what, where=error.where or where, hint=error.hint) from error
    plan = ModelPlan(
        name=name,
        uri=uri,
        resolved_uri=resolved,
        version=version or digest.hex[:12],
        digest=digest.hex,
        size_bytes=digest.size_bytes,
        format=format_,
        method=method,
        inputs=read_inputs(folder, name, where),
        warnings=example_warnings(folder),
    )
    return ResolvedModel(plan, folder)


def fetch_pinned(model: ModelPlan, tracking_uri: str) -> Path:
    """The folder with the bytes that a plan pinned, for `apply`.

    Raises
    ------
    PlanDrift
        FS6002 when the alias of the spec has moved, or the version or folder is gone.
    ModelError
        FS3011 when the bytes are no longer those of the plan.
    """
    from firesteel.udfs.digest import digest_of

    registered = _REGISTERED.match(model.uri)
    if registered is None:
        folder = _local_folder(model.resolved_uri, None)
    else:
        client = connect(tracking_uri, create=False)
        if registered["alias"]:
            _check_alias(client, model, registered["name"], registered["alias"], tracking_uri)
        at_hand = cached(model.digest)
        if at_hand is not None:
            return at_hand
        source = _source(client, registered["name"], model.version, tracking_uri)
        if source is None:
            raise PlanDrift(
                "FS6002",
                f"{_pinned(model)}; {model.resolved_uri} is gone from the registry.",
                hint="Run `plan` again.",
            )
        folder = fetch(source, tracking_uri)
    found = digest_of(folder).hex if folder.is_dir() else "nothing"
    if found != model.digest:
        raise ModelError(
            "FS3011",
            f"model {model.name} (v{model.version}): the plan pins sha {model.digest[:12]}, "
            f"{model.resolved_uri} has {found[:12]}. Nothing was loaded.",
            hint="Find out who changed the files; run `plan` again to take them as they are.",
        )
    return folder


def _pinned(model: ModelPlan) -> str:
    return f"the plan was made for {model.name} v{model.version} (sha {model.digest[:4]}..)"


def _check_alias(client: MlflowClient, model: ModelPlan, name: str, alias: str, tracking_uri: str) -> None:
    with mlflow_faults(tracking_uri, f"looking up {model.uri}"):
        aliases = _aliases(client, name)
    now = aliases.get(alias)
    if now != model.version:
        moved = f"@{alias} is now v{now}" if now else f"@{alias} is gone"
        raise PlanDrift(
            "FS6002",
            f"{_pinned(model)}; {moved}.",
            hint=f"Run `plan` again, or pin {model.resolved_uri}.",
        )


def _download(uri: str, parts: re.Match[str], tracking_uri: str, where: Where | None) -> tuple[str, Path]:
    client = connect(tracking_uri, create=False)
    name, alias = parts["name"], parts["alias"]
    with mlflow_faults(tracking_uri, f"looking up {uri}"):
        aliases = _aliases(client, name, where, uri)
    if alias:
        if alias not in aliases:
            known = ", ".join(f"{each}->{aliases[each]}" for each in sorted(aliases)) or "none"
            raise ModelError(
                "FS3005", f"{uri}: no such alias. Aliases: {known}.", where=where, hint="Set it, or use one of these."
            )
        version = aliases[alias]
    else:
        version = parts["version"]
    source = _source(client, name, version, tracking_uri) if version.isdigit() else None
    if source is None:
        with mlflow_faults(tracking_uri, f"looking up {uri}"):
            versions = [int(each.version) for each in client.search_model_versions(f"name = '{name}'")]
        known = ", ".join(str(each) for each in sorted(versions, reverse=True)[:_LISTED]) or "none"
        raise ModelError("FS3001", f"{uri}: no such version. Versions of {name}: {known}.", where=where)
    return version, fetch(source, tracking_uri)


def _aliases(client: MlflowClient, name: str, where: Where | None = None, uri: str = "") -> dict[str, str]:
    """Alias -> version. FS3001 with the names that there are when the model is not registered."""
    from mlflow.exceptions import MlflowException

    try:
        found = client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code != _MISSING:
            raise
    else:
        return {alias: str(version) for alias, version in found.aliases.items()}
    names = [each.name for each in client.search_registered_models(max_results=1000)]
    near = difflib.get_close_matches(name, names, 1)
    known = ", ".join(sorted(names)[:_LISTED]) + (f" and {len(names) - _LISTED} more" if len(names) > _LISTED else "")
    raise ModelError(
        "FS3001",
        f"{uri or name}: no registered model `{name}`. Registered: {known or 'none'}.",
        where=where,
        hint=f"Did you mean `{near[0]}`?" if near else "Register it, or check the tracking URI.",
    )


def _source(client: MlflowClient, name: str, version: str, tracking_uri: str) -> str | None:
    """Where the version's files are stored; None when there is no such version.

    Not downloaded by `models:/NAME/VERSION`: MLflow would add a file of its own, and the digest would differ.
    """
    from mlflow.exceptions import MlflowException

    with mlflow_faults(tracking_uri, f"looking up models:/{name}/{version}"):
        try:
            return client.get_model_version_download_uri(name, version)
        except MlflowException as error:
            if error.error_code != _MISSING:
                raise
            return None


def _local_folder(uri: str, where: Where | None) -> Path:
    parts = urlsplit(uri)
    if parts.scheme not in ("", "file"):
        raise ModelError(
            "FS3001",
            f"{uri}: not a model that can be pinned.",
            where=where,
            hint="Write models:/NAME@ALIAS, models:/NAME/VERSION, or a folder.",
        )
    try:
        folder = Path(unquote(parts.path) if parts.scheme else uri).expanduser().resolve()
        there = folder.is_dir()
    except (OSError, ValueError, RuntimeError) as error:  # too long a name, a NUL, no home
        raise ModelError("FS3001", f"{uri!r}: not a path: {error}.", where=where, hint="Check the path.") from None
    if where is not None and not there:
        raise ModelError(
            "FS3001", f"{folder}: no such folder.", where=where, hint="A relative path starts at the spec's folder."
        )
    return folder


def _check_is_model(folder: Path, uri: str, where: Where | None) -> None:
    if "%" in str(folder):
        raise ModelError(
            "FS3001",
            f"{uri}: the path {folder} holds `%`, which MLflow takes for an escape: it would read another folder.",
            where=where,
            hint="Move the model to a path without `%`.",
        )
    if not (folder / "MLmodel").is_file():
        raise ModelError(
            "FS3001",
            f"{uri}: no MLflow model at {folder}: no MLmodel file.",
            where=where,
            hint="Is the model's store on this machine?",
        )
