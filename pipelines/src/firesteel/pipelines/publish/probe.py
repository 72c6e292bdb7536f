"""Check that folders can be renamed from the storage into the sink and back, before an attempt does any work.

Scheme and authority do not show it: a mount, a link or an encryption zone of HDFS can lie between two paths of one file system. A swap that
meets it after its journal could neither finish nor be undone.
"""

from __future__ import annotations

import secrets

from firesteel.conf.errors import StorageError
from firesteel.pipelines.publish.state_store import SinkInterval
from firesteel.pipelines.storage.base import Storage
from firesteel.pipelines.storage.paths import join, parent_of


def check_renames(sink_interval: SinkInterval, sink_path: str) -> None:
    """Rename an empty folder on the way of a swap: from the staging folder to the sink, and on to the versions.

    Raises
    ------
    StorageError
        FS8008 when the storage refuses one of the renames.
    """
    # Without the check: the folder above a new sink may be one that no policy allows, and the empty folder is there only for a moment.
    store, storage = sink_interval.store, sink_interval.storage.inner
    name = f"_firesteel_probe_{secrets.token_hex(8)}"  # hidden from readers
    staging, versions = (store.folder(kind, sink_interval.sink) for kind in ("staging", "versions"))
    way = [join(folder, name) for folder in (staging, _existing(storage, sink_path), versions)]
    sink_interval.storage.permit(way[0], way[2])
    storage.mkdirs(way[0])
    storage.mkdirs(versions)
    at = way[0]
    try:
        for target in way[1:]:
            try:
                storage.rename(at, target)
            except StorageError as error:
                if error.code != "FS8002":
                    raise
                raise StorageError(
                    "FS8008",
                    f"a folder cannot be renamed from {storage.base_uri}{parent_of(at)} to {parent_of(target)}: {error.what} "
                    "Nothing was changed.",
                    hint="Put the sink and `storage` in one file system (in HDFS, one encryption zone), where this user may rename.",
                ) from error
            at = target
    finally:
        storage.delete(at)


def _existing(storage: Storage, path: str) -> str:
    """Return the path, or its nearest parent that exists: the publish creates the others in the same file system."""
    while storage.status(path) is None:
        path = parent_of(path)
    return path
