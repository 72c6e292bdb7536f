"""The publish transaction on local files, rule by rule."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from firesteel.conf.errors import LeaseConflict, StorageError
from firesteel.pipelines.publish.cancel import cancel
from firesteel.pipelines.publish.ledger import Ledger
from firesteel.pipelines.publish.records import PublishedFile
from firesteel.pipelines.publish.recover import leftovers, recover
from firesteel.pipelines.publish.transaction import Transaction
from firesteel.pipelines.result import Counts
from support.publishing import (
    AFTER,
    COUNTS,
    INTERVAL,
    NEW,
    OLD,
    PLANNED,
    SINK,
    area_of,
    attempt_of,
    below,
    folders_below,
    publish,
    put,
    recover_all,
    sink_of,
    stage,
    visible,
)


@pytest.fixture
def root_uri(tmp_path) -> str:
    return f"file://{tmp_path}"


def begin(root_uri: str, run_id: str = "r1", interval: str = INTERVAL, **more) -> Transaction:
    return Transaction.begin(area_of(root_uri), SINK, sink_of(root_uri), interval, attempt_of(run_id), **more)


def versions(root_uri: str) -> list[str]:
    return below(root_uri, f"versions/test/{SINK}/{INTERVAL}")


class TestPublish:
    def test_replaces_what_is_planned_and_touches_nothing_else(self, root_uri):
        put(root_uri, OLD)
        publish(root_uri, "r1", NEW)
        assert visible(root_uri) == AFTER

    def test_what_an_attempt_computed_once_is_removed_when_it_ends(self, root_uri):
        publish(root_uri, "r1", NEW)
        assert folders_below(root_uri, "scratch") == []
        with begin(root_uri, "r2") as transaction:
            stage(transaction, area_of(root_uri).storage, NEW)
            assert folders_below(root_uri, "scratch") == ["0000000002"]
        assert folders_below(root_uri, "scratch") == []

    def test_the_first_time(self, root_uri):
        publish(root_uri, "r1", NEW)
        assert visible(root_uri) == NEW
        assert folders_below(root_uri, "versions") == []

    def test_a_rerun_without_rows_leaves_no_stale_rows(self, root_uri):
        put(root_uri, OLD)
        record = publish(root_uri, "r1", {})
        assert visible(root_uri) == {"dt=2013-05-30/origin=EWR/part-0": "untouched"}
        assert record.files == ()
        assert record.partitions == PLANNED

    def test_the_record_tells_what_was_published(self, root_uri):
        put(root_uri, OLD)
        store = area_of(root_uri)
        with begin(root_uri) as transaction:
            stage(transaction, store.storage, NEW)
            record = transaction.publish(PLANNED, COUNTS, mlflow_run_id="m1")
        assert (record.state, record.token, record.run_id, record.plan_hash) == ("published", 1, "r1", "plan-r1")
        assert (record.pipeline, record.profile, record.sink, record.interval) == (
            "flight_delay_scores",
            "test",
            SINK,
            INTERVAL,
        )
        assert (record.counts, record.partitions, record.mlflow_run_id) == (COUNTS, PLANNED, "m1")
        assert record.files == tuple(
            PublishedFile(path, len(text), f"SHA-256:{hashlib.sha256(text.encode()).hexdigest()}")
            for path, text in sorted(NEW.items())
        )
        assert Ledger(store).published(SINK, INTERVAL) == record

    def test_hidden_files_are_no_data(self, root_uri):
        """Spark's markers, and checksum files of its local file system, which move along."""
        put(root_uri, {"dt=1/part-0": "old"})
        hidden = {"dt=1/.part-0.crc": "c", "dt=1/_SUCCESS": "", "_temporary/0/x": "x", ".spark-staging-1/x": "x"}
        record = publish(root_uri, "r1", hidden, planned=("dt=1",))
        assert visible(root_uri) == {}, "a directory with hidden files only is empty"
        assert record.files == ()
        publish(root_uri, "r2", {"dt=1/part-0": "new", "dt=1/.part-0.crc": "c"}, planned=("dt=1",))
        assert visible(root_uri) == {"dt=1/part-0": "new", "dt=1/.part-0.crc": "c"}

    def test_a_partition_column_may_start_with_an_underscore(self, root_uri):
        record = publish(root_uri, "r1", {"_dt=1/part-0": "x"}, planned=("_dt=1",))
        assert [file.path for file in record.files] == ["_dt=1/part-0"]

    def test_a_sink_without_partitions_is_swapped_whole(self, root_uri):
        put(root_uri, {"part-0": "old", "x/part-1": "old"})
        publish(root_uri, "r1", {"part-9": "new"}, planned=("",))
        assert {k: v for k, v in visible(root_uri).items() if k != "_SUCCESS"} == {"part-9": "new"}

    @pytest.mark.parametrize(
        "stray",
        [
            "dt=2013-06-02/origin=EWR/part-0",
            "dt=2013-06-01/part-0",
            "part-0",
            "dt=2013-06-01/origin=EWRX/part-0",
            "dt=2013-05-311/part-0",
        ],
    )
    def test_data_outside_the_plan_is_refused_and_nothing_is_published(self, root_uri, stray):
        put(root_uri, OLD)
        with pytest.raises(StorageError) as caught:
            publish(root_uri, "r1", NEW | {stray: "stray"})
        assert caught.value.code == "FS8007"
        assert (stray.rpartition("/")[0] or stray) in caught.value.what
        assert visible(root_uri) == OLD
        assert below(root_uri, "staging") == []
        assert leftovers(area_of(root_uri), SINK) == ()

    @pytest.mark.parametrize(
        "planned",
        [("a", "a/b"), ("a/b", "a"), ("a", "a"), ("/a",), ("a/../b",), ("a//b",), ("a/",), ("", "a")],
    )
    def test_a_plan_that_cannot_be_is_refused(self, root_uri, planned):
        with pytest.raises(ValueError, match=r"overlap|relative"):
            publish(root_uri, "r1", {}, planned=planned)
        assert leftovers(area_of(root_uri), SINK) == ()

    def test_a_sink_in_another_storage_is_refused(self, root_uri):
        with pytest.raises(StorageError) as caught:
            Transaction.begin(area_of(root_uri), SINK, "hdfs://nn:8020/scores", INTERVAL, attempt_of("r1"))
        assert caught.value.code == "FS8008"
        assert below(root_uri, "lease") == []

    def test_events_follow_the_order_of_things(self, root_uri):
        put(root_uri, {"a=1/f": "old", "a=2/f": "old"})
        seen = []

        def on_event(event):
            facts = event.facts
            seen.append(f"{event.kind} {facts.get('directory', '')}".strip())
            if event.kind == "partition_retired":
                assert not any(path.startswith(str(facts["directory"])) for path in visible(root_uri))
            if event.kind == "partition_published":
                assert any(path.startswith(str(facts["directory"])) for path in visible(root_uri))
            if event.kind == "journaled":
                assert set(visible(root_uri).values()) == {"old"}

        publish(root_uri, "r1", {"a=1/f": "new", "a=3/f": "new"}, ("a=1", "a=2", "a=3"), on_event=on_event)
        assert seen == [
            "leased",
            "journaled",
            "partition_retired a=1",
            "partition_published a=1",
            "partition_retired a=2",
            "partition_published a=3",
            "ledgered",
            "cleaned",
        ]

    def test_two_intervals_are_independent(self, root_uri):
        with begin(root_uri, "r1", "2013-06-01") as one, begin(root_uri, "r2", "2013-06-01T05:30") as two:
            assert one.staging_path != two.staging_path
            stage(one, area_of(root_uri).storage, {"dt=1/f": "1"})
            stage(two, area_of(root_uri).storage, {"dt=2/f": "2"})
            two.publish(("dt=2",), COUNTS)
            one.publish(("dt=1",), COUNTS)
        assert visible(root_uri) == {"dt=1/f": "1", "dt=2/f": "2"}
        assert Ledger(area_of(root_uri)).intervals(SINK) == ("2013-06-01", "2013-06-01T05:30")

    def test_profiles_are_independent(self, root_uri):
        store = area_of(root_uri)
        other = replace(store, profile="prod")
        with (
            begin(root_uri),
            Transaction.begin(other, SINK, sink_of(root_uri), INTERVAL, attempt_of("r2")) as transaction,
        ):
            transaction.publish((), COUNTS)
        assert Ledger(store).latest(SINK, INTERVAL) is None
        assert Ledger(other).latest(SINK, INTERVAL).run_id == "r2"


class TestVersions:
    def test_the_last_two_are_kept_with_what_was_replaced(self, root_uri):
        for number in range(1, 6):
            publish(root_uri, f"r{number}", {"dt=1/f": f"v{number}"}, planned=("dt=1",))
        assert versions(root_uri) == ["0000000004/data/dt=1/f", "0000000005/data/dt=1/f"]
        store = area_of(root_uri)
        folder = f"{store.base}/versions/test/{SINK}/{INTERVAL}"
        assert store.storage.read(f"{folder}/0000000005/data/dt=1/f") == b"v4"
        assert store.storage.read(f"{folder}/0000000004/data/dt=1/f") == b"v3"
        assert folders_below(root_uri, "trash") == []

    @pytest.mark.parametrize("keep", [0, 1])
    def test_fewer_may_be_kept(self, root_uri, keep):
        for number in range(3):
            with begin(root_uri, f"r{number}", keep_versions=keep) as transaction:
                stage(transaction, area_of(root_uri).storage, {"dt=1/f": f"v{number}"})
                transaction.publish(("dt=1",), COUNTS)
        assert len(folders_below(root_uri, "versions")) == keep
        assert visible(root_uri) == {"dt=1/f": "v2"}

    def test_attempts_that_published_nothing_push_no_version_out(self, root_uri):
        for number in range(3):
            publish(root_uri, f"r{number}", {"dt=1/f": f"v{number}"}, planned=("dt=1",))
        before = versions(root_uri)
        for number in range(3):
            with begin(root_uri, f"failed{number}") as transaction:
                transaction.fail("a gate")
        assert versions(root_uri) == before
        publish(root_uri, "r9", {"dt=1/f": "v9"}, planned=("dt=1",))
        assert len(versions(root_uri)) == 2


class TestAbort:
    def test_leaving_without_publishing_leaves_nothing(self, root_uri):
        put(root_uri, OLD)
        with begin(root_uri) as transaction:
            stage(transaction, area_of(root_uri).storage, NEW)
        assert visible(root_uri) == OLD
        assert folders_below(root_uri, "staging") == []
        assert Ledger(area_of(root_uri)).latest(SINK, INTERVAL) is None
        assert begin_and_leave(root_uri) == 2, "the lease was released"

    def test_an_interrupt_aborts_and_goes_on(self, root_uri):
        transaction = begin(root_uri)
        stage(transaction, area_of(root_uri).storage, NEW)
        with pytest.raises(KeyboardInterrupt), transaction:
            raise KeyboardInterrupt
        assert folders_below(root_uri, "staging") == []
        assert begin_and_leave(root_uri) == 2

    def test_fail_is_recorded_and_publishing_is_over(self, root_uri):
        with begin(root_uri) as transaction:
            stage(transaction, area_of(root_uri).storage, NEW)
            record = transaction.fail("FS7001 a gate failed", COUNTS)
            with pytest.raises(ValueError, match="failed"):
                transaction.publish(PLANNED, COUNTS)
        assert (record.state, record.error, record.counts) == ("failed", "FS7001 a gate failed", COUNTS)
        ledger = Ledger(area_of(root_uri))
        assert ledger.latest(SINK, INTERVAL) == record
        assert ledger.published(SINK, INTERVAL) is None
        assert folders_below(root_uri, "staging") == []
        assert visible(root_uri) == {}

    def test_publish_twice_is_refused(self, root_uri):
        with begin(root_uri) as transaction:
            transaction.publish((), COUNTS)
            with pytest.raises(ValueError, match="done"):
                transaction.publish((), COUNTS)
            with pytest.raises(ValueError, match="done"):
                transaction.fail("x")

    def test_an_error_after_the_journal_is_left_to_the_next_start_of_the_same_process(self, root_uri):
        """The process lives, so its lease must not have to run out."""
        put(root_uri, OLD)

        def on_event(event):
            if event.kind == "partition_published":
                raise OSError("the callback broke")

        with pytest.raises(OSError, match="broke"):
            publish(root_uri, "r1", NEW, on_event=on_event)
        assert leftovers(area_of(root_uri), SINK) == (INTERVAL,)
        seen = []
        record = recover_all(root_uri, on_event=lambda event: seen.append((event.kind, event.facts.get("state"))))
        assert seen[-1] == ("recovered", "published")
        assert (record.run_id, record.state, record.recovered_by[:8]) == ("r1", "published", "recover-")
        assert visible(root_uri) == AFTER

    def test_an_error_while_leaving_does_not_hide_the_first(self, root_uri):
        store = area_of(root_uri)
        storage = Broken(store.storage)
        store = replace(store, storage=storage)
        transaction = Transaction.begin(store, SINK, sink_of(root_uri), INTERVAL, attempt_of("r1"))
        storage.broken = True
        with pytest.raises(RuntimeError, match="the first"), transaction:
            raise RuntimeError("the first")

    def test_an_error_while_leaving_is_raised_when_there_is_no_other(self, root_uri):
        store = area_of(root_uri)
        storage = Broken(store.storage)
        store = replace(store, storage=storage)
        transaction = Transaction.begin(store, SINK, sink_of(root_uri), INTERVAL, attempt_of("r1"))
        with pytest.raises(StorageError, match="FS8001"), transaction:
            storage.broken = True


class Broken:
    """A storage that stops answering when it is told to."""

    def __init__(self, inner):
        self._inner = inner
        self.broken = False

    def __getattr__(self, name):
        if self.broken:
            raise StorageError("FS8001", "no NameNode answers")
        return getattr(self._inner, name)


def begin_and_leave(root_uri: str) -> int:
    with begin(root_uri, "again") as transaction:
        return transaction.token


class TestRecover:
    def test_nothing_was_ever_done(self, root_uri):
        assert recover_all(root_uri) is None
        assert leftovers(area_of(root_uri), SINK) == ()
        assert below(root_uri, "lease") == []

    def test_nothing_is_left(self, root_uri):
        publish(root_uri, "r1", NEW)
        tokens = below(root_uri, "lease")
        assert recover_all(root_uri) is None
        assert below(root_uri, "lease") == tokens, "it took no lease for nothing"

    def test_a_live_holder_is_left_alone(self, root_uri):
        with begin(root_uri) as transaction:
            stage(transaction, area_of(root_uri).storage, NEW)
            assert leftovers(area_of(root_uri), SINK) == ()
            with pytest.raises(LeaseConflict, match="FS7501"):
                recover_all(root_uri)
            with pytest.raises(LeaseConflict, match="FS7501"):
                begin(root_uri, "other")
            transaction.publish(PLANNED, COUNTS)
        assert visible(root_uri) == NEW

    def test_something_foreign_in_the_way_is_told_and_not_overwritten(self, root_uri):
        """A directory that was not there when the attempt journaled, written by hand before the roll-forward."""

        def on_event(event):
            if event.kind == "journaled":
                raise OSError("stop")

        with pytest.raises(OSError, match="stop"):
            publish(root_uri, "r1", {"dt=1/f": "ours"}, planned=("dt=1",), on_event=on_event)
        put(root_uri, {"dt=1/f": "foreign"})
        for _ in range(2):
            with pytest.raises(StorageError) as caught:
                recover_all(root_uri)
            assert caught.value.code == "FS8004"
            assert "Move the files" in caught.value.hint
        assert visible(root_uri) == {"dt=1/f": "foreign"}
        area_of(root_uri).storage.delete(f"{sink_of(root_uri).removeprefix('file://')}/dt=1")
        assert recover_all(root_uri).state == "published"
        assert visible(root_uri) == {"dt=1/f": "ours"}

    def test_what_was_to_be_replaced_may_be_gone_by_hand(self, root_uri):
        put(root_uri, {"a=1/f": "old", "a=2/f": "old"})

        def on_event(event):
            if event.kind == "journaled":
                raise OSError("stop")

        with pytest.raises(OSError, match="stop"):
            publish(root_uri, "r1", {"a=1/f": "new"}, planned=("a=1", "a=2"), on_event=on_event)
        store = area_of(root_uri)
        sink = sink_of(root_uri).removeprefix("file://")
        store.storage.delete(f"{sink}/a=1")
        store.storage.delete(f"{sink}/a=2")
        assert recover_all(root_uri).state == "published"
        assert visible(root_uri) == {"a=1/f": "new"}

    def test_a_journal_is_finished_where_it_says(self, root_uri):
        """The spec may name another path by now."""

        def on_event(event):
            if event.kind == "journaled":
                raise OSError("stop")

        with pytest.raises(OSError, match="stop"):
            publish(root_uri, "r1", NEW, on_event=on_event)
        recover(area_of(root_uri), SINK, f"{root_uri}/moved", INTERVAL)
        assert visible(root_uri) == NEW

    def test_a_cut_journal_is_named_and_nothing_is_guessed(self, root_uri, tmp_path):
        def on_event(event):
            if event.kind == "journaled":
                raise OSError("stop")

        with pytest.raises(OSError, match="stop"):
            publish(root_uri, "r1", NEW, on_event=on_event)
        (journal,) = Path(tmp_path, "_firesteel", "journal").rglob("*.json")
        journal.write_bytes(journal.read_bytes()[:100])
        with pytest.raises(StorageError) as caught:
            recover_all(root_uri)
        assert caught.value.code == "FS8006"
        assert str(journal) in str(caught.value)
        assert below(root_uri, "staging") != []


class TestLedger:
    def test_empty(self, root_uri):
        ledger = Ledger(area_of(root_uri))
        assert ledger.latest(SINK, INTERVAL) is None
        assert ledger.published(SINK, INTERVAL) is None
        assert ledger.history(SINK) == []
        assert ledger.intervals(SINK) == ()

    def test_published_looks_past_failures(self, root_uri):
        first = publish(root_uri, "r1", NEW)
        with begin(root_uri, "r2") as transaction:
            second = transaction.fail("a gate")
        ledger = Ledger(area_of(root_uri))
        assert ledger.published(SINK, INTERVAL) == first
        assert ledger.latest(SINK, INTERVAL) == second

    def test_history_is_newest_first_over_intervals(self, root_uri):
        for run_id, interval in (("a", "2013-06-02"), ("b", "2013-06-01"), ("c", "2013-06-01")):
            with begin(root_uri, run_id, interval) as transaction:
                transaction.publish((), Counts())
        ledger = Ledger(area_of(root_uri))
        history = ledger.history(SINK)
        assert {record.run_id for record in history} == {"a", "b", "c"}
        assert history == sorted(history, key=lambda each: (each.ended_at, each.interval, each.token), reverse=True)
        assert [record.run_id for record in ledger.history(SINK, "2013-06-01")] == ["c", "b"]
        assert ledger.intervals(SINK) == ("2013-06-01", "2013-06-02")

    def test_records_are_readable_by_people_and_checked(self, root_uri, tmp_path):
        publish(root_uri, "r1", NEW)
        (path,) = Path(tmp_path, "_firesteel", "ledger").rglob("*.json")
        assert json.loads(path.read_text())["body"]["run_id"] == "r1"
        assert path.name == "0000000001.json"
        path.write_text(path.read_text()[:50])
        with pytest.raises(StorageError, match="FS8006"):
            Ledger(area_of(root_uri)).latest(SINK, INTERVAL)


class TestLease:
    def test_tokens_rise_whatever_becomes_of_the_attempts(self, root_uri):
        tokens = [publish(root_uri, "a", NEW).token, begin_and_leave(root_uri), publish(root_uri, "b", NEW).token]
        with begin(root_uri, "c") as transaction:
            tokens.append(transaction.fail("x").token)
        tokens.append(begin_and_leave(root_uri))
        assert tokens == [1, 2, 3, 4, 5]

    def test_the_conflict_says_who_and_what_to_do(self, root_uri):
        with begin(root_uri, "r1"), pytest.raises(LeaseConflict) as caught:
            begin(root_uri, "r2")
        assert caught.value.exit_code == 7
        for fact in ("ann@host-1", f"pid {os.getpid()}", "2013-06-02T00:00:00+00:00", "run r1", "60 s"):
            assert fact in str(caught.value)

    def test_no_clock_files_stay_behind(self, root_uri):
        with begin(root_uri, "r1"):
            for _ in range(3):
                with pytest.raises(LeaseConflict):
                    begin(root_uri, "r2")
        assert folders_below(root_uri, "lease") == ["0000000001.json", "0000000001.released"]


class TestRecordOfTheEnd:
    """No attempt ends without a record: status and history are read by people who were not there."""

    @pytest.mark.parametrize(
        ("error", "state", "said"),
        [
            (KeyboardInterrupt(), "cancelled", "cancelled by an interrupt"),
            (StorageError("FS8001", "no answer."), "failed", "FS8001 no answer."),
            (ZeroDivisionError("row 7"), "failed", "FS9999 ZeroDivisionError"),
        ],
    )
    def test_an_attempt_that_is_left_by_an_error_is_in_the_ledger(self, root_uri, error, state, said):
        with pytest.raises(type(error)), begin(root_uri) as transaction:
            stage(transaction, area_of(root_uri).storage, NEW)
            raise error
        record = Ledger(area_of(root_uri)).latest(SINK, INTERVAL)
        assert (record.state, said in record.error, "row 7" in record.error) == (state, True, False)
        assert visible(root_uri) == {}
        assert leftovers(area_of(root_uri), SINK) == ()

    def test_one_that_was_cancelled_elsewhere_finds_out_and_is_in_the_ledger(self, root_uri):
        with begin(root_uri) as transaction:
            stage(transaction, area_of(root_uri).storage, NEW)
            cancel(area_of(root_uri), (SINK,), "r1", who="eve@there", signal=False)
            with pytest.raises(LeaseConflict, match="FS7503"):
                transaction.publish(PLANNED, COUNTS)
        record = Ledger(area_of(root_uri)).latest(SINK, INTERVAL)
        assert (record.state, "eve@there" in record.error) == ("cancelled", True)

    def test_one_that_had_nothing_to_do_leaves_none(self, root_uri):
        with begin(root_uri):
            pass
        assert Ledger(area_of(root_uri)).latest(SINK, INTERVAL) is None
