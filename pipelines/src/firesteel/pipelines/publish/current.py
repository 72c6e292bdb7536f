"""`_current`: how a reader of a sink finds what is published, whole.

HDFS renames one directory atomically, not many, so a listing of a sink in the middle of a swap can show some directories
new and some old. The ledger's record is one file, created whole, after the swap: it is the manifest of its interval. The
file `_current` in the sink says where that ledger is; Spark and pyarrow ignore the name.
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
    """Whose ledger speaks for a sink. `base` is a path within the sink's own storage."""

    base: str
    pipeline: str
    profile: str
    sink: str


def point_to(place: SinkInterval, sink_path: str) -> None:
    """Leave `_current` in a sink, once."""
    store = place.store
    pointer = Pointer(store.base, store.pipeline, store.profile, place.sink)
    path = join(sink_path, NAME)
    if place.storage.status(path) is not None:
        return
    try:
        place.storage.create(path, (json.dumps(asdict(pointer), indent=2) + "\n").encode())
    except StorageError as error:
        if error.code != "FS8004":  # another interval's publish was faster, and says the same
            raise


def read_pointer(storage: Storage, sink_path: str) -> Pointer:
    """The pointer of a sink; FS8003 when nothing was published there."""
    path = join(sink_path, NAME)
    return parsed(_ADAPTER, storage.read(path), path, "a pointer to a ledger", "Remove it; the next publish writes it.")


_ADAPTER = TypeAdapter(Pointer)
