"""Locations in a spec: their form, without a look at what is there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import unquote, urlsplit

from firesteel.conf.errors import FiresteelError, SpecError, StorageError
from firesteel.pipelines.spec.load import LoadedSpec
from firesteel.pipelines.spec.model import FileLineage, Spec
from firesteel.pipelines.spec.tree import KeyPath
from firesteel.pipelines.storage.paths import split_uri

_REGISTERED = re.compile(r"models:/+[^/@]+(@[^/@]+|/\d+)")
_MASTERS = re.compile(
    r"local|local\[([1-9]\d*|\*)(,\s*[1-9]\d*)?\]|local-cluster\[\s*\d+\s*,\s*\d+\s*,\s*\d+\s*\]|yarn"
    r"|spark://[^\s/,:]+:\d+(,[^\s/,:]+:\d+)*|spark://\[[0-9a-fA-F:]+\]:\d+|k8s://\S+"
)
_OUR_MASTERS = ("local", "yarn", "spark:", "k8s:")
"""Spark's own. A cluster manager that is plugged in has a scheme of its own, of which nothing is known here."""


def location_errors(loaded: LoadedSpec) -> list[FiresteelError]:
    """What is wrong with the URIs of a spec, and with its master: schemes, relative paths, two storages."""
    errors = [*_storages(loaded), *_models(loaded)]
    master = loaded.spec.resources.master
    if not _MASTERS.fullmatch(master) and (master.startswith(_OUR_MASTERS) or "://" not in master):
        errors.append(
            SpecError(
                "FS1004",
                f"`resources.master`: Spark knows no master `{master}`.",
                where=loaded.tree.nearest(("resources", "master")).where,
                hint="Write local[*], local[4], yarn, spark://HOST:PORT or k8s://https://HOST:PORT.",
            )
        )
    return loaded.root_causes(errors)


def _storages(loaded: LoadedSpec) -> Iterator[FiresteelError]:
    homes: dict[KeyPath, tuple[str, str]] = {}
    for kind, uri, path in _locations(loaded.spec):
        where = loaded.tree.nearest(path).where
        if not _stays(uri):
            what = f"{kind} `{uri}` is not an absolute URI."
            hint = "Write hdfs://... or file:///..., without `..`, `\\` and line breaks."
            yield SpecError("FS1015", what, where=where, hint=hint)
            continue
        try:
            scheme, authority, _ = split_uri(uri)
        except StorageError as error:
            yield StorageError(error.code, f"{kind} {error.what}", where=where, hint=error.hint)
            continue
        homes[path] = scheme, authority
    home = homes.get(("storage",))
    for path, other in homes.items():
        if path[0] != "sinks" or home is None or other == home:
            continue
        # What an empty authority means is the cluster's to say.
        if other[0] != home[0] or (other[1] and home[1]):
            yield StorageError(
                "FS8008",
                f"`{'.'.join(map(str, path))}` and `storage` are in two storages.",
                where=loaded.tree.nearest(path).where,
                hint="Publishing renames directories: write both with the same scheme and authority.",
            )


def _locations(spec: Spec) -> Iterator[tuple[str, str, KeyPath]]:
    yield "storage", spec.storage, ("storage",)
    for name, source in spec.sources.items():
        yield "path", source.path, ("sources", name, "path")
    for name, sink in spec.sinks.items():
        yield "path", sink.path, ("sinks", name, "path")
    if isinstance(spec.tracking.openlineage, FileLineage):
        yield "path", spec.tracking.openlineage.path, ("tracking", "openlineage", "path")


def _stays(uri: str) -> bool:
    """Whether a location is absolute and cannot climb, however some client decodes it."""
    decoded = unquote(uri)
    return "://" in uri and "/../" not in f"{decoded}/" and "\\" not in decoded and decoded.isprintable()


def _models(loaded: LoadedSpec) -> Iterator[FiresteelError]:
    for name, model in loaded.spec.models.items():
        uris: list[tuple[str, KeyPath]] = [(model.uri, ("models", name, "uri"))]
        if model.challenger is not None:
            uris.append((model.challenger.uri, ("models", name, "challenger", "uri")))
        for uri, path in uris:
            if problem := model_problem(uri):
                yield SpecError(
                    "FS1004",
                    f"`{'.'.join(map(str, path))}`: {uri} {problem}.",
                    where=loaded.tree.nearest(path).where,
                    hint="Write models:/NAME@ALIAS, models:/NAME/VERSION, or a folder.",
                )


def model_problem(uri: str) -> str:
    """Why a URI can name no model that a plan pins, or nothing.

    Examples
    --------
    >>> model_problem("models:/m@champion"), model_problem("/models/m"), model_problem("models:/m")
    ('', '', 'names neither an alias nor a version')
    """
    if not uri.strip():
        return "names no model"
    try:
        parts = urlsplit(uri)
    except ValueError as error:
        return f"is no URI ({error})"
    if parts.scheme == "models":
        return "" if _REGISTERED.fullmatch(uri) else "names neither an alias nor a version"
    if parts.scheme not in {"", "file"}:
        return f"has the scheme `{parts.scheme}`, which no plan can pin"
    return "" if parts.netloc in {"", "localhost"} else f"names the machine {parts.netloc}, and a folder is on this one"
