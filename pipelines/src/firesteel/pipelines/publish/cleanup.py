"""What is removed once an attempt is over, and what is kept."""

from __future__ import annotations

import secrets

from firesteel.conf.errors import StorageError
from firesteel.pipelines.publish.state_store import SinkInterval, children, tokens_in
from firesteel.pipelines.storage.paths import join

KEEP_VERSIONS = 2
"""How many replaced versions of an interval are kept."""

_DEBRIS_AGE_MS = 3_600_000


def remove_staging(place: SinkInterval, up_to: int) -> None:
    """Remove the staging and the scratch folders of all tokens up to one whose predecessors are all decided.

    Executors of a dead driver may have written there after it was first removed, hence all and not one.
    """
    for kind, path_of in (("staging", place.staging), ("scratch", place.scratch)):
        for token in tokens_in(place.storage, place.folder(kind)):
            if token <= up_to:
                place.storage.delete(path_of(token))


def remove_unused_version(place: SinkInterval, token: int) -> None:
    """Remove the folders that a token made for old data and never used, since it was fenced."""
    path = place.versions(token)
    if next(place.storage.walk(path), None) is None:
        place.storage.delete(path)


def prune_versions(place: SinkInterval, up_to: int, keep: int) -> None:
    """Keep the newest `keep` versions among the tokens up to one that has finished its swap; later ones are in use.

    A version leaves its place whole, by one rename, before anything in it is deleted: see swap.py for why.
    """
    storage = place.storage
    tokens = [token for token in tokens_in(storage, place.folder("versions")) if token <= up_to]
    trash = place.folder("trash")
    for token in tokens[: max(0, len(tokens) - keep)]:
        storage.mkdirs(trash)
        try:
            storage.rename(place.versions(token), join(trash, f"{token:010d}.{secrets.token_hex(4)}"))
        except StorageError as error:
            if error.code != "FS8003":  # another one prunes too
                raise
    for child in children(storage, trash):
        storage.delete(child.path)


def remove_debris(place: SinkInterval) -> None:
    """Remove hidden files that killed processes left among the leases, once no one can be using them any more."""
    found = children(place.storage, place.folder("lease"))
    newest = max((child.modified_ms for child in found), default=0)
    for child in found:
        if child.name.startswith(".") and newest - child.modified_ms > _DEBRIS_AGE_MS:
            place.storage.delete(child.path)
