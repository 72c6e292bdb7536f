"""Recover dead attempts: roll forward those that have a journal, discard the others.

::

    for every older token that is not released, oldest first:
        fence it --- tombstone written ---> remove its staging -> ledger "died"      -> release
                 `-- journal exists ------> finish its swap    -> ledger "published" -> clean up -> release

A run of the same plan takes over the staging instead of removing it. A token that is in the ledger is only cleaned up. If staged files or
version folders of a journal were deleted, its publish cannot be finished: the sink stays as it is, the ledger says "died", and the next
run scores the interval again.

All steps are idempotent and may run in several processes at the same time. A recovery that dies is recovered in the same way.
"""

from __future__ import annotations

import secrets
import socket
from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import UTC, datetime

from firesteel.conf.errors import StorageError
from firesteel.conf.identity import os_user
from firesteel.pipelines.events import Event, OnEvent, ignore
from firesteel.pipelines.publish.audit import expect_key
from firesteel.pipelines.publish.cleanup import (
    KEEP_VERSIONS,
    prune_versions,
    remove_debris,
    remove_staging,
    remove_unused_version,
)
from firesteel.pipelines.publish.enter import enter
from firesteel.pipelines.publish.journal import Journal, fence, read_decision, read_journal
from firesteel.pipelines.publish.lease import (
    LEASE_TTL_S,
    Attempt,
    Lease,
    LeaseRecord,
    TokenState,
    is_held,
    lost_leases,
    mark_abandoned,
    read_lease,
    read_states,
    refuse_if_held,
    release,
    write_lease,
)
from firesteel.pipelines.publish.ledger import Ledger, lost_records, read_record, write_record
from firesteel.pipelines.publish.owner import check_sink, check_store, claim_sink, sink_owner
from firesteel.pipelines.publish.permit import permit
from firesteel.pipelines.publish.records import LedgerRecord
from firesteel.pipelines.publish.signers import check_journal
from firesteel.pipelines.publish.sink_records import files_of
from firesteel.pipelines.publish.state_store import SinkInterval, StateStore, children, name_of, path_within
from firesteel.pipelines.publish.swap import block, swap, what_is_lost


def recover(
    store: StateStore,
    sink: str,
    sink_path: str,
    interval: str,
    *,
    attempt: Attempt | None = None,
    on_event: OnEvent = ignore,
    lease_ttl_s: float = LEASE_TTL_S,
    keep_versions: int = KEEP_VERSIONS,
) -> LedgerRecord | None:
    """Roll forward or discard the dead attempts of an interval.

    Parameters
    ----------
    sink_path
        The sink's path or URI. A journal is finished at its own path, even if the spec has another path now.

    Returns
    -------
    The record of the latest recovered attempt; None if there was none.

    Raises
    ------
    LeaseConflict
        FS7501 when an attempt is still running.
    NotAllowed
        FS7601 or FS7602 when a policy does not allow this user to publish to the sink, or to the sink of a journal.
    """
    sink_interval = SinkInterval(store, sink, interval)
    path = path_within(store, sink_path)
    check_store(store)
    _restore(sink_interval)
    states = read_states(sink_interval)
    if all(state.released for state in states):
        return None
    attempt = attempt or person("recover")
    permit(sink_interval, path, attempt)
    refuse_if_held(sink_interval, states[-1])
    lease = Lease.acquire(sink_interval, attempt, ttl_s=lease_ttl_s, purpose="recover")
    try:
        return recover_before(lease, on_event=on_event, keep_versions=keep_versions)
    finally:
        lease.release()


def recover_before(
    lease: Lease, *, on_event: OnEvent, keep_versions: int, take_over: bool = False
) -> LedgerRecord | None:
    """Recover every token older than a held lease, and return the record of the latest.

    Parameters
    ----------
    take_over
        Use the staging of an attempt with the same plan as the staging of this lease.
    """
    sink_interval = lease.sink_interval
    record: LedgerRecord | None = None
    for state in read_states(sink_interval):
        if state.token >= lease.token or state.released:
            continue
        dead = read_lease(sink_interval, state.token)
        finished = _recorded(sink_interval, dead.token)
        if finished is not None:
            _clean_up(sink_interval, finished, keep_versions)
        elif journal := fence(sink_interval, dead.token, by=lease.token, run_id=lease.record.attempt.run_id):
            finished = _roll_forward(lease, journal, on_event, keep_versions)
        else:
            if take_over and dead.attempt.plan_hash == lease.record.attempt.plan_hash:
                _take_over(sink_interval, dead.token, lease.token)
            finished = _discard(lease, dead)
        record = finished or record
        published = finished is not None and finished.state == "published"
        release(sink_interval, dead.token, published=published)
        facts = {
            "token": dead.token,
            "run_id": dead.attempt.run_id,
            "state": "published" if published else "died",
        }
        on_event(Event("recovered", sink_interval.interval, facts))
    if record is not None:
        remove_debris(sink_interval, lease.token - 1)
    return record


def journaled(store: StateStore, sink: str, intervals: Collection[str], recorded: Mapping[str, int]) -> frozenset[str]:
    """Return those of the intervals with a journal that a dead run has not finished, from one listing.

    An attempt that died before its journal is not one: it changed nothing in the sink.

    Parameters
    ----------
    recorded
        The token of the latest record in the ledger, by interval, of a listing before this call.
    """
    # A recorded attempt has recovered those before it.
    newer = {
        interval for interval, token in files_of(store, sink, "journal", intervals) if token > recorded.get(interval, 0)
    }
    return frozenset(interval for interval in newer if _is_unfinished(store, sink, interval))


def _is_unfinished(store: StateStore, sink: str, interval: str) -> bool:
    sink_interval = SinkInterval(store, sink, interval)
    if lost_leases(sink_interval):
        return True
    states = read_states(sink_interval)
    return any(not state.released for state in states) and not _is_held(sink_interval, states[-1])


def leftovers(store: StateStore, sink: str) -> tuple[str, ...]:
    """Return the intervals of a sink with an unfinished dead attempt or a lost file, without intervals that are held."""
    unfinished = []
    folders = (store.folder(kind, sink) for kind in ("lease", "journal", "staging"))
    names = {name_of(child.name) for folder in folders for child in children(store.storage, folder)}
    for name in sorted(names):
        sink_interval = SinkInterval(store, sink, name)
        if lost_records(sink_interval) or _is_unfinished(store, sink, name):
            unfinished.append(name)
    return tuple(unfinished)


def _is_held(sink_interval: SinkInterval, state: TokenState) -> bool:
    """Return whether a live driver holds a token. A lease that cannot be read is reported by the recovery of its interval."""
    try:
        return is_held(sink_interval, state)
    except StorageError as error:
        if error.code != "FS8006":
            raise
        return False


def _restore(sink_interval: SinkInterval) -> None:
    """Write lost files again whose content other files know: the ledger record of a publish, and the lease of a used token.

    A live driver may hold a token whose lease is lost. It loses the token like any driver that sent no heartbeat: the journal decides.
    """
    for token in lost_records(sink_interval):
        write_record(sink_interval, read_journal(sink_interval, token).record)
    for token in lost_leases(sink_interval):
        known = _known(sink_interval, token)
        attempt = (
            Attempt(known.run_id, known.plan_hash, known.user, known.host, known.started_at, known.hash_inputs)
            if known
            else person("unknown")
        )
        try:
            write_lease(sink_interval, LeaseRecord(token, attempt, "run", LEASE_TTL_S, "", 0, ""))
        except StorageError as error:
            if error.code != "FS8004":  # another process restores it too
                raise
        mark_abandoned(sink_interval, token)


def _known(sink_interval: SinkInterval, token: int) -> LedgerRecord | None:
    """Return the ledger record of a token, or the record that its journal plans."""
    recorded = _recorded(sink_interval, token)
    if recorded is None and sink_interval.storage.status(sink_interval.file("journal", token)) is not None:
        decision = read_decision(sink_interval, token)
        return decision.record if isinstance(decision, Journal) else None
    return recorded


def _take_over(sink_interval: SinkInterval, dead: int, token: int) -> None:
    """Rename the staging folder. Tasks of the dead attempt that still run write to the old path, which nobody reads."""
    try:
        sink_interval.storage.rename(sink_interval.staging(dead), sink_interval.staging(token))
    except StorageError as error:
        if error.code not in {"FS8003", "FS8004"}:  # nothing was staged, or another attempt's staging is already here
            raise


def _discard(lease: Lease, dead: LeaseRecord) -> LedgerRecord | None:
    """Delete a fenced token's data and return its ledger record; None for a recovery that died."""
    sink_interval = lease.sink_interval
    remove_staging(sink_interval, dead.token)
    remove_unused_version(sink_interval, dead.token)
    if dead.purpose == "recover":
        return None
    attempt = dead.attempt
    record = LedgerRecord(
        pipeline=sink_interval.store.pipeline,
        profile=sink_interval.store.profile,
        sink=sink_interval.sink,
        interval=sink_interval.interval,
        token=dead.token,
        run_id=attempt.run_id,
        plan_hash=attempt.plan_hash,
        state="died",
        started_at=attempt.started_at,
        ended_at=datetime.now(UTC).isoformat(timespec="seconds"),
        user=attempt.user,
        host=attempt.host,
        error="the driver died or was too slow before it wrote its journal: nothing was published",
        recovered_by=lease.record.attempt.run_id,
    )
    return write_record(sink_interval, record)


def _roll_forward(lease: Lease, journal: Journal, on_event: OnEvent, keep_versions: int) -> LedgerRecord:
    """Finish the publish of a journal, and return its ledger record. If it cannot be finished, nothing in the sink changes."""
    sink_interval = lease.sink_interval
    check_sink(sink_interval.store, sink_interval.sink, journal.sink_path)
    # The journal names the paths, and others may be able to write it.
    permission = permit(sink_interval, journal.sink_path, lease.record.attempt)
    expect_key(sink_interval.store)
    check_journal(sink_interval, journal, permission.policies)
    record = replace(journal.record, recovered_by=lease.record.attempt.run_id)
    if lost := what_is_lost(sink_interval, journal):
        error = f"the driver died while it published, and the publish cannot be completed: {lost}"
        block(sink_interval, journal)
        remove_staging(sink_interval, journal.token)
        return write_record(sink_interval, replace(record, state="died", partitions=(), files=(), error=error))
    swap(permission, journal, on_event, resumed=True)
    record = enter(sink_interval, journal.sink_path, record)
    on_event(Event("ledgered", sink_interval.interval, {"token": journal.token, "run_id": journal.run_id}))
    _clean_up(sink_interval, record, keep_versions)
    return record


def _recorded(sink_interval: SinkInterval, token: int) -> LedgerRecord | None:
    """Return the ledger record of a token; None if it has none."""
    if sink_interval.storage.status(sink_interval.file("ledger", token)) is None:
        return None
    return read_record(sink_interval, token)


def _clean_up(sink_interval: SinkInterval, record: LedgerRecord, keep_versions: int) -> None:
    remove_staging(sink_interval, record.token)
    if record.state == "published":
        prune_versions(sink_interval, record.token, keep_versions)


def restore_marker(store: StateStore, sink: str, sink_path: str) -> None:
    """Write the marker of a sink again if it was deleted after a publish: readers need it.

    Parameters
    ----------
    sink_path
        The sink's path in the store's storage, or its URI.
    """
    path, ledger = path_within(store, sink_path), Ledger(store)
    if sink_owner(store, path) is not None:
        return
    location = store.location(path)
    for interval in ledger.intervals(sink):
        if ledger.published(sink, interval, location) is not None:
            sink_interval = SinkInterval(store, sink, interval)
            permit(sink_interval, path, person("recover"))
            claim_sink(sink_interval, path)
            return


def person(what: str) -> Attempt:
    """Return an attempt of the current user; `what` is the prefix of its run id."""
    at = datetime.now(UTC)
    run_id = f"{what}-{at:%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"
    return Attempt(run_id, "", os_user(), socket.gethostname(), at.isoformat(timespec="seconds"))
