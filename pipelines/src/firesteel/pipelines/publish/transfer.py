"""Transfer sinks and a storage to another owner (owner.py)."""

from __future__ import annotations

from dataclasses import replace

from firesteel.pipelines.publish.current import NAME
from firesteel.pipelines.publish.lease import Attempt, read_states, refuse_if_held
from firesteel.pipelines.publish.owner import (
    claim_sink,
    claim_store,
    is_ours,
    named,
    pointer_of,
    sink_owner,
    store_file,
    store_owner,
)
from firesteel.pipelines.publish.permit import permit
from firesteel.pipelines.publish.recover import leftovers, recover
from firesteel.pipelines.publish.state_store import SinkInterval, StateStore, children, name_of, path_within
from firesteel.pipelines.storage.paths import join


def transfer(store: StateStore, sinks: dict[str, str], attempt: Attempt) -> list[str]:
    """Make the store's pipeline the owner of its storage and sinks.

    The previous owner's dead attempts are completed or discarded first, as by `recover`.

    Parameters
    ----------
    sinks
        Paths or URIs by sink name.

    Returns
    -------
    One sentence per change.

    Raises
    ------
    LeaseConflict
        FS7501 when the previous owner holds an interval. Its ownership is kept.
    NotAllowed
        A site policy does not allow this user to publish to a sink.
    """
    changes = []
    paths = {sink: path_within(store, path) for sink, path in sinks.items()}
    for sink, path in paths.items():
        permit(SinkInterval(store, sink, "all"), path, attempt)
    for sink, path in paths.items():
        owner = sink_owner(store, path)
        if owner is None or is_ours(store, sink, owner):
            continue
        theirs = StateStore(store.storage, owner.base, owner.pipeline, owner.profile, store.signing_key)
        for interval in leftovers(theirs, owner.sink):
            recover(theirs, owner.sink, path, interval, attempt=attempt)
        _refuse_held(theirs, owner.sink)
        _replace(store, sink, path)
        try:  # again: a run acquires its lease before it reads the owner, so that one of the two sees the other
            _refuse_held(theirs, owner.sink)
        except BaseException:
            _replace(theirs, owner.sink, path)
            raise
        changes.append(
            f"{path} belonged to {named(store, owner)}, and belongs to {named(store, pointer_of(store, sink))} now"
        )
    previous = store_owner(store)
    if previous is not None and previous.pipeline != store.pipeline:
        for profile in children(store.storage, join(store.base, "lease")):
            for folder in children(store.storage, profile.path):
                _refuse_held(
                    replace(store, pipeline=previous.pipeline, profile=name_of(profile.name)), name_of(folder.name)
                )
        store.storage.delete(store_file(store))
        changes.append(f"the storage belonged to the pipeline {previous.pipeline}, and belongs to {store.pipeline} now")
    claim_store(store)
    return changes


def _replace(store: StateStore, sink: str, path: str) -> None:
    store.storage.delete(join(path, NAME))
    claim_sink(SinkInterval(store, sink, "all"), path)


def _refuse_held(store: StateStore, sink: str) -> None:
    """Raise FS7501 when a live driver holds an interval of a sink."""
    for interval in children(store.storage, store.folder("lease", sink)):
        sink_interval = SinkInterval(store, sink, name_of(interval.name))
        states = read_states(sink_interval)
        if states:
            refuse_if_held(sink_interval, states[-1])
