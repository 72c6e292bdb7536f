"""Compare the files of a sink, dead letters and quarantined rows with the ledger: which file was changed, added or lost since its publish."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime

from firesteel.conf.errors import FiresteelError, StorageError
from firesteel.conf.partitions import is_data
from firesteel.pipelines.publish.dead_letters import FOLDER as DEAD_LETTERS
from firesteel.pipelines.publish.ledger import Ledger
from firesteel.pipelines.publish.quarantine import FOLDER as QUARANTINE
from firesteel.pipelines.publish.records import LedgerRecord, PublishedFile
from firesteel.pipelines.publish.staging import READERS, within
from firesteel.pipelines.publish.state_store import StateStore, path_within
from firesteel.pipelines.storage.base import Storage
from firesteel.pipelines.storage.paths import join

_DEPTH = 4
"""Parts of the path of a file of dead letters, at least: `dead_letter/STEP/INTERVAL/RUN.jsonl`."""


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
            problems += _compare(store.storage, path, f"{sink} {interval}", record.run_id, record.files, present)
        published = {file.path for record in records.values() for file in record.files}
        for file in sorted(present.keys() - published):
            owner = next((interval for interval, record in records.items() if _plans(record, file)), None)
            if owner is None:
                unpublished.append(f"{sink}: {file}")
            else:
                problems.append(f"{sink} {owner}: {file} was added: no publish wrote it")
    return SinkFiles(tuple(problems), tuple(unpublished))


def verify_excluded(
    store: StateStore, keep_s: Mapping[str, tuple[float | None, float | None]], *, now_s: float
) -> list[str]:
    """Compare dead letters and quarantined rows with the ledger records of the attempts that wrote them: one sentence per wrong file.

    Parameters
    ----------
    keep_s
        The retention of dead letters and of quarantined rows by sink name, in seconds. Older files may have been deleted.
    """
    problems, storage = list[str](), store.storage
    present = {
        status.path[len(store.base) :].lstrip("/"): status.length
        for status in storage.scan([join(store.base, folder) for folder in (DEAD_LETTERS, QUARANTINE)])
        if not status.name.startswith((".", "_"))
    }
    by_attempt: dict[tuple[str, str], set[str]] = {}
    for path in present:
        by_attempt.setdefault(_attempt_of(path), set()).add(path)
    for sink, (dead_letters_s, quarantine_s) in keep_s.items():
        try:
            records = Ledger(store).history(sink)
        except FiresteelError as error:
            problems.append(f"{sink}: dead letters and quarantined rows cannot be compared: {error.what}")
            continue
        for record in records:
            started_s = _seconds(record.started_at)
            files = {
                file.path: file
                for file in record.excluded
                if file.path in present
                or (kept := dead_letters_s if file.path.startswith(f"{DEAD_LETTERS}/") else quarantine_s) is None
                or now_s <= started_s + kept
            }
            subject = f"{sink} {record.interval}"
            problems += _compare(storage, store.base, subject, record.run_id, tuple(files.values()), present)
            problems += [
                f"{subject}: {path} was added: run {record.run_id} did not write it"
                for path in sorted(by_attempt.get((record.interval, record.run_id), set()) - files.keys())
                # An earlier version of firesteel recorded no files.
                if record.excluded or not record.counts.dead_letter + record.counts.quarantined
            ]
    return problems


def check_dead_letters(store: StateStore, sink: str, interval: str, paths: Collection[str]) -> None:
    """Compare files of dead letters with the ledger, before their rows are published.

    Raises
    ------
    StorageError
        FS8006 when no attempt at the interval wrote a file, or the file was changed since.
    """
    base = store.base.rstrip("/")
    asked = {path.removeprefix(f"{base}/") for path in paths}
    present = {path: status.length for path in asked if (status := store.storage.status(join(base, path)))}
    problems, known = list[str](), set[str]()
    for record in Ledger(store).history(sink, interval):
        files = tuple(file for file in record.excluded if file.path in asked)
        known.update(file.path for file in files)
        problems += _compare(store.storage, base, f"{sink} {interval}", record.run_id, files, present)
    problems += [f"{sink} {interval}: {path} was added: no run wrote it" for path in sorted(asked - known)]
    if problems:
        raise StorageError(
            "FS8006",
            f"the dead letters differ from the ledger: {'; '.join(problems)}. Nothing was published.",
            hint="Restore the file, or run the interval again with --force.",
        )


def _attempt_of(path: str) -> tuple[str, str]:
    """Return the interval and the run id in the path of a file of dead letters or quarantined rows."""
    parts = path.split("/")
    if len(parts) < _DEPTH:
        return "", ""
    if parts[0] == DEAD_LETTERS:
        return parts[2], parts[3].removesuffix(".jsonl")
    return parts[2].removeprefix("interval="), parts[3].removeprefix("run_id=")


def _seconds(at: str) -> float:
    """Return the time of a record in seconds since the epoch; 0 if its text is none."""
    try:
        return datetime.fromisoformat(at).timestamp()
    except ValueError:
        return 0.0


def _compare(
    storage: Storage,
    folder: str,
    subject: str,
    run_id: str,
    files: Sequence[PublishedFile],
    present: Mapping[str, int],
) -> list[str]:
    """Compare files below a folder with what a run wrote there. `present` has the lengths of the files that are there."""

    def problem(file: PublishedFile) -> str:
        length = present.get(file.path)
        if length is None:
            return f"was lost: run {run_id} wrote it"
        if length != file.length:
            return f"was changed: it has {length:,} bytes, run {run_id} wrote {file.length:,}"
        if not file.digest:
            return ""
        try:
            digest = storage.checksum(join(folder, file.path), file.length)
        except StorageError as error:
            return f"cannot be compared: {error.what}"
        if not digest:
            return "cannot be compared: the storage has no checksum of it"
        kind = file.digest.partition(":")[0]
        return "" if digest == file.digest else f"was changed: its {kind} differs from the one in the ledger"

    if not files:
        return []
    with ThreadPoolExecutor(min(READERS, len(files)), thread_name_prefix="firesteel-digest") as pool:
        found = zip(files, pool.map(problem, files), strict=True)
        return [f"{subject}: {file.path} {text}" for file, text in found if text]


def _plans(record: LedgerRecord, file: str) -> bool:
    """Return whether a publish owns the folder of a file. A rollback to before the first publish restores files of others."""
    unknown = record.action == "rollback" and not record.restores
    return not unknown and any(within(file, partition) for partition in record.partitions)
