"""The file `_current`, with which a reader of a sink finds the complete published version.

HDFS renames one directory atomically, but not several. During a swap, a listing of a sink can show new and old directories. The
ledger record is created atomically after the swap, and is the manifest of its interval. The file `_current` in the sink has the
location of the ledger; Spark and pyarrow ignore this name.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from pydantic import TypeAdapter

from firesteel.conf.errors import StorageError
from firesteel.pipelines.publish.envelope import decode, encode
from firesteel.pipelines.publish.state_store import SinkInterval
from firesteel.pipelines.storage.base import Storage
from firesteel.pipelines.storage.paths import join

NAME = "_current"


@dataclass(frozen=True, slots=True)
class Pointer:
    """The location of a sink's ledger. `base` is a path in the sink's storage."""

    base: str
    pipeline: str
    profile: str
    sink: str


def point_to(sink_interval: SinkInterval, sink_path: str) -> None:
    """Write `_current` in a sink if it does not exist."""
    store = sink_interval.store
    pointer = Pointer(store.base, store.pipeline, store.profile, sink_interval.sink)
    path = join(sink_path, NAME)
    if sink_interval.storage.status(path) is not None:
        return
    try:
        sink_interval.storage.create(path, encode(_identity(sink_interval.storage, sink_path), pointer))
    except StorageError as error:
        if error.code != "FS8004":  # a publish of another interval has written the same content
            raise


def read_pointer(storage: Storage, sink_path: str) -> Pointer:
    """Return the pointer of a sink. Raise FS8003 when nothing was published there."""
    path = join(sink_path, NAME)
    try:
        data = storage.read(path)
    except StorageError as error:
        if error.code != "FS8003":
            raise
        raise StorageError(
            "FS8003",
            f"nothing was published to {storage.base_uri}{sink_path}: it has no file {NAME}.",
            hint=f"Publish to it first. If {NAME} was deleted, run `firesteel recover`.",
        ) from error
    hint = "Delete the file; the next publish writes it again."
    return decode(_ADAPTER, data, path, _identity(storage, sink_path), hint)


def _identity(storage: Storage, sink_path: str) -> dict[str, str | int]:
    """Return the identity of a sink's pointer. Readers may use a link to the sink."""
    path = os.path.realpath(sink_path) if storage.base_uri == "file://" else sink_path
    return {"kind": "pointer", "sink_path": path}


_ADAPTER = TypeAdapter(Pointer)
