"""The publish transaction of one interval: everything becomes visible, or nothing does.

::

    begin: lease --> recover what is left --> OPEN --publish--> JOURNALING --> swap --> ledger --> clean up --> DONE
                                               |                    |
                                               | fail(), error      | an error, a kill
                                               v                    v
                                            staging removed,     left as it is: the next start rolls it forward if
                                            lease released       the journal is there, and discards it if not

Before the journal a crash leaves the old data whole; after it, the next start finishes the work. HDFS renames one
directory atomically, not many: between the renames of a swap readers can see some directories new and some old.
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
    prune_versions,
    remove_debris,
    remove_staging,
    remove_unused_version,
)
from firesteel.pipelines.publish.enter import enter
from firesteel.pipelines.publish.journal import Directory, Journal, write_journal
from firesteel.pipelines.publish.lease import LEASE_TTL_S, Attempt, Lease
from firesteel.pipelines.publish.ledger import Ledger, write_record
from firesteel.pipelines.publish.permit import permit
from firesteel.pipelines.publish.prewritten import PrewrittenRecords
from firesteel.pipelines.publish.records import LedgerRecord
from firesteel.pipelines.publish.recover import recover_before
from firesteel.pipelines.publish.staging import Staged, check_planned, read_staged
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
    """A held interval. Leaving the block without `publish` aborts; made by `begin`."""

    def __init__(self, lease: Lease, sink_path: str, on_event: OnEvent, keep_versions: int) -> None:
        self._lease = lease
        self._place = lease.place
        self.sink_path = sink_path
        self._on_event = on_event
        self._keep_versions = keep_versions
        self._state = _State.OPEN
        self.token = lease.token
        self.staging_path = self._place.staging(lease.token)
        self.scratch_path = self._place.scratch(lease.token)

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
        """Take the lease, and finish or discard what dead attempts left.

        Parameters
        ----------
        sink_path
            The sink's path within `store.storage`, or its URI: then it is checked that both are one storage.
        lease_ttl_s
            How long this driver may give no sign of life before another one takes over.
        keep_versions
            How many replaced versions of the interval are kept.
        take_over
            Begin with what a dead attempt at the same plan staged, whole tasks and halves of tasks, in place of nothing.

        Raises
        ------
        LeaseConflict
            FS7501 when another driver holds the interval. Nothing was done then.
        StorageError
            FS8008 when the sink is in another storage.
        NotAllowed
            FS7601 or FS7602 when a policy of the site does not let this user publish there.
        """
        path = path_within(store, sink_path)
        permit(SinkInterval(store, sink, interval), path, attempt)
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
        """Replace every planned directory by its staged content; those without content become absent.

        Parameters
        ----------
        planned
            Directories relative to the sink's path. One may be a prefix (`dt=2013-06-01`) that holds others.
        work_seconds, task_seconds
            Time of reading, scoring and staging, by the clock and summed over tasks, for the ledger.
        profiles
            Of the columns that later intervals are held against.
        agreement
            Of the model's challenger with it.

        Raises
        ------
        StorageError
            FS8007 when something was staged outside `planned`: nothing is published then.
        LeaseConflict
            FS7502 when another driver took the interval over: nothing is published then either.
        """
        self._expect_open("publish")
        check_planned(planned)
        storage = self._place.storage
        staged = read_staged(storage, self.staging_path, planned)
        directories = tuple(
            Directory(path, storage.status(join(self.sink_path, path)) is not None, path in staged.directories)
            for path in planned
        )
        record = self._record("published", counts, planned=planned, staged=staged, mlflow_run_id=mlflow_run_id)
        record = replace(
            record, work_seconds=work_seconds, task_seconds=task_seconds, profiles=profiles, agreement=agreement
        )
        return self._commit(directories, record)

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
        """Add the staged files to what is published, as one plan more, and replace nothing.

        Raises
        ------
        ValueError
            The plan's rows are in already: ask the ledger under the lease.
        StorageError
            FS8007 when something was staged outside `planned`, FS8004 when a file of that name is published already.
        """
        onto = Ledger(self._place.store).published(self._place.sink, self._place.interval)
        record = self._record("published", counts, planned=planned, mlflow_run_id=mlflow_run_id)
        if onto is not None and onto.holds(record.plan_hash):
            raise ValueError(f"plan {record.plan_hash} is appended already")
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
        """Add the staged files of replayed dead letters to what `onto` has published, and replace nothing.

        The record keeps the plan hash of `onto`: it is that plan's interval, with more of its rows. Raises as `append` does.
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

    def _add(self, planned: tuple[str, ...], record: LedgerRecord) -> LedgerRecord:
        self._expect_open("append")
        check_planned(planned)
        storage = self._place.storage
        staged = read_staged(storage, self.staging_path, planned)
        for file in staged.files:
            if storage.status(join(self.sink_path, file.path)) is not None:
                raise StorageError(
                    "FS8004",
                    f"{file.path} is published already. Nothing was published.",
                    hint="File names of an append are unique; did something else write there?",
                )
        directories = tuple(Directory(file.path, had_previous=False, staged=True) for file in staged.files)
        return self._commit(directories, replace(record, files=(*record.files, *staged.files)))

    def restore(self, directories: tuple[Directory, ...], restored: LedgerRecord | None) -> LedgerRecord:
        """Bring retained versions back, as a publish like any other; see `rollback`."""
        self._expect_open("restore")
        record = replace(
            self._record("published", restored.counts if restored else Counts()),
            partitions=tuple(each.path for each in directories),
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
        """Journal, swap, ledger, clean-up: what every way of publishing has in common."""
        try:  # once more: a policy may have changed in all the time since the lease
            allowed = permit(self._place, self.sink_path, self._lease.record.attempt)
        except NotAllowed as refusal:
            self.fail(str(refusal), record.counts)
            raise
        record = replace(record, policy=allowed)
        reuses = tuple(sorted({each.source for each in directories if each.source}))
        journal = Journal("journal", self.token, record.run_id, self.sink_path, directories, record, reuses)
        prepare(self._place, self.token, directories, reuses)
        with PrewrittenRecords(self._place) as drafts:
            drafts.begin(self._place.file("ledger", self.token), record.to_json())
            drafts.begin(*next_entry(self._place, record))
            self._state = _State.JOURNALING
            try:
                write_journal(self._place, journal)
            except LeaseConflict as conflict:
                self._state = _State.FAILED
                if conflict.code == "FS7503":  # after FS7502 the record is the successor's
                    self._end("cancelled", str(conflict), record.counts)
                raise
            self._tell("journaled", directories=len(directories), files=len(record.files))
            swap(self._place, journal, self._on_event)
            record = enter(self._place, self.sink_path, record, drafts)
        self._tell("ledgered", run_id=record.run_id)
        remove_staging(self._place, self.token)
        prune_versions(self._place, self.token, self._keep_versions)
        remove_debris(self._place)
        self._lease.release()
        self._state = _State.DONE
        self._tell("cleaned")
        return record

    def fail(self, error: str, counts: Counts = Counts()) -> LedgerRecord | None:
        """Record why the attempt failed. Leaving the block then cleans up; publishing is not possible any more.

        Returns
        -------
        The record; None where the storage takes none. What made the attempt fail is the better thing to report then.
        """
        self._expect_open("fail")
        return self._end("failed", error, counts)

    def _end(self, state: Literal["failed", "cancelled"], error: str, counts: Counts = Counts()) -> LedgerRecord | None:
        self._state = _State.FAILED
        try:
            return write_record(self._place, self._record(state, counts, error=error))
        except FiresteelError as failure:
            _log.warning("%s: the ledger has no record that the attempt %s: %s", self._place, state, failure)
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
                # Journaled, or perhaps journaled: the next start finds out and finishes.
                self._lease.abandon()
            else:
                self._abort()
        except FiresteelError as failure:
            if error is None:
                raise
            _log.warning("%s: clean-up failed too: %s. The next start does it.", self._place, failure)
        finally:
            self._lease.close()

    def _record_exit(self, error: BaseException) -> None:
        """Record why the block was left, where `fail` has not said so: no attempt ends without a record."""
        if isinstance(error, KeyboardInterrupt):
            self._end(
                "cancelled", "cancelled by an interrupt (Ctrl-C or SIGTERM). Nothing of this attempt was published."
            )
        else:
            self._end("failed", str(error) if isinstance(error, FiresteelError) else f"FS9999 {type(error).__name__}")

    def _abort(self) -> None:
        # Only this token's: predecessors were decided in `begin`, and a successor may be at work by now.
        self._place.storage.delete(self.staging_path)
        self._place.storage.delete(self.scratch_path)
        remove_unused_version(self._place, self.token)
        self._lease.release()

    def _expect_open(self, verb: str) -> None:
        if self._state is not _State.OPEN:
            raise ValueError(f"cannot {verb}: the transaction is {self._state.name.lower()}")

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
        place, attempt = self._place, self._lease.record.attempt
        return LedgerRecord(
            pipeline=place.store.pipeline,
            profile=place.store.profile,
            sink=place.sink,
            interval=place.interval,
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
        )

    def _tell(self, kind: Literal["journaled", "ledgered", "cleaned"], **facts: object) -> None:
        self._on_event(Event(kind, self._place.interval, {"token": self.token, **facts}))
