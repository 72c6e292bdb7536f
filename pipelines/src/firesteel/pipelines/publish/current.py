"""The file `_current`, with which a reader of a sink finds the complete published version.

HDFS renames one directory atomically, but not several. During a swap, a listing of a sink can show new and old directories. The
ledger record is created atomically after the swap, and is the manifest of its interval. The file `_current` in the sink has the
location of the ledger; Spark and pyarrow ignore this name.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from pydantic import TypeAdapter

from firesteel.conf.errors import StorageError
from firesteel.pipelines.publish.records import parsed
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
        sink_interval.storage.create(path, (json.dumps(asdict(pointer), indent=2) + "\n").encode())
    except StorageError as error:
        if error.code != "FS8004":  # a publish of another interval has written the same content
            raise


def read_pointer(storage: Storage, sink_path: str) -> Pointer:
    """Return the pointer of a sink. Raise FS8003 when nothing was published there."""
    path = join(sink_path, NAME)
    return parsed(
        _ADAPTER, storage.read(path), path, "a valid ledger pointer", "Delete it; the next publish writes it."
    )


_ADAPTER = TypeAdapter(Pointer)
