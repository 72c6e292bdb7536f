"""From a URI to its storage and the path within it."""

from __future__ import annotations

import getpass
import os
import threading
from urllib.parse import urlsplit

from firesteel.conf.errors import StorageError
from firesteel.conf.hadoop import WEBHDFS_URL, HadoopConf, default_fs, webhdfs_urls
from firesteel.pipelines.storage.base import Storage
from firesteel.pipelines.storage.batched import BatchedListing
from firesteel.pipelines.storage.local import LocalStorage
from firesteel.pipelines.storage.namenodes import of_authority
from firesteel.pipelines.storage.paths import absolute
from firesteel.pipelines.storage.rpc import RpcListing
from firesteel.pipelines.storage.webhdfs import Lister, WebHdfsStorage

_cache: dict[tuple[str, ...], Storage] = {}
_lock = threading.Lock()


def locate(uri: str) -> tuple[Storage, str]:
    """The storage that holds `uri`, and the path within it.

    Storages are kept per authority, NameNode addresses and user, so that calls share connections.

    Raises
    ------
    StorageError
        FS8005 for anything but `hdfs://` and `file://`; FS8001 when `hdfs:///` has no default to mean.

    Examples
    --------
    >>> storage, path = locate("file:///tmp/demo/scores/")
    >>> storage.base_uri, path
    ('file://', '/tmp/demo/scores')
    """
    scheme, separator, rest = uri.partition(":")
    if not separator or scheme.lower() not in {"hdfs", "file"}:
        named = f"the scheme `{scheme}` is" if separator else "a path without scheme is"
        raise StorageError("FS8005", f"{uri}: {named} not supported.", hint="Use hdfs:// or file://.")
    authority, path = _split(rest)
    if ".." in path.split("/") or not path.startswith("/"):
        raise StorageError(
            "FS8005", f"{uri}: the path is not absolute, or leaves its place.", hint="Write it without `..`."
        )
    if scheme.lower() == "file":
        if authority not in {"", "localhost"}:
            raise StorageError(
                "FS8005", f"{uri}: `{authority}` is not this machine.", hint=f"Write file:///{authority}{path}?"
            )
        return _cached(("file",)), absolute(path)
    return _cached(("hdfs", authority or _default_authority(uri))), absolute(path)


def close_all() -> None:
    """Close every storage that was located."""
    with _lock:
        storages = list(_cache.values())
        _cache.clear()
    for storage in storages:
        storage.close()


def _split(rest: str) -> tuple[str, str]:
    """Authority and path. Not `urlsplit`: a `?`, `#` or `%` in a path is a character of a file name."""
    if not rest.startswith("//"):
        return "", rest
    authority, slash, path = rest.removeprefix("//").partition("/")
    return authority, slash + path if slash else "/"


def _default_authority(uri: str) -> str:
    default = urlsplit(default_fs())
    if default.scheme != "hdfs" or not default.netloc:
        raise StorageError(
            "FS8001",
            f"{uri} names no NameNode, and fs.defaultFS is {default_fs()}.",
            hint="Write hdfs://NAMESERVICE/..., or point HADOOP_CONF_DIR at the cluster's client configuration.",
        )
    return default.netloc


def _cached(key: tuple[str, ...]) -> Storage:
    if key == ("file",):
        return LocalStorage()
    authority = key[1]
    urls = webhdfs_urls(authority)
    full = (*key, os.environ.get("HADOOP_USER_NAME") or getpass.getuser(), *urls)
    with _lock:
        if full not in _cache:
            _cache[full] = WebHdfsStorage(of_authority(authority, urls), _listers(authority, full[2]))
        return _cache[full]


def _listers(authority: str, user: str) -> list[Lister]:
    """The quick ways to list, the quickest first."""
    if os.environ.get(WEBHDFS_URL):  # a gateway (HttpFS, Knox) is there because the NameNodes cannot be reached
        return []
    native = RpcListing(authority)
    conf = HadoopConf.load()
    return [native] if conf.kerberos else [BatchedListing(authority, conf.rpc_addresses(authority), user), native]


def _forget() -> None:
    """A forked child must not talk over its parent's connections."""
    global _lock  # noqa: PLW0603
    _lock = threading.Lock()
    _cache.clear()


os.register_at_fork(after_in_child=_forget)
