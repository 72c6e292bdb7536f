"""Paths within one file system: what both storages ask of them, and the walk that both share."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter

from firesteel.conf.errors import StorageError
from firesteel.pipelines.storage.base import FileStatus, Storage

SCHEMES = frozenset({"hdfs", "file"})
"""Those that `open.py` has a storage for."""


def absolute(path: str) -> str:
    """`path` without trailing or doubled slashes.

    Raises
    ------
    ValueError
        When it is relative or holds `..`: a caller's mistake, and one that could delete the wrong folder.
    """
    if not path.startswith("/") or ".." in path.split("/"):
        raise ValueError(f"a storage path is absolute and has no `..`: {path!r}")
    return posixpath.normpath("/" + path.lstrip("/"))


def split_uri(uri: str) -> tuple[str, str, str]:
    """Scheme, authority and path of a location; the authority of a file is empty.

    Not `urlsplit`: a `?`, `#` or `%` in a path is a character of a file name.

    Raises
    ------
    StorageError
        FS8005 for anything but absolute `hdfs://` and `file://` paths of this machine.
    """
    scheme, separator, rest = uri.partition(":")
    scheme = scheme.lower()
    if not separator or scheme not in SCHEMES:
        named = f"the scheme `{scheme}` is" if separator else "a path without scheme is"
        raise StorageError("FS8005", f"{uri}: {named} not supported.", hint="Use hdfs:// or file://.")
    authority, path = "", rest
    if rest.startswith("//"):
        authority, slash, path = rest.removeprefix("//").partition("/")
        path = slash + path if slash else "/"
    if ".." in path.split("/") or not path.startswith("/"):
        raise StorageError(
            "FS8005", f"{uri}: the path is not absolute, or leaves its place.", hint="Write it without `..`."
        )
    if scheme == "file" and authority not in {"", "localhost"}:
        raise StorageError(
            "FS8005", f"{uri}: `{authority}` is not this machine.", hint=f"Write file:///{authority}{path}?"
        )
    return scheme, "" if scheme == "file" else authority, path


def parent_of(path: str) -> str:
    """The folder that holds `path`."""
    return posixpath.dirname(path)


def join(folder: str, *parts: str) -> str:
    """`folder` and what is below it; empty parts count for nothing."""
    return "/".join([folder.rstrip("/"), *(part.strip("/") for part in parts if part.strip("/"))]) or "/"


def walk(storage: Storage, path: str) -> Iterator[FileStatus]:
    """All files below `path`, sorted by path. What vanishes under way is left out."""
    try:
        children = storage.list(path)
    except StorageError as error:
        if error.code == "FS8003":
            return
        raise
    # With the slash that its children's paths have, a folder sorts among files as its content does.
    for child in sorted(children, key=lambda status: status.path + "/" if status.is_dir else status.path):
        if child.is_dir:
            yield from walk(storage, child.path)
        else:
            yield child


def scan(storage: Storage, paths: Sequence[str]) -> tuple[FileStatus, ...]:
    """All files below `paths`, by walking them one after the other."""
    return by_path(status for path in paths for status in storage.walk(path))


def by_path(found: Iterable[FileStatus]) -> tuple[FileStatus, ...]:
    """Sorted by path."""
    return tuple(sorted(found, key=attrgetter("path")))
