"""Compare the files of a sink with the ledger: which file was changed, added or lost since its publish."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from firesteel.conf.errors import FiresteelError
from firesteel.conf.partitions import is_data
from firesteel.pipelines.publish.ledger import Ledger
from firesteel.pipelines.publish.records import LedgerRecord, PublishedFile
from firesteel.pipelines.publish.staging import with_digests, within
from firesteel.pipelines.publish.state_store import StateStore, path_within
from firesteel.pipelines.storage.base import Storage


@dataclass(frozen=True, slots=True)
class SinkFiles:
    """The comparison of the sinks' files with the ledger.

    `problems` has one sentence per wrong file. `unpublished` are files in partitions that no interval has published: firesteel cannot
    tell whether they were there before its first publish.
    """

    problems: tuple[str, ...]
    unpublished: tuple[str, ...]


def verify_files(store: StateStore, sinks: Mapping[str, str]) -> SinkFiles:
    """Compare lengths and digests of all files. A publish that is running shows as lost and added files.

    Parameters
    ----------
    sinks
        Paths or URIs by sink name.
    """
    problems, unpublished = list[str](), list[str]()
    for sink, uri in sinks.items():
        path, records = path_within(store, uri), dict[str, LedgerRecord]()
        location = store.location(path)
        for interval in Ledger(store).intervals(sink):
            try:
                record = Ledger(store).published(sink, interval, location)
            except FiresteelError as error:
                problems.append(f"{sink} {interval}: the files cannot be compared: {error.what}")
                continue
            if record is not None:
                records[interval] = record
        present = {
            status.path[len(path) :].lstrip("/"): status.length
            for status in store.storage.scan([path])
            if is_data(status.path[len(path) :].lstrip("/"))
        }
        for interval, record in records.items():
            problems += _compare(store.storage, path, f"{sink} {interval}", record, present)
        published = {file.path for record in records.values() for file in record.files}
        for file in sorted(present.keys() - published):
            owner = next((interval for interval, record in records.items() if _plans(record, file)), None)
            if owner is None:
                unpublished.append(f"{sink}: {file}")
            else:
                problems.append(f"{sink} {owner}: {file} was added: no publish wrote it")
    return SinkFiles(tuple(problems), tuple(unpublished))


def _compare(storage: Storage, path: str, subject: str, record: LedgerRecord, present: Mapping[str, int]) -> list[str]:
    problems, same = list[str](), list[PublishedFile]()
    for file in record.files:
        length = present.get(file.path)
        if length is None:
            problems.append(f"{subject}: {file.path} was lost: run {record.run_id} published it")
        elif length != file.length:
            problems.append(
                f"{subject}: {file.path} was changed: it has {length:,} bytes, published were {file.length:,}"
            )
        elif file.digest:
            same.append(file)
    now = with_digests(storage, path, tuple(same))
    problems += [
        f"{subject}: {file.path} was changed: its {file.digest.partition(':')[0]} differs from the published one"
        for file, current in zip(same, now, strict=True)
        if file.digest != current.digest
    ]
    return problems


def _plans(record: LedgerRecord, file: str) -> bool:
    """Return whether a publish owns the folder of a file. A rollback to before the first publish restores files of others."""
    unknown = record.action == "rollback" and not record.restores
    return not unknown and any(within(file, partition) for partition in record.partitions)
