"""Remove the files of attempts that have ended."""

from __future__ import annotations

import contextlib
import secrets

from firesteel.conf.errors import FiresteelError, StorageError
from firesteel.pipelines.publish.lease import DECIDED
from firesteel.pipelines.publish.ledger import read_record
from firesteel.pipelines.publish.prewritten import prewritten_by
from firesteel.pipelines.publish.state_store import SinkInterval, own_children, token_of, tokens_in
from firesteel.pipelines.storage.paths import join

KEEP_VERSIONS = 2
"""Number of replaced versions of an interval that are kept."""

KEEP_LEASES = 10
"""Number of decided tokens of an interval whose lease files are kept."""

KEEP_FAILED = 100
"""Number of attempts of an interval without a publish whose ledger records are kept."""

KEEP_JOURNALS = 100
"""Number of an interval's newest tokens whose journals and tombstones are kept, however old they are."""

KEEP_JOURNAL_MS = 30 * 86_400_000
"""Time for which each journal and tombstone is kept. A driver that continues after a longer pause could write the journal again."""

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


def remove_debris(sink_interval: SinkInterval, up_to: int) -> None:
    """Remove what attempts and killed processes left among the leases. All tokens up to `up_to` are decided.

    These are pre-written records of decided tokens, other hidden files that are too old to be in use, and the lease files of all but the
    newest `KEEP_LEASES` decided tokens. The newest lease stays, because the next token follows it. The files of a lease go in two steps:
    the lease in this call, the mark that it is released in the call of a later attempt. So no reader, however slow its listing is, sees
    an old token as unfinished.
    """
    storage = sink_interval.storage
    files = own_children(sink_interval.store, sink_interval.folder("lease"))
    newest = max((child.modified_ms for child in files), default=0)
    files_of: dict[int, dict[str, str]] = {}
    for child in files:
        parsed = token_of(child.name)
        if parsed is not None:
            files_of.setdefault(parsed[0], {})[parsed[1]] = child.path
        elif child.name.startswith("."):
            owner = prewritten_by(child.name)
            if newest - child.modified_ms > _DEBRIS_AGE_MS or (owner is not None and owner <= up_to):
                storage.delete(child.path)
    for token, paths in files_of.items():
        if token > up_to - KEEP_LEASES:
            continue
        if "json" not in paths:
            for mark in sorted(paths, key=lambda name: name in DECIDED):  # last the mark that the attempt is done
                storage.delete(paths[mark])
        elif DECIDED & paths.keys():
            storage.delete(paths["json"])


def prune_failed(sink_interval: SinkInterval, up_to: int) -> None:
    """Remove the ledger records of attempts up to `up_to` that published nothing, but for the newest `KEEP_FAILED`.

    Records of publishes stay: dead letters, quarantined rows and the audit log refer to them.
    """
    if up_to <= KEEP_FAILED:
        return
    storage = sink_interval.storage
    tokens = [token for token in tokens_in(storage, sink_interval.folder("ledger"), "json") if token <= up_to]
    if len(tokens) <= KEEP_FAILED:
        return
    with contextlib.suppress(FiresteelError):  # a damaged record is the business of those who need it
        failed = [token for token in tokens if read_record(sink_interval, token).state != "published"]
        for token in failed[: max(0, len(failed) - KEEP_FAILED)]:
            storage.delete(sink_interval.file("ledger", token))


def prune_journals(sink_interval: SinkInterval, up_to: int) -> None:
    """Remove old journals and tombstones of tokens up to `up_to`, which are all decided. A rollback needs those with a retained version."""
    last = up_to - KEEP_JOURNALS
    if last <= 0:
        return
    folder = sink_interval.folder("journal")
    files = [(token_of(child.name), child) for child in own_children(sink_interval.store, folder)]
    newest = max((child.modified_ms for _, child in files), default=0)
    old = [
        (name[0], child.path)
        for name, child in files
        if name is not None and name[0] <= last and newest - child.modified_ms > KEEP_JOURNAL_MS
    ]
    if old:
        retained = frozenset(tokens_in(sink_interval.storage, sink_interval.folder("versions")))
        for token, path in old:
            if token not in retained:
                sink_interval.storage.delete(path)
