"""What an interval keeps after many attempts: the newest leases, all publishes, and nothing of killed processes."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from firesteel.conf.errors import StorageError
from firesteel.pipelines.publish import cleanup
from firesteel.pipelines.publish.audit import verify
from firesteel.pipelines.publish.cleanup import KEEP_FAILED, KEEP_JOURNAL_MS, KEEP_LEASES, remove_debris
from firesteel.pipelines.publish.lease import LeaseRecord, read_states, write_lease
from firesteel.pipelines.publish.ledger import Ledger
from firesteel.pipelines.publish.process import machine_id
from firesteel.pipelines.publish.recover import leftovers
from firesteel.pipelines.publish.rollback import rollback
from firesteel.pipelines.publish.state_store import SinkInterval
from firesteel.pipelines.publish.transaction import Transaction
from support.publishing import (
    INTERVAL,
    NEW,
    SINK,
    Driver,
    area_of,
    attempt_of,
    folders_below,
    publish,
    recover_all,
    sink_of,
)


@pytest.fixture
def root_uri(tmp_path) -> str:
    return f"file://{tmp_path}"


def fail(root_uri: str, run_id: str) -> None:
    with Transaction.begin(area_of(root_uri), SINK, sink_of(root_uri), INTERVAL, attempt_of(run_id)) as transaction:
        transaction.fail("as the test wants it")


def test_leases_of_decided_tokens_are_pruned_and_all_publishes_stay(root_uri):
    attempts = 2 * KEEP_LEASES + 5
    for number in range(attempts):
        publish(root_uri, f"r{number}", NEW)
    names = folders_below(root_uri, "lease")
    assert len(names) <= 2 * KEEP_LEASES + 2
    assert max(names) == f"{attempts:010d}.published"
    assert len(Ledger(area_of(root_uri)).history(SINK, INTERVAL)) == attempts
    assert len(folders_below(root_uri, "journal")) == attempts  # tombstones and journals outlive zombies
    assert publish(root_uri, "last", NEW).token == attempts + 1
    assert leftovers(area_of(root_uri), SINK) == ()


def age_journals(root_uri: str, tokens: range) -> None:
    """Make journals older than firesteel keeps them."""
    target = SinkInterval(area_of(root_uri), SINK, INTERVAL)
    for token in tokens:
        path = Path(target.file("journal", token))
        at_s = path.stat().st_mtime - KEEP_JOURNAL_MS / 1000 - 1
        os.utime(path, (at_s, at_s))


def test_old_journals_and_tombstones_are_pruned_and_those_of_retained_versions_stay(root_uri, monkeypatch):
    monkeypatch.setattr(cleanup, "KEEP_JOURNALS", 4)
    monkeypatch.setattr(cleanup, "KEEP_LEASES", 2)
    target = SinkInterval(area_of(root_uri), SINK, INTERVAL)
    for number in range(1, 11):
        if number in (3, 5):  # dies, and is fenced by the next
            write_lease(target, LeaseRecord(number, attempt_of("dead"), "run", 60.0, machine_id(), os.getpid(), "0"))
        else:
            publish(root_uri, f"r{number}", NEW)
    assert len(folders_below(root_uri, "journal")) == 10, "they are young"
    age_journals(root_uri, range(1, 9))
    publish(root_uri, "r11", NEW)
    assert folders_below(root_uri, "journal") == [f"{token:010d}.json" for token in range(8, 12)]
    assert publish(root_uri, "r12", NEW).token == 12
    assert leftovers(area_of(root_uri), SINK) == ()
    assert verify(area_of(root_uri), (SINK,)) == []
    rollback(area_of(root_uri), SINK, sink_of(root_uri), INTERVAL, attempt_of("back"), to="r10")
    with pytest.raises(StorageError, match="FS8010"):
        rollback(area_of(root_uri), SINK, sink_of(root_uri), INTERVAL, attempt_of("back"), to="r1")


def test_a_journal_whose_version_is_retained_stays_however_old_it_is(root_uri, monkeypatch):
    monkeypatch.setattr(cleanup, "KEEP_JOURNALS", 1)
    publish(root_uri, "r1", NEW)
    publish(root_uri, "r2", NEW)
    for number in range(3, 7):
        fail(root_uri, f"r{number}")
    age_journals(root_uri, range(1, 3))
    fail(root_uri, "r7")
    assert [*map(int, (name.partition(".")[0] for name in folders_below(root_uri, "journal")))][-1:] == [2]
    rollback(area_of(root_uri), SINK, sink_of(root_uri), INTERVAL, attempt_of("back"))


def test_failed_attempts_are_pruned_and_the_publish_before_them_stays(root_uri, monkeypatch):
    monkeypatch.setattr(cleanup, "KEEP_FAILED", 5)
    publish(root_uri, "published", NEW)
    for number in range(12):
        fail(root_uri, f"f{number}")
    ledger = Ledger(area_of(root_uri))
    records = ledger.history(SINK, INTERVAL)
    assert sorted(record.token for record in records) == [1, *range(8, 14)]
    assert ledger.published(SINK, INTERVAL).run_id == "published"
    assert KEEP_FAILED == 100


def test_pruning_that_is_killed_anywhere_shows_no_old_token_as_unfinished(root_uri, monkeypatch):
    """A token whose lease is there and whose mark is gone would be rolled forward again."""
    for number in range(6):
        publish(root_uri, f"r{number}", NEW)
    monkeypatch.setattr(cleanup, "KEEP_LEASES", 1)
    target = SinkInterval(area_of(root_uri), SINK, INTERVAL)
    deletes = type(target.storage).delete
    left = [0]

    def dies(storage, path):
        if left[0] == 0:
            raise StorageError("FS8001", "killed")
        left[0] -= 1
        return deletes(storage, path)

    monkeypatch.setattr(type(target.storage), "delete", dies)
    for survived in range(20):
        left[0] = survived
        try:
            remove_debris(target, 6)
        except StorageError:
            done = False
        else:
            done = True
        states = read_states(target)
        assert states[-1].token == 6
        assert all(state.released for state in states)
        if done and len(states) == 1:
            break
    left[0] = 1000
    remove_debris(target, 6)
    assert folders_below(root_uri, "lease") == ["0000000006.json", "0000000006.published"]


@pytest.mark.parametrize("event", range(1, 4))
def test_a_killed_publish_leaves_no_draft_after_its_recovery(root_uri, event):
    code, _ = Driver(root_uri, "dead", signal="SIGKILL", at_event=event).run()
    if code == 0:
        pytest.skip("the driver has fewer events")
    assert code == -signal.SIGKILL
    recover_all(root_uri)
    assert not [name for name in folders_below(root_uri, "lease") if name.startswith(".")]


def test_a_driver_that_wakes_after_its_lease_was_pruned_stops_nobody(root_uri, monkeypatch):
    monkeypatch.setattr(cleanup, "KEEP_LEASES", 1)
    for number in range(5):
        publish(root_uri, f"r{number}", NEW)
    target = SinkInterval(area_of(root_uri), SINK, INTERVAL)
    assert target.storage.status(target.file("lease", 2)) is None
    target.storage.replace(target.file("lease", 2, "beat"), b"")
    assert publish(root_uri, "last", NEW).token == 6
    assert leftovers(area_of(root_uri), SINK) == ()
