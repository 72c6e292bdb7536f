"""Remove the files of attempts that have ended."""

from __future__ import annotations

import secrets

from firesteel.conf.errors import StorageError
from firesteel.pipelines.publish.state_store import SinkInterval, own_children, tokens_in
from firesteel.pipelines.storage.paths import join

KEEP_VERSIONS = 2
"""Number of replaced versions of an interval that are kept."""

_DEBRIS_AGE_MS = 3_600_000


def remove_staging(sink_interval: SinkInterval, up_to: int) -> None:
    """Remove the staging and scratch folders of all tokens up to `up_to`, which are all decided.

    All tokens are included because executors of a dead driver may have written there after an earlier removal.
    """
    for kind, path_of in (("staging", sink_interval.staging), ("scratch", sink_interval.scratch)):
        for token in tokens_in(sink_interval.storage, sink_interval.folder(kind)):
            if token <= up_to:
                sink_interval.storage.delete(path_of(token))


def remove_unused_version(sink_interval: SinkInterval, token: int) -> None:
    """Remove the unused version folders of a fenced token."""
    path = sink_interval.versions(token)
    if next(sink_interval.storage.walk(path), None) is None:
        sink_interval.storage.delete(path)


def prune_versions(sink_interval: SinkInterval, up_to: int, keep: int) -> None:
    """Delete all but the newest `keep` versions of the tokens up to `up_to`; versions of later tokens are in use.

    One rename moves a version to the trash before its files are deleted; swap.py explains why.
    """
    storage = sink_interval.storage
    tokens = [token for token in tokens_in(storage, sink_interval.folder("versions")) if token <= up_to]
    trash = sink_interval.folder("trash")
    for token in tokens[: max(0, len(tokens) - keep)]:
        storage.mkdirs(trash)
        try:
            storage.rename(sink_interval.versions(token), join(trash, f"{token:010d}.{secrets.token_hex(4)}"))
        except StorageError as error:
            if error.code != "FS8003":  # another process prunes too
                raise
    for child in own_children(sink_interval.store, trash):
        storage.delete(child.path)


def remove_debris(sink_interval: SinkInterval) -> None:
    """Remove hidden files that killed processes left among the leases, once they are too old to be in use."""
    files = own_children(sink_interval.store, sink_interval.folder("lease"))
    newest = max((child.modified_ms for child in files), default=0)
    for child in files:
        if child.name.startswith(".") and newest - child.modified_ms > _DEBRIS_AGE_MS:
            sink_interval.storage.delete(child.path)
