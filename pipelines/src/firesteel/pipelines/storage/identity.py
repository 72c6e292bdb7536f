"""The identity of a location: one value for all spellings of its URI, to compare locations and to match policies.

No request leaves this machine. Host names are compared as text, without DNS, but a NameNode's address that the Hadoop configuration
lists counts as its nameservice.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from firesteel.conf.hadoop import RPC_PORT, HadoopConf
from firesteel.conf.partitions import is_data
from firesteel.pipelines.storage.paths import absolute, split_uri


@dataclass(frozen=True, slots=True)
class Location:
    """The file system of a location, and its path there without symbolic links."""

    home: str
    path: str

    @classmethod
    def of(cls, uri: str) -> Location:
        """Return the location of a URI. Raise FS8005 when the URI is not absolute or its scheme is not supported."""
        scheme, authority, path = split_uri(uri)
        if scheme == "file":
            return cls("file://", os.path.realpath(absolute(path)))
        return cls(f"hdfs://{_authority(authority)}", absolute(path))

    @property
    def is_local(self) -> bool:
        """Return whether it is a file or folder of this machine."""
        return self.home == "file://"

    def __str__(self) -> str:
        return f"{self.home}{self.path}"

    def below(self, outer: Location) -> str | None:
        """Return the path of this location relative to `outer`, "" if they are the same; None if it is not within `outer`."""
        if self.home != outer.home:
            return None
        if outer.path in {self.path, "/"}:
            return self.path[len(outer.path) :].lstrip("/")
        if self.path.startswith(f"{outer.path}/"):
            return self.path[len(outer.path) + 1 :]
        return self._below_by_inode(outer)

    def _below_by_inode(self, outer: Location) -> str | None:
        """Compare the folders themselves: a bind mount gives one folder two paths."""
        inode = _inode(outer.path) if self.is_local else None
        if inode is None:
            return None
        for folder in _with_parents(self.path):
            if _inode(folder) == inode:
                return posixpath.relpath(self.path, folder).removeprefix(".")
        return None


def canonical(uri: str) -> str:
    """Return a URI for comparison: the text of its location."""
    return str(Location.of(uri))


def is_hidden(path: str) -> bool:
    """Return whether a listing of data ignores what is below `path`, which is relative to the listed folder."""
    return bool(path) and not is_data(f"{path}/part")


def _authority(authority: str) -> str:
    """Return an authority in lower case, without user and default port; a NameNode's address becomes its nameservice."""
    conf = HadoopConf.load()
    default = urlsplit(conf.default_fs)
    name = _host(authority or (default.netloc if default.scheme == "hdfs" else ""))
    for nameservice in conf.get("dfs.nameservices").replace(",", " ").split():
        addresses = (f"{host}:{port}" for host, port in conf.rpc_addresses(nameservice))
        if name == nameservice.lower() or name in map(_host, addresses):
            return nameservice.lower()
    return name


def _host(authority: str) -> str:
    host = authority.rpartition("@")[2].lower().removesuffix(f":{RPC_PORT}")
    name, colon, port = host.rpartition(":")
    return f"{name.rstrip('.')}:{port}" if colon and port.isdigit() else host.rstrip(".")


def _inode(path: str) -> tuple[int, int] | None:
    try:
        state = os.stat(path)  # noqa: PTH116 - storage paths are text, not Path
    except (OSError, ValueError):
        return None
    return state.st_dev, state.st_ino


def _with_parents(path: str) -> Iterator[str]:
    while path != "/":
        yield path
        path = posixpath.dirname(path)
