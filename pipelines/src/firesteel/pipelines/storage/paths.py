"""Functions for paths within one file system that the storages share."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter

from firesteel.conf.errors import StorageError
from firesteel.pipelines.storage.base import FileStatus, Storage

SCHEMES = frozenset({"hdfs", "file"})
"""The schemes for which `open.py` has a storage."""

_AUTHORITY = re.compile(r"(?:[^@/]*@)?(?:[A-Za-z0-9_.*-]+|\[[0-9A-Fa-f:.]+\])(?::[1-9][0-9]{0,4})?")
"""Java reads `nn:` and `nn:08020` as `nn:8020`."""
_RESERVED = "/.reserved/"


def absolute(path: str) -> str:
    """Return `path` without trailing or doubled slashes.

    Raises
    ------
    ValueError
        It is relative or has `..`. This is a bug of the caller that could delete the wrong folder.
    """
    if not path.startswith("/") or ".." in path.split("/"):
        raise ValueError(f"a storage path must be absolute, without `..`: {path!r}")
    return posixpath.normpath("/" + path.lstrip("/"))


def split_uri(uri: str) -> tuple[str, str, str]:
    """Return the scheme, authority and path of a location. The authority of a file is empty.

    `urlsplit` is not used: `?`, `#` and `%` in a path are characters of a file name.

    Raises
    ------
    StorageError
        FS8005: it is not an absolute `hdfs://` or `file://` URI, is a file of another machine, or has a second spelling that cannot be
        compared with the first one.
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
        raise StorageError("FS8005", f"{uri}: the path must be absolute, without `..`.", hint="Write the full path.")
    if scheme == "hdfs" and authority and _AUTHORITY.fullmatch(authority) is None:
        raise StorageError(
            "FS8005",
            f"{uri}: `{authority}` is not a nameservice, HOST or HOST:PORT.",
            hint="Write the port without leading zeros, or leave out `:`.",
        )
    if scheme == "hdfs" and f"{absolute(path)}/".startswith(_RESERVED):
        raise StorageError(
            "FS8005",
            f"{uri}: HDFS has other names for all its paths in {_RESERVED}; firesteel would not know which path this is.",
            hint="Write the path itself.",
        )
    if scheme == "file" and authority not in {"", "localhost"}:
        raise StorageError(
            "FS8005",
            f"{uri}: `{authority}` is not this machine.",
            hint=f"Write file:///{authority}{path} for a local path.",
        )
    return scheme, "" if scheme == "file" else authority, path


def parent_of(path: str) -> str:
    """Return the parent folder of `path`."""
    return posixpath.dirname(path)


def join(folder: str, *parts: str) -> str:
    """Join a folder and parts of a path. Empty parts are ignored."""
    return "/".join([folder.rstrip("/"), *(part.strip("/") for part in parts if part.strip("/"))]) or "/"


def walk(storage: Storage, path: str) -> Iterator[FileStatus]:
    """Return all files below `path`, sorted by path. Folders that are deleted meanwhile are skipped."""
    try:
        children = storage.list(path)
    except StorageError as error:
        if error.code == "FS8003":
            return
        raise
    # With the trailing slash of its children's paths, a folder sorts among files as its content does.
    for child in sorted(children, key=lambda status: status.path + "/" if status.is_dir else status.path):
        if child.is_dir:
            yield from walk(storage, child.path)
        else:
            yield child


def scan(storage: Storage, paths: Sequence[str]) -> tuple[FileStatus, ...]:
    """Return all files below `paths`, walking one path after the other."""
    return by_path(status for path in paths for status in storage.walk(path))


def by_path(files: Iterable[FileStatus]) -> tuple[FileStatus, ...]:
    """Sort files by path."""
    return tuple(sorted(files, key=attrgetter("path")))


def status_of_written(storage: Storage, path: str) -> FileStatus:
    """Return the status of a file that was just written. FS8003 if another process has deleted it."""
    status = storage.status(path)
    if status is None:
        raise StorageError("FS8003", f"{storage.base_uri}{path} was deleted while it was being written.")
    return status
