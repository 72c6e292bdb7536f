"""Files written ahead: put in place once, by a rename, or written anew where something came between."""

from __future__ import annotations

import pytest

from firesteel.conf.errors import StorageError
from firesteel.pipelines.publish.cleanup import remove_debris
from firesteel.pipelines.publish.prewritten import PrewrittenRecords
from firesteel.pipelines.publish.state_store import SinkInterval
from support.publishing import INTERVAL, NEW, SINK, area_of, below, folders_below, publish, visible


@pytest.fixture
def place(tmp_path):
    return SinkInterval(area_of(f"file://{tmp_path}"), SINK, INTERVAL)


def files(place: SinkInterval) -> dict[str, bytes]:
    storage = place.storage
    return {file.name: storage.read(file.path) for file in storage.walk(place.store.base)}


def test_a_draft_is_put_in_place_whole_and_nothing_is_left(place):
    path = place.file("ledger", 1)
    with PrewrittenRecords(place, 1) as drafts:
        drafts.begin(path, b"record")
        drafts.create(path, b"record")
    assert files(place) == {"0000000001.json": b"record"}


def test_other_bytes_than_the_drafted_ones_are_written_anew(place):
    path = place.file("ledger", 1)
    with PrewrittenRecords(place, 1) as drafts:
        drafts.begin(path, b"as it was thought")
        drafts.create(path, b"as it came")
    assert files(place) == {"0000000001.json": b"as it came"}


def test_a_draft_is_as_exclusive_as_a_create(place):
    path = place.file("ledger", 1)
    place.storage.create(path, b"first")
    with PrewrittenRecords(place, 1) as drafts:
        drafts.begin(path, b"second")
        with pytest.raises(StorageError, match="FS8004"):
            drafts.create(path, b"second")
    assert files(place) == {"0000000001.json": b"first"}


def test_a_draft_that_could_not_be_written_is_written_when_it_is_due(place, monkeypatch):
    path, real = place.file("ledger", 1), place.storage.create

    def refuse(target, data):
        if ".draft-" in target:
            raise StorageError("FS8001", "not now")
        return real(target, data)

    monkeypatch.setattr(type(place.storage), "create", lambda _self, target, data: refuse(target, data))
    with PrewrittenRecords(place, 1) as drafts:
        drafts.begin(path, b"record")
        drafts.create(path, b"record")
    assert files(place) == {"0000000001.json": b"record"}


def test_a_publish_leaves_no_draft(tmp_path):
    root = f"file://{tmp_path}"
    publish(root, "r1", NEW)
    assert visible(root) == NEW
    assert not [name for name in folders_below(root, "lease") if ".draft-" in name]
    assert len(below(root, "audit")) == len(below(root, "ledger")) == 1


def test_a_draft_that_a_successor_deleted_is_written_anew(place):
    path = place.file("ledger", 1)
    with PrewrittenRecords(place, 1) as drafts:
        drafts.begin(path, b"record")
        drafts._pool.shutdown(wait=True)
        remove_debris(place, 1)
        drafts.create(path, b"record")
    assert files(place) == {"0000000001.json": b"record"}


def test_drafts_of_decided_tokens_are_removed_and_others_stay(place):
    for token in (1, 2, 3):
        place.storage.create(f"{place.folder('lease')}/.draft-{token:010d}-{'a' * 16}", b"")
    place.storage.create(f"{place.folder('lease')}/.clock-1", b"")
    remove_debris(place, 2)
    assert sorted(files(place)) == [".clock-1", f".draft-0000000003-{'a' * 16}"]
