"""Rollback, append, audit log and readers, on local files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from firesteel.conf.errors import GateFailed, LeaseConflict, StorageError
from firesteel.pipelines.publish.audit import read_audit, verify
from firesteel.pipelines.publish.ledger import Ledger
from firesteel.pipelines.publish.recover import recover
from firesteel.pipelines.publish.rollback import rollback
from firesteel.pipelines.publish.transaction import Transaction
from firesteel.pipelines.read import current_files
from firesteel.pipelines.result import Counts
from firesteel.pipelines.storage.identity import canonical
from support.publishing import (
    AFTER,
    INTERVAL,
    NEW,
    OLD,
    PLANNED,
    SINK,
    area_of,
    attempt_of,
    below,
    publish,
    put,
    sink_of,
    stage,
    visible,
)

NEWER = {"dt=2013-06-01/origin=EWR/part-7": "newer"}
AFTER_NEWER = NEWER | {"dt=2013-05-30/origin=EWR/part-0": "untouched"}


@pytest.fixture
def root_uri(tmp_path: Path) -> str:
    root = f"file://{tmp_path}"
    put(root, OLD)
    return root


def back(root_uri: str, run_id: str = "back", **options):
    return rollback(area_of(root_uri), SINK, sink_of(root_uri), INTERVAL, attempt_of(run_id), **options)


def test_a_rollback_brings_back_the_bytes_before_the_newest_publish(root_uri):
    publish(root_uri, "r1", NEW)
    publish(root_uri, "r2", NEWER)
    record = back(root_uri)
    assert visible(root_uri) == AFTER
    assert (record.action, record.restores, record.plan_hash) == ("rollback", 1, "plan-r1")
    assert {file.path for file in record.files} == set(NEW)
    assert below(root_uri, "staging") == []


def test_a_rollback_of_a_rollback_brings_the_newest_back(root_uri):
    publish(root_uri, "r1", NEW)
    publish(root_uri, "r2", NEWER)
    back(root_uri)
    back(root_uri, "again")
    assert visible(root_uri) == AFTER_NEWER


def test_the_first_publish_rolls_back_to_what_was_there_before_any(root_uri):
    publish(root_uri, "r1", NEW)
    record = back(root_uri)
    assert visible(root_uri) == OLD
    assert (record.restores, record.plan_hash) == (0, "")  # so that the next plan scores the interval again


def test_a_rollback_goes_back_over_several_publishes(root_uri):
    publish(root_uri, "r1", NEW)
    publish(root_uri, "r2", NEWER)
    publish(root_uri, "r3", {"dt=2013-06-01/origin=JFK/part-1": "third"})
    back(root_uri, to="r1")
    assert visible(root_uri) == AFTER


@pytest.mark.parametrize(
    ("to", "what"), [("r9", "has published nothing here"), ("r2", "is already the published version")]
)
def test_a_rollback_to_another_run_says_which_there_are(root_uri, to, what):
    publish(root_uri, "r1", NEW)
    publish(root_uri, "r2", NEWER)
    with pytest.raises(StorageError, match=what) as caught:
        back(root_uri, to=to)
    assert (caught.value.code, "r1" in caught.value.hint) == ("FS8010", True)
    assert visible(root_uri) == AFTER_NEWER


def test_a_version_that_is_not_retained_any_more_cannot_come_back(root_uri):
    for number in range(4):
        publish(root_uri, f"r{number}", NEW)
    with pytest.raises(StorageError, match="no longer retained") as caught:
        back(root_uri, to="r0")
    assert caught.value.code == "FS8010"
    assert visible(root_uri) == AFTER


def audit(root_uri: str, run_id: str, error: str = "") -> None:
    store = area_of(root_uri)
    with Transaction.begin(store, SINK, sink_of(root_uri), INTERVAL, attempt_of(run_id)) as transaction:
        if error:
            transaction.fail(error, action="audit")
        else:
            published = Ledger(store).published(SINK, INTERVAL)
            assert published
            transaction.record_audit(published)


def test_an_audit_changes_no_file_and_a_rollback_goes_behind_it(root_uri):
    publish(root_uri, "r1", NEW)
    publish(root_uri, "r2", NEWER)
    audit(root_uri, "a1")
    audit(root_uri, "a2")
    assert visible(root_uri) == AFTER_NEWER
    current = Ledger(area_of(root_uri)).published(SINK, INTERVAL)
    assert current
    assert (current.action, current.run_id, current.plan_hash) == ("audit", "a2", "plan-a2")
    assert {file.path for file in current.files} == set(NEWER)
    assert len(current_files(sink_of(root_uri))) == len(NEWER)
    with pytest.raises(StorageError, match="is already the published version"):
        back(root_uri, to="r2")
    assert back(root_uri).plan_hash == "plan-r1"
    assert visible(root_uri) == AFTER
    assert verify(area_of(root_uri), (SINK,)) == []


def test_a_failed_audit_makes_an_interval_suspect_until_it_is_published_or_rolled_back(root_uri):
    ledger, location = Ledger(area_of(root_uri)), canonical(sink_of(root_uri))
    publish(root_uri, "r1", NEW)
    publish(root_uri, "r2", NEWER)
    audit(root_uri, "broken", "FS7003 the gate cannot be evaluated.")
    assert ledger.suspect(SINK, INTERVAL, location) == ""
    audit(root_uri, "wrong", "FS7001 gate output_ok fails.")
    publish_failed = attempt_of("other")
    with Transaction.begin(area_of(root_uri), SINK, sink_of(root_uri), INTERVAL, publish_failed) as transaction:
        transaction.fail("FS9002 the job died.")
    assert ledger.suspect(SINK, INTERVAL, location) == "FS7001 gate output_ok fails."
    assert len(current_files(sink_of(root_uri))) == len(NEWER)
    with pytest.raises(GateFailed, match="gate output_ok fails") as caught:
        current_files(sink_of(root_uri), refuse_suspect=True)
    assert caught.value.code == "FS7006"
    back(root_uri)
    assert ledger.suspect(SINK, INTERVAL, location) == ""
    assert current_files(sink_of(root_uri), refuse_suspect=True)


def test_nothing_published_is_nothing_to_roll_back(root_uri):
    with pytest.raises(StorageError, match="nothing was published"):
        back(root_uri)


def test_a_rollback_waits_for_nobody(root_uri):
    publish(root_uri, "r1", NEW)
    with (
        Transaction.begin(area_of(root_uri), SINK, sink_of(root_uri), INTERVAL, attempt_of("r2")),
        pytest.raises(LeaseConflict),
    ):
        back(root_uri)


class Killed(BaseException):
    """Not an Exception: nothing may catch it."""


@pytest.mark.fault
@pytest.mark.parametrize("stop", ["journaled", "partition_retired", "partition_published", "ledgered"])
def test_a_rollback_that_dies_after_its_journal_is_rolled_forward(root_uri, stop):
    publish(root_uri, "r1", NEW)
    publish(root_uri, "r2", NEWER)

    def die(event):
        if event.kind == stop:
            raise Killed

    with pytest.raises(Killed):
        back(root_uri, on_event=die)
    recover(area_of(root_uri), SINK, sink_of(root_uri), INTERVAL)
    assert visible(root_uri) == AFTER
    assert below(root_uri, "staging") == []
    assert verify(area_of(root_uri), (SINK,)) == []


@pytest.mark.fault
@pytest.mark.parametrize("stop", ["journaled", "partition_retired", "partition_published", "ledgered", "cleaned"])
@pytest.mark.parametrize("directory", ["day=1", "dt=2013-06-01", "dt=2013-06-01/origin=EWR/hour=5"])
def test_a_publish_to_other_directories_removes_the_files_of_the_one_before(root_uri, directory, stop):
    publish(root_uri, "r1", NEW)
    others = {"dt=2013-05-30/origin=EWR/part-0": "untouched"}
    if directory != "dt=2013-06-01":
        others["dt=2013-06-01/origin=EWR/theirs"] = "firesteel has not published it"
    put(root_uri, {path: text for path, text in others.items() if path.endswith("theirs")})
    before = visible(root_uri)
    moved = {f"{directory}/part-0": "elsewhere"}

    def die(event):
        if event.kind == stop:
            raise Killed

    with pytest.raises(Killed):
        publish(root_uri, "r2", moved, planned=(directory,), on_event=die)
    recover(area_of(root_uri), SINK, sink_of(root_uri), INTERVAL)
    assert visible(root_uri) == others | moved
    back(root_uri)
    assert visible(root_uri) == before
    back(root_uri, "again")
    assert visible(root_uri) == others | moved
    assert verify(area_of(root_uri), (SINK,)) == []


def append(root_uri: str, run_id: str, content):
    store = area_of(root_uri)
    onto = Ledger(store).published(SINK, INTERVAL)
    with Transaction.begin(store, SINK, sink_of(root_uri), INTERVAL, attempt_of(run_id)) as transaction:
        stage(transaction, store.storage, content)
        return transaction.add_replayed(PLANNED, onto, Counts(rows_in=1, scored=1), (f"{run_id}.jsonl",))


def test_an_append_adds_files_and_replaces_none(root_uri):
    publish(root_uri, "r1", NEW)
    more = {"dt=2013-06-01/origin=EWR/part-x": "more", "dt=2013-06-01/origin=JFK/part-x": "more"}
    record = append(root_uri, "r2", more)
    assert visible(root_uri) == AFTER | more
    assert (record.action, record.plan_hash, record.counts.scored) == ("replay", "plan-r1", 11)
    back(root_uri)
    assert visible(root_uri) == AFTER


def append_plan(root_uri: str, run_id: str, content, **options):
    store = area_of(root_uri)
    with Transaction.begin(store, SINK, sink_of(root_uri), INTERVAL, attempt_of(run_id), **options) as transaction:
        stage(transaction, store.storage, content)
        return transaction.append(PLANNED, Counts(rows_in=1, scored=1))


MORE = {"dt=2013-06-01/origin=EWR/part-x": "more", "dt=2013-06-01/origin=JFK/part-x": "more"}
YET_MORE = {"dt=2013-06-01/origin=LGA/part-y": "yet more"}


def test_plans_are_appended_one_on_the_other_and_rolled_back_one_by_one(root_uri):
    first = append_plan(root_uri, "r1", MORE)
    assert visible(root_uri) == OLD | MORE
    assert (first.action, first.appended, first.counts.scored) == ("append", ("plan-r1",), 1)
    second = append_plan(root_uri, "r2", YET_MORE)
    assert visible(root_uri) == OLD | MORE | YET_MORE
    assert (second.appended, second.counts.scored, second.holds("plan-r1")) == (("plan-r1", "plan-r2"), 2, True)
    assert set(current_files(sink_of(root_uri), timeout_s=0)) >= {f"{sink_of(root_uri)}/{path}" for path in MORE}
    back(root_uri)
    restored = Ledger(area_of(root_uri)).published(SINK, INTERVAL)
    assert visible(root_uri) == OLD | MORE
    assert (restored.holds("plan-r1"), restored.holds("plan-r2")) == (True, False)
    append_plan(root_uri, "r2", YET_MORE)
    assert visible(root_uri) == OLD | MORE | YET_MORE


def test_no_plan_is_appended_twice(root_uri):
    append_plan(root_uri, "r1", MORE)
    append_plan(root_uri, "r2", YET_MORE)
    with pytest.raises(ValueError, match="plan-r1 is already appended"):
        append_plan(root_uri, "r1", {"dt=2013-06-01/origin=EWR/part-z": "again"})
    assert visible(root_uri) == OLD | MORE | YET_MORE
    assert below(root_uri, "staging") == []


def test_an_append_of_no_rows_is_a_publish(root_uri):
    record = append_plan(root_uri, "r1", {})
    assert (record.state, record.files, visible(root_uri)) == ("published", (), OLD)


@pytest.mark.fault
@pytest.mark.parametrize("stop", ["leased", "journaled", "partition_published", "ledgered"])
def test_an_append_that_dies_is_in_once_or_not_at_all(root_uri, stop):
    append_plan(root_uri, "r0", YET_MORE)

    def die(event):
        if event.kind == stop:
            raise Killed

    with pytest.raises(Killed):
        append_plan(root_uri, "r1", MORE, on_event=die)
    recover(area_of(root_uri), SINK, sink_of(root_uri), INTERVAL)
    record = Ledger(area_of(root_uri)).published(SINK, INTERVAL)
    assert record.holds("plan-r1") is (stop != "leased")
    assert visible(root_uri) == OLD | YET_MORE | (MORE if record.holds("plan-r1") else {})
    assert below(root_uri, "staging") == []
    assert verify(area_of(root_uri), (SINK,)) == []


def test_an_append_over_a_published_file_publishes_nothing(root_uri):
    publish(root_uri, "r1", NEW)
    with pytest.raises(StorageError) as caught:
        append(root_uri, "r2", {"dt=2013-06-01/origin=EWR/part-0": "other"})
    assert caught.value.code == "FS8004"
    assert visible(root_uri) == AFTER


def test_the_audit_log_holds_each_publish_once_and_in_a_chain(root_uri):
    publish(root_uri, "r1", NEW)
    publish(root_uri, "r2", NEWER)
    back(root_uri)
    entries = read_audit(area_of(root_uri))
    assert [(entry.action, entry.run_id, entry.user) for entry in entries] == [
        ("run", "r1", "ann"),
        ("run", "r2", "ann"),
        ("rollback", "back", "ann"),
    ]
    assert verify(area_of(root_uri), (SINK,)) == []


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("how", ["change", "remove"])
def test_the_audit_log_shows_what_was_done_to_it(root_uri, number, how):
    for run in ("r1", "r2", "r3"):
        publish(root_uri, run, NEW)
    path = Path(root_uri.removeprefix("file://")) / "_firesteel" / "audit" / f"{number:010d}.json"
    if how == "remove":
        path.unlink()
    else:
        path.write_text(json.dumps(json.loads(path.read_text()) | {"plan_hash": "another"}))
    assert verify(area_of(root_uri), (SINK,)) != []


def test_readers_get_all_files_of_the_ledger_and_nothing_else(root_uri):
    publish(root_uri, "r1", NEW)
    sink = sink_of(root_uri)
    assert sorted(current_files(sink)) == sorted(f"{sink}/{path}" for path in NEW)
    assert current_files(sink, ["2013-06-01"]) == current_files(sink)


def test_readers_never_see_a_swap_half_done(root_uri):
    publish(root_uri, "r1", NEW)
    seen = []

    def read(event):
        if event.kind in {"journaled", "partition_retired", "partition_published", "ledgered"}:
            try:
                seen.append(sorted(current_files(sink_of(root_uri), timeout_s=0)))
            except StorageError as error:
                assert error.code == "FS8011"
                seen.append([])

    publish(root_uri, "r2", NEWER, on_event=read)
    old, new = (sorted(f"{sink_of(root_uri)}/{path}" for path in content) for content in (NEW, NEWER))
    assert seen[0] == old
    assert seen[-1] == new
    assert all(each in (old, [], new) for each in seen)
    assert [] in seen


def test_a_sink_without_a_publish_has_nothing_to_read(tmp_path):
    with pytest.raises(StorageError) as caught:
        current_files(f"file://{tmp_path}/scores")
    assert caught.value.code == "FS8003"
