"""The records of many intervals: the same as their files say, with an index, with a broken one and without one."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from firesteel.conf.errors import StorageError
from firesteel.pipelines.planner.decide import Published
from firesteel.pipelines.publish.audit import verify
from firesteel.pipelines.publish.lease import Lease
from firesteel.pipelines.publish.ledger import Ledger, decode_record, encode_record, write_record
from firesteel.pipelines.publish.records import LedgerRecord
from firesteel.pipelines.publish.sink_records import SinkRecords
from firesteel.pipelines.publish.state_store import SinkInterval, StateStore
from firesteel.pipelines.publish.status import interval_status
from firesteel.pipelines.storage.local import LocalStorage
from support.publishing import SINK, attempt_of

COUNT = 300
SINK_URI = "file:///scores"
NAMES = tuple(f"2013-06-01T05:{number:03d}" for number in range(COUNT))


class CountingStorage(LocalStorage):
    """A storage that counts the calls that read."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()

    def list(self, path):
        self.calls["list"] += 1
        return super().list(path)

    def scan(self, paths):
        self.calls["scan"] += 1
        before = self.calls["list"]
        found = super().scan(paths)
        self.calls["list"] = before  # one request where the storage can
        return found

    def read(self, path, offset=0, length=None):
        self.calls["read"] += 1
        return super().read(path, offset, length)


def record(interval: str, token: int, state: str = "published") -> LedgerRecord:
    return LedgerRecord(
        "pipe",
        "test",
        SINK,
        interval,
        token,
        f"run-{token}",
        f"hash-{token}",
        state,
        "2013",
        f"2014-{token}",
        location=SINK_URI,
    )


def store_at(folder: Path) -> StateStore:
    return StateStore(CountingStorage(), str(folder), "pipe", "test")


def put(store: StateStore, interval: str, token: int, state: str = "published") -> Path:
    """A record file, without the syncs of a real write."""
    path = Path(SinkInterval(store, SINK, interval).file("ledger", token))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_record(SinkInterval(store, SINK, interval), record(interval, token, state)))
    return path


@pytest.fixture
def store(tmp_path: Path) -> StateStore:
    """Each third interval failed after it was published."""
    store = store_at(tmp_path)
    for number, name in enumerate(NAMES):
        put(store, name, 1)
        if number % 3 == 0:
            put(store, name, 2, "failed")
    return store


def reads(store: StateStore) -> Counter[str]:
    """The calls since the last question."""
    counting = store.storage.inner
    calls, counting.calls = counting.calls, Counter()
    return +calls


def index_of(store: StateStore) -> Path:
    return Path(f"{store.folder('index', SINK)}.pack")


def same_as_the_files(store: StateStore) -> None:
    ledger = Ledger(store)
    latest = {name: ledger.latest(SINK, name) for name in NAMES}
    published = {name: ledger.published(SINK, name) for name in NAMES}
    history = ledger.history(SINK)
    assert SinkRecords(store, SINK).latest() == latest
    assert SinkRecords(store, SINK).published() == {name: found for name, found in published.items() if found}
    assert SinkRecords(store, SINK).all() == history


def test_the_index_replaces_the_reads_of_files(store):
    first = SinkRecords(store, SINK)
    first.latest(), first.published()
    calls = reads(store)
    assert calls["scan"] == 1
    assert calls["list"] == 0
    assert calls["read"] == COUNT + COUNT // 3 + 1  # the index that is not there
    again = SinkRecords(store, SINK)
    assert again.latest() == first.latest()
    assert again.published() == first.published()
    assert reads(store) == {"scan": 1, "read": 1}
    same_as_the_files(store)


def test_new_records_are_read_and_the_others_come_from_the_index(store):
    SinkRecords(store, SINK).all()
    assert index_of(store).exists()
    put(store, NAMES[7], 5)
    put(store, "2013-06-02", 1)
    reads(store)
    latest = SinkRecords(store, SINK).latest()
    assert reads(store) == {"scan": 1, "read": 3}
    assert latest[NAMES[7]] == record(NAMES[7], 5)
    assert latest["2013-06-02"].token == 1


def test_a_file_that_changed_is_read_again(store):
    SinkRecords(store, SINK).all()
    path = Path(SinkInterval(store, SINK, NAMES[4]).file("ledger", 1))
    kept = os.stat(path)
    changed = replace(record(NAMES[4], 1), run_id="run-2")
    path.write_bytes(encode_record(SinkInterval(store, SINK, NAMES[4]), changed))
    os.utime(path, ns=(kept.st_atime_ns, kept.st_mtime_ns + 1_000_000))
    assert SinkRecords(store, SINK).latest()[NAMES[4]].run_id == "run-2"
    path.unlink()
    assert NAMES[4] not in SinkRecords(store, SINK).latest()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_index_costs_time_and_nothing_else(store, data):
    SinkRecords(store, SINK).all()
    whole = index_of(store).read_bytes()
    at = int(data.draw(st.floats(0, 1, exclude_max=True)) * len(whole))
    damaged = data.draw(st.sampled_from([whole[:at], whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :], b""]))
    index_of(store).write_bytes(damaged)
    newest = SinkRecords(store, SINK).latest()
    assert newest == {
        name: record(name, 1 if number % 3 else 2, "published" if number % 3 else "failed")
        for number, name in enumerate(NAMES)
    }
    SinkRecords(store, SINK).all()
    assert index_of(store).read_bytes() == whole


def test_a_reader_without_write_access_reads_the_files(store):
    index_of(store).parent.parent.parent.joinpath("index").write_text("a file where the folder would be")
    same_as_the_files(store)


def test_few_intervals_need_no_index_and_no_listing_of_the_others(store):
    records = SinkRecords(store, SINK, NAMES[:3])
    assert sorted(records.latest()) == list(NAMES[:3])
    assert reads(store) == {"scan": 1, "read": 3}
    assert not index_of(store).exists()
    assert SinkRecords(store, SINK, ()).latest() == {}


def test_a_damaged_record_is_an_error_with_its_path(store):
    path = Path(SinkInterval(store, SINK, NAMES[9]).file("ledger", 1))
    path.write_bytes(b"{")
    with pytest.raises(StorageError, match="FS8006") as caught:
        SinkRecords(store, SINK).all()
    assert str(path) in str(caught.value)


def test_what_a_plan_reads_of_the_state_does_not_grow_with_its_intervals(store):
    Published.of(store, {SINK: SINK_URI}, NAMES)
    reads(store)
    published = Published.of(store, {SINK: SINK_URI}, NAMES)
    calls = reads(store)
    assert calls == {"list": 1, "scan": 2, "read": 1}
    assert [published.last(SINK, name).token for name in NAMES] == [1] * COUNT
    assert len(published.recent()) == 5
    few = Published.of(store, {SINK: SINK_URI}, ["2013-06-01T05:001", "2099-01-01"])
    assert reads(store) == {"list": 1, "scan": 2, "read": 7}
    assert few.last(SINK, "2099-01-01") is None


def test_a_plan_of_few_intervals_lists_no_folder_of_the_others(store, monkeypatch):
    folders, scan = [], CountingStorage.scan
    monkeypatch.setattr(CountingStorage, "scan", lambda self, paths: folders.append([*paths]) or scan(self, paths))
    Published.of(store, {SINK: SINK_URI}, [NAMES[0]])
    ledger, journals = folders
    assert ledger == [SinkInterval(store, SINK, name).folder("ledger") for name in (NAMES[0], *NAMES[-5:])]
    assert journals == [SinkInterval(store, SINK, NAMES[0]).folder("journal")]


def test_the_state_of_intervals_names_records_and_holders(store):
    held = SinkInterval(store, SINK, "2099-01-01")
    with_lease = Lease.acquire(held, attempt_of("r9"), ttl_s=60, purpose="run")
    try:
        state = interval_status(store, {SINK: SINK_URI}, (*NAMES, "2099-01-01"), "")
    finally:
        with_lease.release()
    intervals = {entry["interval"]: entry for entry in state["intervals"]}
    assert list(intervals) == [*NAMES, "2099-01-01"]
    assert intervals["2099-01-01"]["held_by"]["run_id"] == "r9"
    assert intervals[NAMES[0]]["newest"]["state"] == "failed"
    assert intervals[NAMES[0]]["published"]["run_id"] == "run-1"
    assert intervals[NAMES[1]]["held_by"] is None
    assert intervals["2099-01-01"]["newest"] is intervals["2099-01-01"]["published"] is None


def test_a_written_record_is_found(tmp_path):
    store = store_at(tmp_path)
    write_record(SinkInterval(store, SINK, "2013-06-01"), record("2013-06-01", 3))
    assert SinkRecords(store, SINK).latest() == {"2013-06-01": record("2013-06-01", 3)}


def test_a_forged_index_is_found_by_the_audit(store):
    SinkRecords(store, SINK).all()
    assert not [problem for problem in verify(store, (SINK,)) if "index" in problem]
    forged = SinkRecords(store, SINK)
    forged.all()
    key = (NAMES[1], 1)
    sink_interval = SinkInterval(store, SINK, NAMES[1])
    changed = decode_record(sink_interval, 1, forged._data[key])
    forged._data[key] = encode_record(sink_interval, replace(changed, run_id="run-9"))
    forged._write_index()
    assert SinkRecords(store, SINK).latest()[NAMES[1]].run_id == "run-9"
    assert [problem for problem in verify(store, (SINK,)) if str(index_of(store)) in problem]
