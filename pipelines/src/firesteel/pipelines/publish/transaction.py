"""The publish transaction of one interval: publishes all of its files or none.

::

    begin: lease --> recover dead attempts --> OPEN --publish--> JOURNALING --> swap --> ledger --> clean up --> DONE
                                                |                    |
                                                | fail(), error      | error, kill
                                                v                    v
                                             staging removed,     unchanged: the next start rolls it forward if
                                             lease released       the journal exists, and else discards it

A crash before the journal leaves the old data unchanged. After a crash behind the journal, the next start finishes the publish. HDFS
renames one directory atomically, but not several: during a swap, readers can see new and old directories.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import UTC, datetime
from enum import Enum, auto
from types import TracebackType
from typing import Literal, Self

from firesteel.conf.errors import FiresteelError, LeaseConflict, NotAllowed, StorageError
from firesteel.pipelines.events import Event, OnEvent, ignore
from firesteel.pipelines.profile import Profile
from firesteel.pipelines.publish.audit import next_entry
from firesteel.pipelines.publish.cleanup import (
    KEEP_VERSIONS,
    prune_failed,
    prune_journals,
    prune_versions,
    remove_debris,
    remove_staging,
    remove_unused_version,
)
from firesteel.pipelines.publish.enter import enter
from firesteel.pipelines.publish.journal import Directory, Journal, write_journal
from firesteel.pipelines.publish.lease import LEASE_TTL_S, Attempt, Lease
from firesteel.pipelines.publish.ledger import Ledger, encode_record, write_record
from firesteel.pipelines.publish.owner import check_outside, check_sink, claim_sink, claim_store
from firesteel.pipelines.publish.partition_owner import check_owner
from firesteel.pipelines.publish.permit import permit
from firesteel.pipelines.publish.prewritten import PrewrittenRecords
from firesteel.pipelines.publish.probe import check_renames
from firesteel.pipelines.publish.records import LedgerRecord, PublishedFile
from firesteel.pipelines.publish.recover import recover_before
from firesteel.pipelines.publish.staging import Staged, check_planned, read_staged, with_digests, within
from firesteel.pipelines.publish.state_store import SinkInterval, StateStore, path_within
from firesteel.pipelines.publish.swap import prepare, swap
from firesteel.pipelines.result import Agreement, Counts
from firesteel.pipelines.storage.paths import join

__all__ = ["Attempt", "StateStore", "Transaction"]

_log = logging.getLogger(__name__)


class _State(Enum):
    OPEN = auto()
    FAILED = auto()
    JOURNALING = auto()
    DONE = auto()


class Transaction:
    """A transaction on a held interval, created by `begin`. Leaving the block without `publish` aborts it."""

    def __init__(self, lease: Lease, sink_path: str, on_event: OnEvent, keep_versions: int) -> None:
        self._lease = lease
        self._sink_interval = lease.sink_interval
        self.sink_path = sink_path
        self.location = lease.sink_interval.store.location(sink_path)
        self._on_event = on_event
        self._keep_versions = keep_versions
        self._state = _State.OPEN
        self._excluded: tuple[PublishedFile, ...] = ()
        self.token = lease.token
        self.staging_path = self._sink_interval.staging(lease.token)
        self.scratch_path = self._sink_interval.scratch(lease.token)

    @classmethod
    def begin(
        cls,
        store: StateStore,
        sink: str,
        sink_path: str,
        interval: str,
        attempt: Attempt,
        *,
        on_event: OnEvent = ignore,
        lease_ttl_s: float = LEASE_TTL_S,
        keep_versions: int = KEEP_VERSIONS,
        take_over: bool = False,
    ) -> Self:
        """Acquire the lease, recover dead attempts, and return the transaction.

        Parameters
        ----------
        sink_path
            The sink's path in `store.storage`, or its URI, which must be in the same storage.
        lease_ttl_s
            Seconds without a heartbeat after which another driver may take over.
        keep_versions
            Number of replaced versions of the interval to keep.
        take_over
            Reuse the staging of a dead attempt with the same plan, including partial tasks.

        Raises
        ------
        LeaseConflict
            FS7501 when another driver holds the interval. Nothing was changed then.
        StorageError
            FS8008 when the sink is in another storage or file system, FS8012 when the sink or the storage belongs to another pipeline
            or profile.
        NotAllowed
            FS7601 or FS7602 when a site policy does not allow this user to publish to the sink.
        """
        path = path_within(store, sink_path)
        permit(SinkInterval(store, sink, interval), path, attempt)
        check_sink(store, sink, path)
        check_outside(store, path)
        check_outside(store, store.base)
        check_renames(SinkInterval(store, sink, interval), path)
        claim_store(store)
        lease = Lease.acquire(SinkInterval(store, sink, interval), attempt, ttl_s=lease_ttl_s, purpose="run")
        try:
            recover_before(lease, on_event=on_event, keep_versions=keep_versions, take_over=take_over)
            on_event(Event("leased", interval, {"token": lease.token, "run_id": attempt.run_id}))
            return cls(lease, path, on_event, keep_versions)
        except BaseException:
            lease.release()
            raise

    def publish(
        self,
        planned: tuple[str, ...],
        counts: Counts,
        *,
        mlflow_run_id: str = "",
        work_seconds: float = 0.0,
        task_seconds: float = 0.0,
        profiles: tuple[Profile, ...] = (),
        agreement: Agreement | None = None,
    ) -> LedgerRecord:
        """Replace every planned directory by its staged content. Directories without content are removed.

        The files of the interval's latest publish that are in other directories are removed, too: its layout or `select` has changed,
        and readers would see its rows twice.

        Parameters
        ----------
        planned
            Directories relative to the sink's path. One may contain others (`dt=2013-06-01`).
        work_seconds, task_seconds
            Duration of reading, scoring and staging, by the clock and summed over tasks, for the ledger.
        profiles
            Profiles of columns: the baseline of later intervals.
        agreement
            Agreement of the model and its challenger.

        Raises
        ------
        StorageError
            FS8007 when a file is staged outside `planned`, FS8014 when a planned directory has files of another interval. Nothing is
            published then.
        LeaseConflict
            FS7502 when another driver has taken over the interval. Nothing is published then.
        """
        self._expect_open("publish")
        claim_sink(self._sink_interval, self.sink_path)
        check_planned(planned)
        storage = self._sink_interval.storage
        staged = read_staged(storage, self.staging_path, planned)
        staged = replace(staged, files=with_digests(storage, self.staging_path, staged.files))
        directories = tuple(
            Directory(path, storage.status(join(self.sink_path, path)) is not None, path in staged.directories)
            for path in planned
        )
        replaced = [directory.path for directory in directories if directory.had_previous]
        own = self._published()
        check_owner(self._sink_interval, self.sink_path, self.location, replaced, own)
        directories += self._left_behind(own, planned)
        record = self._record("published", counts, planned=planned, staged=staged, mlflow_run_id=mlflow_run_id)
        record = replace(
            record, work_seconds=work_seconds, task_seconds=task_seconds, profiles=profiles, agreement=agreement
        )
        return self._commit(directories, record)

    def _left_behind(self, own: LedgerRecord | None, planned: tuple[str, ...]) -> tuple[Directory, ...]:
        """Return the published files of the interval outside the planned directories, to be removed one by one."""
        paths = [file.path for file in own.files if not any(within(file.path, path) for path in planned)] if own else []
        storage = self._sink_interval.storage
        return tuple(
            Directory(path, had_previous=True, staged=False)
            for path in paths
            if storage.status(join(self.sink_path, path)) is not None
        )

    def append(
        self,
        planned: tuple[str, ...],
        counts: Counts,
        *,
        mlflow_run_id: str = "",
        work_seconds: float = 0.0,
        task_seconds: float = 0.0,
        profiles: tuple[Profile, ...] = (),
        agreement: Agreement | None = None,
    ) -> LedgerRecord:
        """Add the staged files of one more plan to the published data.

        Raises
        ------
        ValueError
            The plan is already appended. Callers must check the ledger while they hold the lease.
        StorageError
            FS8007 when a file is staged outside `planned`, FS8004 when a file with the same name is already published.
        """
        onto = self._published()
        record = self._record("published", counts, planned=planned, mlflow_run_id=mlflow_run_id)
        if onto is not None and onto.holds(record.plan_hash):
            raise ValueError(f"plan {record.plan_hash} is already appended")
        record = replace(
            record,
            action="append",
            appended=(record.plan_hash,),
            work_seconds=work_seconds,
            task_seconds=task_seconds,
            profiles=profiles,
            agreement=agreement,
        )
        if onto is not None:
            record = replace(
                record,
                counts=onto.counts + counts,
                partitions=tuple(sorted({*onto.partitions, *planned})),
                files=onto.files,
                appended=(*onto.appended, record.plan_hash),
            )
        return self._add(planned, record)

    def add_replayed(
        self, planned: tuple[str, ...], onto: LedgerRecord, counts: Counts, replayed: tuple[str, ...]
    ) -> LedgerRecord:
        """Add the staged files of replayed dead letters to the published data of `onto`.

        The record keeps the plan hash of `onto`, because the rows belong to the same plan. Raises the same errors as `append`.
        """
        record = replace(
            self._record("published", onto.counts + counts, planned=onto.partitions),
            files=onto.files,
            plan_hash=onto.plan_hash,
            hash_inputs=onto.hash_inputs,
            action="replay",
            replayed=replayed,
            appended=onto.appended,
            profiles=onto.profiles,
            agreement=onto.agreement,
        )
        return self._add(planned, record)

    def record_audit(self, onto: LedgerRecord, profiles: tuple[Profile, ...] = ()) -> LedgerRecord:
        """Record that the gates of the attempt's plan pass on the published files of `onto`. No file changes.

        Parameters
        ----------
        profiles
            Profiles that the audit measured; those of `onto` stay for other columns.
        """
        self._expect_open("record an audit")
        record = self._record("published", onto.counts, planned=onto.partitions, mlflow_run_id=onto.mlflow_run_id)
        measured = {(profile.on, profile.column): profile for profile in (*onto.profiles, *profiles)}
        record = replace(
            record,
            action="audit",
            files=onto.files,
            appended=(*onto.appended, record.plan_hash) if onto.appended else (),
            profiles=tuple(measured.values()),
            agreement=onto.agreement,
            slots=onto.slots,
            work_seconds=onto.work_seconds,
            task_seconds=onto.task_seconds,
        )
        return self._commit((), record)

    def _add(self, planned: tuple[str, ...], record: LedgerRecord) -> LedgerRecord:
        self._expect_open("append")
        claim_sink(self._sink_interval, self.sink_path)
        check_planned(planned)
        storage = self._sink_interval.storage
        staged = read_staged(storage, self.staging_path, planned)
        staged = replace(staged, files=with_digests(storage, self.staging_path, staged.files))
        for file in staged.files:
            if storage.status(join(self.sink_path, file.path)) is not None:
                raise StorageError(
                    "FS8004",
                    f"{file.path} is already published. Nothing was published.",
                    hint="Check whether another program writes there: names of appended files are unique.",
                )
        directories = tuple(Directory(file.path, had_previous=False, staged=True) for file in staged.files)
        return self._commit(directories, replace(record, files=(*record.files, *staged.files)))

    def record_excluded(self, path: str) -> None:
        """Add the dead letters or quarantined rows below a path to the ledger record, with the digests of the files."""
        store = self._sink_interval.store
        status = store.storage.status(path)
        found = [status] if status is not None and not status.is_dir else store.storage.walk(path)
        files = tuple(
            PublishedFile(status.path[len(store.base) :].lstrip("/"), status.length)
            for status in found
            if not status.name.startswith((".", "_"))
        )
        self._excluded += with_digests(store.storage, store.base, files)

    def restore(self, directories: tuple[Directory, ...], restored: LedgerRecord | None) -> LedgerRecord:
        """Publish retained versions again; see `rollback`."""
        self._expect_open("restore")
        record = replace(
            self._record("published", restored.counts if restored else Counts()),
            partitions=tuple(directory.path for directory in directories),
            files=restored.files if restored else (),
            plan_hash=restored.plan_hash if restored else "",
            hash_inputs=restored.hash_inputs if restored else (),
            action="rollback",
            appended=restored.appended if restored else (),
            profiles=restored.profiles if restored else (),
            agreement=restored.agreement if restored else None,
            restores=restored.token if restored else 0,
        )
        return self._commit(directories, record)

    def _commit(self, directories: tuple[Directory, ...], record: LedgerRecord) -> LedgerRecord:
        """Write the journal, swap, write the ledger and clean up."""
        try:  # again, because a policy or a link may have changed since `begin`
            permission = permit(
                self._sink_interval,
                self.sink_path,
                self._lease.record.attempt,
                [directory.path for directory in directories],
            )
        except NotAllowed as refusal:
            self.fail(str(refusal), record.counts)
            raise
        check_sink(self._sink_interval.store, self._sink_interval.sink, self.sink_path)  # again: it may be transferred
        record = replace(record, policy=permission.rules)
        reuses = tuple(sorted({directory.source for directory in directories if directory.source}))
        journal = Journal("journal", self.token, record.run_id, self.sink_path, directories, record, reuses)
        expected_entry = next_entry(self._sink_interval, record)  # first, because a missing key refuses the publish
        prepare(self._sink_interval, self.token, directories, reuses)
        with PrewrittenRecords(self._sink_interval, self.token) as prewritten:
            prewritten.begin(self._sink_interval.file("ledger", self.token), encode_record(self._sink_interval, record))
            prewritten.begin(*expected_entry)
            self._state = _State.JOURNALING
            try:
                write_journal(self._sink_interval, journal)
            except LeaseConflict as conflict:
                self._state = _State.FAILED
                if conflict.code == "FS7503":  # after FS7502 the successor writes the record
                    self._end("cancelled", str(conflict), record.counts)
                raise
            self._emit("journaled", directories=len(directories), files=len(record.files))
            swap(permission, journal, self._on_event)
            record = enter(self._sink_interval, self.sink_path, record, prewritten)
        self._emit("ledgered", run_id=record.run_id)
        remove_staging(self._sink_interval, self.token)
        prune_versions(self._sink_interval, self.token, self._keep_versions)
        remove_debris(self._sink_interval, self.token)
        prune_failed(self._sink_interval, self.token)
        prune_journals(self._sink_interval, self.token)
        self._lease.release(published=True)
        self._state = _State.DONE
        self._emit("cleaned")
        return record

    def fail(
        self, error: str, counts: Counts = Counts(), *, action: Literal["run", "audit"] = "run"
    ) -> LedgerRecord | None:
        """Record why the attempt failed. The transaction can no longer publish; leaving the block cleans up.

        Returns
        -------
        The record; None if the storage refuses it, so that the caller can report the original error.
        """
        self._expect_open("fail")
        return self._end("failed", error, counts, action)

    def _end(
        self,
        state: Literal["failed", "cancelled"],
        error: str,
        counts: Counts = Counts(),
        action: Literal["run", "audit"] = "run",
    ) -> LedgerRecord | None:
        self._state = _State.FAILED
        try:
            record = replace(self._record(state, counts, error=error), action=action)
            return write_record(self._sink_interval, record)
        except FiresteelError as failure:
            _log.warning("%s: the ledger has no record that the attempt %s: %s", self._sink_interval, state, failure)
            return None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._state is _State.DONE:
            return
        if self._state is _State.OPEN and error is not None:
            self._record_exit(error)
        try:
            if self._state is _State.JOURNALING:
                # The journal may exist: the next start checks it and finishes the publish.
                self._lease.abandon()
            else:
                self._abort()
        except FiresteelError as failure:
            if error is None:
                raise
            _log.warning("%s: clean-up failed too: %s. The next start cleans up.", self._sink_interval, failure)
        finally:
            self._lease.close()

    def _record_exit(self, error: BaseException) -> None:
        """Record the error with which the block was left, unless `fail` has recorded one."""
        if isinstance(error, KeyboardInterrupt):
            self._end(
                "cancelled", "cancelled by an interrupt (Ctrl-C or SIGTERM). Nothing of this attempt was published."
            )
        else:
            self._end("failed", str(error) if isinstance(error, FiresteelError) else f"FS9999 {type(error).__name__}")

    def _abort(self) -> None:
        # Only this token's files: `begin` has recovered older tokens, and a successor may be running.
        self._sink_interval.storage.delete(self.staging_path)
        self._sink_interval.storage.delete(self.scratch_path)
        remove_unused_version(self._sink_interval, self.token)
        remove_debris(self._sink_interval, self.token - 1)
        prune_failed(self._sink_interval, self.token - 1)
        prune_journals(self._sink_interval, self.token - 1)
        self._lease.release()

    def _expect_open(self, action: str) -> None:
        if self._state is not _State.OPEN:
            raise ValueError(f"cannot {action}: the transaction is {self._state.name.lower()}")

    def _record(
        self,
        state: Literal["published", "failed", "cancelled"],
        counts: Counts,
        *,
        planned: tuple[str, ...] = (),
        staged: Staged | None = None,
        mlflow_run_id: str = "",
        error: str = "",
    ) -> LedgerRecord:
        sink_interval, attempt = self._sink_interval, self._lease.record.attempt
        return LedgerRecord(
            pipeline=sink_interval.store.pipeline,
            profile=sink_interval.store.profile,
            sink=sink_interval.sink,
            interval=sink_interval.interval,
            token=self.token,
            run_id=attempt.run_id,
            plan_hash=attempt.plan_hash,
            state=state,
            started_at=attempt.started_at,
            ended_at=datetime.now(UTC).isoformat(timespec="seconds"),
            counts=counts,
            partitions=planned,
            files=staged.files if staged else (),
            mlflow_run_id=mlflow_run_id,
            user=attempt.user,
            host=attempt.host,
            error=error,
            hash_inputs=attempt.hash_inputs,
            input_bytes=attempt.input_bytes,
            slots=attempt.slots,
            location=self.location,
            excluded=self._excluded,
        )

    def _published(self) -> LedgerRecord | None:
        """Return the record of the data that this transaction replaces or adds to."""
        return Ledger(self._sink_interval.store).published(
            self._sink_interval.sink, self._sink_interval.interval, self.location
        )

    def _emit(self, kind: Literal["journaled", "ledgered", "cleaned"], **facts: object) -> None:
        self._on_event(Event(kind, self._sink_interval.interval, {"token": self.token, **facts}))
