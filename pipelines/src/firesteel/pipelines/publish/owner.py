"""The owner of a sink and of a storage: no other pipeline, profile or storage publishes there.

::

    <sink>/_current         the storage, pipeline, profile and sink name that publish to this location (current.py)
    <storage>/owner.json    the pipeline that keeps its records here

The lock and the ledger of an interval are in the storage of one owner. With two owners, both could publish the same interval at once, and
each ledger would name files that the other has replaced. Both files are created exclusively, before the first journal. transfer.py changes
the owner.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import PurePosixPath
from typing import TypeVar

from pydantic import TypeAdapter

from firesteel.conf.errors import StorageError
from firesteel.pipelines.publish.current import Pointer, point_to, read_pointer
from firesteel.pipelines.publish.envelope import decode, encode
from firesteel.pipelines.publish.state_store import SinkInterval, StateStore, path_within
from firesteel.pipelines.storage.identity import Location, is_hidden
from firesteel.pipelines.storage.paths import join

T = TypeVar("T")

_TAKE = "`firesteel recover --take-ownership`"


@dataclass(frozen=True, slots=True)
class StoreOwner:
    """The pipeline that a storage belongs to."""

    pipeline: str


def check_outside(store: StateStore, path: str) -> None:
    """Check that no folder above a sink or a storage belongs to an owner: its readers would see other rows, or its records would change.

    Parameters
    ----------
    path
        The path in the store's storage, or its URI.

    Raises
    ------
    StorageError
        FS8012 when the path is in a sink, where listings find it, or in a storage.
    """
    inner = Location.of(f"{store.storage.base_uri}{path_within(store, path)}").path
    for parent in PurePosixPath(inner).parents:
        folder = str(parent)
        owner = _valid(partial(sink_owner, store, folder))
        keeper = _valid(partial(store_owner, replace(store, base=folder)))
        if owner is not None and not is_hidden(inner[len(folder) :].strip("/")):
            what = f"the sink {folder}, which belongs to {named(store, owner)}"
        elif keeper is not None and store.location(folder) != store.location(store.base):
            what = f"the storage {folder} of the pipeline {keeper.pipeline}"
        else:
            continue
        raise StorageError(
            "FS8012",
            f"{store.storage.base_uri}{inner} is inside {what}. Nothing was changed.",
            hint="Use a folder beside it.",
        )


def _valid(read: Callable[[], T | None]) -> T | None:
    """Return a record of a folder; None if there is none, or a file of another program has its name."""
    try:
        return read()
    except StorageError as error:
        if error.code != "FS8006":
            raise
        return None


def claim_store(store: StateStore) -> None:
    """Make the store's pipeline the owner of the storage if it has none.

    Raises
    ------
    StorageError
        FS8012 when it belongs to another pipeline.
    """
    path = store_file(store)
    if store.storage.status(path) is None:
        try:
            store.storage.create(path, encode(_IDENTITY, StoreOwner(store.pipeline)))
        except StorageError as error:
            if error.code != "FS8004":  # another driver was faster
                raise
    check_store(store)


def check_store(store: StateStore) -> None:
    """Raise FS8012 when the storage belongs to another pipeline."""
    owner = store_owner(store)
    if owner is not None and owner.pipeline != store.pipeline:
        raise StorageError(
            "FS8012",
            f"the storage {store.storage.base_uri}{store.base} belongs to the pipeline {owner.pipeline}, this is {store.pipeline}. "
            "Nothing was changed.",
            hint=f"Give each pipeline a `storage` of its own. If the pipeline was renamed, run {_TAKE}.",
        )


def claim_sink(sink_interval: SinkInterval, sink_path: str) -> None:
    """Make the sink of an interval belong to its store if it has no owner. Raise FS8012 when it has another one."""
    point_to(sink_interval, sink_path)
    check_sink(sink_interval.store, sink_interval.sink, sink_path)
    check_outside(sink_interval.store, sink_path)  # after the marker: of two owners at once, one sees that of the other


def check_sink(store: StateStore, sink: str, sink_path: str) -> None:
    """Raise FS8012 when the sink belongs to another storage, pipeline or profile, or has another name there.

    Parameters
    ----------
    sink_path
        The sink's path in the store's storage, or its URI.
    """
    path = path_within(store, sink_path)
    owner = sink_owner(store, path)
    if owner is not None and not is_ours(store, sink, owner):
        raise StorageError(
            "FS8012",
            f"{store.storage.base_uri}{path} belongs to {named(store, owner)}; this is {named(store, pointer_of(store, sink))}. "
            "Nothing was changed.",
            hint=f"Publish to another path. To transfer the sink from its owner, run {_TAKE}.",
        )


def store_owner(store: StateStore) -> StoreOwner | None:
    """Return the owner of a storage; None if it has none."""
    path = store_file(store)
    try:
        data = store.storage.read(path)
    except StorageError as error:
        if error.code == "FS8003":
            return None
        raise
    return decode(_ADAPTER, data, path, _IDENTITY, "Delete the file; the next run writes it again.")


def sink_owner(store: StateStore, path: str) -> Pointer | None:
    """Return the owner of a sink, given its path in the storage; None if it has none."""
    try:
        return read_pointer(store.storage, path)
    except StorageError as error:
        if error.code == "FS8003":
            return None
        raise


def is_ours(store: StateStore, sink: str, owner: Pointer) -> bool:
    """Return whether a sink's owner is the store's pipeline and profile, under the name `sink`."""
    same_storage = store.location(owner.base) == store.location(store.base)
    return same_storage and (owner.pipeline, owner.profile, owner.sink) == (store.pipeline, store.profile, sink)


def pointer_of(store: StateStore, sink: str) -> Pointer:
    """Return the store's pipeline and profile as the owner of a sink."""
    return Pointer(store.base, store.pipeline, store.profile, sink)


def named(store: StateStore, owner: Pointer) -> str:
    """Return an owner for a message."""
    return (
        f"the sink {owner.sink} of pipeline {owner.pipeline}, profile {owner.profile}, with the storage "
        f"{store.storage.base_uri}{owner.base}"
    )


def store_file(store: StateStore) -> str:
    """Return the path of the file that names the owner of the storage."""
    return join(store.base, "owner.json")


_ADAPTER = TypeAdapter(StoreOwner)
_IDENTITY = {"kind": "owner"}
