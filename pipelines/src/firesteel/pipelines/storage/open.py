"""Open the storage of a URI."""

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
from firesteel.pipelines.storage.paths import absolute, split_uri
from firesteel.pipelines.storage.rpc import RpcListing
from firesteel.pipelines.storage.webhdfs import Lister, WebHdfsStorage

_cache: dict[tuple[str, ...], Storage] = {}
_lock = threading.Lock()


def locate(uri: str) -> tuple[Storage, str]:
    """Return the storage of `uri`, and the path within it.

    Storages are cached by authority, NameNode addresses and user, so that calls share connections.

    Raises
    ------
    StorageError
        FS8005: the scheme is not `hdfs://` or `file://`. FS8001: `hdfs:///` is used, and there is no default NameNode.

    Examples
    --------
    >>> storage, path = locate("file:///tmp/demo/scores/")
    >>> storage.base_uri, path
    ('file://', '/tmp/demo/scores')
    """
    scheme, authority, path = split_uri(uri)
    if scheme == "file":
        return _cached(("file",)), absolute(path)
    return _cached(("hdfs", authority or _default_authority(uri))), absolute(path)


def close_all() -> None:
    """Close every cached storage."""
    with _lock:
        storages = list(_cache.values())
        _cache.clear()
    for storage in storages:
        storage.close()


def _default_authority(uri: str) -> str:
    default = urlsplit(default_fs())
    if default.scheme != "hdfs" or not default.netloc:
        raise StorageError(
            "FS8001",
            f"{uri} has no NameNode, and fs.defaultFS is {default_fs()}; expected an hdfs:// address in one of them.",
            hint="Write hdfs://NAMESERVICE/..., or set HADOOP_CONF_DIR to the folder of the cluster's client configuration.",
        )
    return default.netloc


def _cached(key: tuple[str, ...]) -> Storage:
    if key == ("file",):
        return LocalStorage()
    authority = key[1]
    urls = webhdfs_urls(authority)
    cache_key = (*key, os.environ.get("HADOOP_USER_NAME") or getpass.getuser(), *urls)
    with _lock:
        if cache_key not in _cache:
            _cache[cache_key] = WebHdfsStorage(of_authority(authority, urls), _listers(authority, cache_key[2]))
        return _cache[cache_key]


def _listers(authority: str, user: str) -> list[Lister]:
    """Return the fast methods of listing, the fastest first."""
    if os.environ.get(WEBHDFS_URL):  # a gateway (HttpFS, Knox) is used where NameNodes are not reachable
        return []
    native = RpcListing(authority)
    conf = HadoopConf.load()
    return [native] if conf.kerberos else [BatchedListing(authority, conf.rpc_addresses(authority), user), native]


def _forget() -> None:
    """In a forked child: forget the storages, because it must not use its parent's connections."""
    global _lock  # noqa: PLW0603
    _lock = threading.Lock()
    _cache.clear()


os.register_at_fork(after_in_child=_forget)
