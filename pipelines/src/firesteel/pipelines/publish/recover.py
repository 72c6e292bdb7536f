"""What a dead attempt left: rolled forward when it had journaled, discarded when it had not.

::

    for every token below ours that is not released, oldest first:
        fence it --- tombstone stands ---> remove its staging -> ledger "died"      -> release
                 `-- it had journaled ---> finish its swap    -> ledger "published" -> clean up -> release

A run that does the same plan again takes the staging over in place of removing it.

All steps can be run again, and by several at once: whoever dies in the middle of a recovery is recovered likewise.
"""

from __future__ import annotations

import secrets
import socket
from dataclasses import replace
from datetime import UTC, datetime

from firesteel.conf.errors import StorageError
from firesteel.conf.identity import os_user
from firesteel.pipelines.events import Event, OnEvent, ignore
from firesteel.pipelines.publish.cleanup import KEEP_VERSIONS, prune_versions, remove_staging, remove_unused_version
from firesteel.pipelines.publish.enter import enter
from firesteel.pipelines.publish.journal import Journal, fence
from firesteel.pipelines.publish.lease import (
    LEASE_TTL_S,
    Attempt,
    Lease,
    LeaseRecord,
    is_held,
    read_lease,
    read_states,
    refuse_if_held,
    release,
)
from firesteel.pipelines.publish.ledger import write_record
from firesteel.pipelines.publish.records import LedgerRecord
from firesteel.pipelines.publish.state_store import SinkInterval, StateStore, children, name_of, path_within
from firesteel.pipelines.publish.swap import swap


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
    """Finish or discard what dead attempts at an interval left.

    Parameters
    ----------
    sink_path
        The sink's path or URI. A journal is finished where it says, also when the spec names another path by now.

    Returns
    -------
    The record of the newest of them, or None when nothing was left.

    Raises
    ------
    LeaseConflict
        FS7501 when an attempt lives: it is never touched.
    """
    place = SinkInterval(store, sink, interval)
    path_within(store, sink_path)
    states = read_states(place)
    if all(state.released for state in states):
        return None
    refuse_if_held(place, states[-1])
    lease = Lease.acquire(place, attempt or person("recover"), ttl_s=lease_ttl_s, purpose="recover")
    try:
        return recover_before(lease, on_event=on_event, keep_versions=keep_versions)
    finally:
        lease.release()


def recover_before(
    lease: Lease, *, on_event: OnEvent, keep_versions: int, take_over: bool = False
) -> LedgerRecord | None:
    """Decide and finish every token below a lease that is held; the record of the newest.

    Parameters
    ----------
    take_over
        Keep what an attempt at the same plan staged: it becomes the staging of this lease.
    """
    place = lease.place
    record: LedgerRecord | None = None
    for state in read_states(place):
        if state.token >= lease.token or state.released:
            continue
        dead = read_lease(place, state.token)
        journal = fence(place, state.token, by=lease.token, run_id=lease.record.attempt.run_id)
        if take_over and journal is None and dead.attempt.plan_hash == lease.record.attempt.plan_hash:
            _take_over(place, dead.token, lease.token)
        finished = _discard(lease, dead) if journal is None else _roll_forward(lease, journal, on_event, keep_versions)
        record = finished or record
        release(place, state.token)
        facts = {
            "token": state.token,
            "run_id": dead.attempt.run_id,
            "state": "died" if journal is None else "published",
        }
        on_event(Event("recovered", place.interval, facts))
    return record


def leftovers(store: StateStore, sink: str) -> tuple[str, ...]:
    """Intervals of a sink that a dead attempt left unfinished; those that are being worked on are not among them."""
    found = []
    for child in children(store.storage, store.folder("lease", sink)):
        place = SinkInterval(store, sink, name_of(child.name))
        states = read_states(place)
        if any(not state.released for state in states) and not is_held(place, states[-1]):
            found.append(place.interval)
    return tuple(sorted(found))


def _take_over(place: SinkInterval, dead: int, token: int) -> None:
    """One rename: what the dead attempt's tasks still write by path, they write where nobody looks."""
    try:
        place.storage.rename(place.staging(dead), place.staging(token))
    except StorageError as error:
        if error.code not in {"FS8003", "FS8004"}:  # it staged nothing, or another one's is here already
            raise


def _discard(lease: Lease, dead: LeaseRecord) -> LedgerRecord | None:
    """A fenced token: its data goes, its record stays. A recovery that died needs no record of its own."""
    place = lease.place
    remove_staging(place, dead.token)
    remove_unused_version(place, dead.token)
    if dead.purpose == "recover":
        return None
    attempt = dead.attempt
    record = LedgerRecord(
        pipeline=place.store.pipeline,
        profile=place.store.profile,
        sink=place.sink,
        interval=place.interval,
        token=dead.token,
        run_id=attempt.run_id,
        plan_hash=attempt.plan_hash,
        state="died",
        started_at=attempt.started_at,
        ended_at=datetime.now(UTC).isoformat(timespec="seconds"),
        user=attempt.user,
        host=attempt.host,
        error="the driver died or was too slow, before its journal: nothing was published",
        recovered_by=lease.record.attempt.run_id,
    )
    return write_record(place, record)


def _roll_forward(lease: Lease, journal: Journal, on_event: OnEvent, keep_versions: int) -> LedgerRecord:
    place = lease.place
    swap(place, journal, on_event)
    record = enter(place, journal.sink_path, replace(journal.record, recovered_by=lease.record.attempt.run_id))
    on_event(Event("ledgered", place.interval, {"token": journal.token, "run_id": journal.run_id}))
    remove_staging(place, journal.token)
    prune_versions(place, journal.token, keep_versions)
    return record


def person(what: str) -> Attempt:
    """An attempt by whoever calls: `what` begins its run id."""
    at = datetime.now(UTC)
    run_id = f"{what}-{at:%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"
    return Attempt(run_id, "", os_user(), socket.gethostname(), at.isoformat(timespec="seconds"))
