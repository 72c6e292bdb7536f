"""Check the format of the locations in a spec, without access to them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import unquote, urlsplit

from firesteel.conf.errors import FiresteelError, SpecError, StorageError
from firesteel.pipelines.spec.load import LoadedSpec
from firesteel.pipelines.spec.model import FileLineage, Spec
from firesteel.pipelines.spec.tree import KeyPath
from firesteel.pipelines.storage.paths import SCHEMES, split_uri

_REGISTERED = re.compile(r"models:/+[^/@]+(@[^/@]+|/\d+)")
_STAGE = re.compile(r"models:/(?P<name>[^/@]+)/(?P<stage>[^/@]+)")
_MASTERS = re.compile(
    r"local|local\[([1-9]\d*|\*)(,\s*[1-9]\d*)?\]|local-cluster\[\s*\d+\s*,\s*\d+\s*,\s*\d+\s*\]|yarn"
    r"|spark://[^\s/,:]+:\d+(,[^\s/,:]+:\d+)*|spark://\[[0-9a-fA-F:]+\]:\d+|k8s://\S+"
)
_SCHEME = re.compile(r"([A-Za-z][\w+.-]+):/")
_SPARK_MASTERS = ("local", "yarn", "spark:", "k8s:")
"""Spark's own masters. Cluster manager plugins have other schemes, which are not checked."""


def location_errors(loaded: LoadedSpec) -> list[FiresteelError]:
    """Return the errors of a spec's URIs and master: schemes, relative paths, different file systems."""
    errors = [*_storages(loaded), *_models(loaded)]
    master = loaded.spec.resources.master
    if not _MASTERS.fullmatch(master) and (master.startswith(_SPARK_MASTERS) or "://" not in master):
        errors.append(
            SpecError(
                "FS1004",
                f"`resources.master`: `{master}` is not a valid Spark master.",
                where=loaded.tree.nearest(("resources", "master")).where,
                hint="Write local[*], local[4], yarn, spark://HOST:PORT or k8s://https://HOST:PORT.",
            )
        )
    return loaded.root_causes(errors)


def _storages(loaded: LoadedSpec) -> Iterator[FiresteelError]:
    homes: dict[KeyPath, tuple[str, str]] = {}
    for kind, uri, path in _locations(loaded.spec):
        where = loaded.tree.nearest(path).where
        scheme = _SCHEME.match(uri)
        if not _is_absolute(uri) and (scheme is None or scheme[1].lower() in SCHEMES):
            what = f"{kind} `{uri}` is not an absolute URI."
            hint = "Write hdfs://... or file:///..., without `..`, `\\` or line breaks."
            yield SpecError("FS1015", what, where=where, hint=hint)
            continue
        try:
            homes[path] = split_uri(uri)[:2]
        except StorageError as error:
            yield StorageError(error.code, f"{kind} {error.what}", where=where, hint=error.hint)
    home = homes.get(("storage",))
    for path, other in homes.items():
        if path[0] != "sinks" or home is None or other == home:
            continue
        # The cluster's configuration defines the empty authority.
        if other[0] != home[0] or (other[1] and home[1]):
            yield StorageError(
                "FS8008",
                f"`{'.'.join(map(str, path))}` and `storage` are in different file systems.",
                where=loaded.tree.nearest(path).where,
                hint="Use the same scheme and authority for both: publishing renames directories.",
            )


def _locations(spec: Spec) -> Iterator[tuple[str, str, KeyPath]]:
    yield "storage", spec.storage, ("storage",)
    for name, source in spec.sources.items():
        yield "path", source.path, ("sources", name, "path")
    for name, sink in spec.sinks.items():
        yield "path", sink.path, ("sinks", name, "path")
    if isinstance(spec.tracking.openlineage, FileLineage):
        yield "path", spec.tracking.openlineage.path, ("tracking", "openlineage", "path")


def _is_absolute(uri: str) -> bool:
    """Return whether a location is absolute and has no `..`, also after URL decoding."""
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
                    hint=_model_hint(uri),
                )


def _model_hint(uri: str) -> str:
    """Return URIs that a plan can pin. Stages and `latest` change between a plan and its run."""
    if match := _STAGE.fullmatch(uri):
        alias = "champion" if match["stage"].lower() == "latest" else match["stage"].lower()
        return f"Write models:/{match['name']}@{alias} and set this alias, or models:/{match['name']}/VERSION."
    return "Write models:/NAME@ALIAS, models:/NAME/VERSION, or a folder."


def model_problem(uri: str) -> str:
    """Return why a plan cannot pin the model of a URI; "" if it can.

    Examples
    --------
    >>> model_problem("models:/m@champion"), model_problem("/models/m"), model_problem("models:/m")
    ('', '', 'has no alias and no version')
    """
    if not uri.strip():
        return "is empty"
    try:
        parts = urlsplit(uri)
    except ValueError as error:
        return f"is not a URI ({error})"
    if parts.scheme == "models":
        return "" if _REGISTERED.fullmatch(uri) else "has no alias and no version"
    if parts.scheme not in {"", "file"}:
        return f"has the scheme `{parts.scheme}`, which a plan cannot pin"
    return "" if parts.netloc in {"", "localhost"} else f"has the host {parts.netloc}; a folder must be local"
