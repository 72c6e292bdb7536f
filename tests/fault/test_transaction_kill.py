"""A driver is killed with SIGKILL at every event, and before every call that changes the storage."""

from __future__ import annotations

import itertools
import secrets
import signal

import pytest

from firesteel.pipelines.publish.ledger import Ledger
from firesteel.pipelines.publish.recover import leftovers
from support.publishing import (
    AFTER,
    INTERVAL,
    NEW,
    OLD,
    SINK,
    Driver,
    area_of,
    below,
    folders_below,
    publish,
    put,
    recover_all,
    visible,
)

pytestmark = pytest.mark.fault

EVENTS = [
    "leased",
    "journaled",
    "partition_retired",  # origin=EWR
    "partition_published",
    "partition_retired",  # origin=JFK, which becomes empty
    "partition_published",  # origin=LGA, which is new
    "partition_retired",  # the day before, a prefix
    "partition_published",
    "ledgered",
    "cleaned",
]
RECOVERY = [*EVENTS[2:9], "recovered"]


def prepared(root_uri: str) -> str:
    put(root_uri, OLD)
    return root_uri


def assert_whole(root_uri: str, run_id: str) -> str:
    """After recovery: all old or all new, nothing left over, and the ledger tells which. Then the next run works."""
    store = area_of(root_uri)
    record = Ledger(store).latest(SINK, INTERVAL)
    if record is not None and record.state == "published":
        assert visible(root_uri) == AFTER
        assert {file.path for file in record.files} == set(NEW)
    else:
        assert visible(root_uri) == OLD
        assert record is None or record.state == "died"
    assert record is None or record.run_id == run_id
    assert below(root_uri, "staging") == []
    assert folders_below(root_uri, "staging") == []
    assert folders_below(root_uri, "scratch") == []
    assert below(root_uri, "trash") == []
    assert leftovers(store, SINK) == ()
    state = record.state if record else "none"
    publish(root_uri, "next", {"dt=2013-06-01/origin=EWR/part-9": "next"})
    assert visible(root_uri) == {
        "dt=2013-06-01/origin=EWR/part-9": "next",
        "dt=2013-05-30/origin=EWR/part-0": "untouched",
    }
    return state


def test_the_events_that_the_matrix_walks_through_are_all(tmp_path):
    root_uri = prepared(f"file://{tmp_path}")
    seen = []
    publish(root_uri, "r1", NEW, on_event=lambda event: seen.append(event.kind))
    assert seen == EVENTS
    assert visible(root_uri) == AFTER


@pytest.mark.parametrize("number", range(len(EVENTS)), ids=[f"{n}-{kind}" for n, kind in enumerate(EVENTS)])
def test_kill_at_every_event(tmp_path, number):
    root_uri = prepared(f"file://{tmp_path}")
    status, _ = Driver(root_uri, "r1", signal="SIGKILL", at_event=number).run()
    assert status == -signal.SIGKILL
    recover_all(root_uri)
    assert assert_whole(root_uri, "r1") == ("died" if number == 0 else "published")


@pytest.mark.parametrize("number", range(len(RECOVERY)), ids=[f"{n}-{kind}" for n, kind in enumerate(RECOVERY)])
def test_kill_after_the_journal_then_kill_the_recovery_at_every_event(tmp_path, number):
    root_uri = prepared(f"file://{tmp_path}")
    Driver(root_uri, "r1", signal="SIGKILL", at_event=EVENTS.index("journaled")).run()
    assert visible(root_uri) == OLD
    status, _ = Driver(root_uri, "r2", "recover", signal="SIGKILL", at_event=number).run()
    assert status == -signal.SIGKILL
    recover_all(root_uri)
    assert assert_whole(root_uri, "r1") == "published"


def test_kill_before_every_call(tmp_path):
    states = []
    for number in itertools.count():
        root_uri = prepared(f"file://{tmp_path}/{number}")
        status, _ = Driver(root_uri, "r1", signal="SIGKILL", at_call=number).run()
        if status == 0:
            break  # it made fewer calls
        recover_all(root_uri)
        states.append(assert_whole(root_uri, "r1"))
    # No lease yet; then discarded; then rolled forward: each for more than one call, and never back.
    assert states == sorted(states, key=["none", "died", "published"].index)
    assert {state: states.count(state) for state in set(states)}.keys() == {"none", "died", "published"}
    assert states.count("published") > 8


def test_kill_the_recovery_before_every_call(tmp_path):
    for number in itertools.count():
        root_uri = prepared(f"file://{tmp_path}/{number}")
        Driver(root_uri, "r1", signal="SIGKILL", at_event=EVENTS.index("journaled")).run()
        status, _ = Driver(root_uri, "r2", "recover", signal="SIGKILL", at_call=number).run()
        recover_all(root_uri)
        assert assert_whole(root_uri, "r1") == "published"
        if status == 0:
            break  # it made fewer calls
    assert number > 8


def die_with_all_staged(tmp_path, root_uri: str) -> None:
    """A driver that dies when all is staged and nothing journaled."""
    _, result = Driver(prepared(f"file://{tmp_path}/all-{secrets.token_hex(3)}"), "r1").run()
    number = next(index for index, call in enumerate(result["calls"]) if call.endswith("_SUCCESS")) + 1
    status, _ = Driver(root_uri, "r1", signal="SIGKILL", at_call=number).run()
    assert status == -signal.SIGKILL
    assert len(below(root_uri, "staging")) == len(NEW) + 1


@pytest.mark.parametrize(
    ("run_id", "take_over", "found"),
    [("r1", True, True), ("r1", False, False), ("r2", True, False)],
    ids=["same plan", "same plan anew", "another plan"],
)
def test_only_a_run_of_the_same_plan_takes_over_what_is_staged(tmp_path, run_id, take_over, found):
    root_uri = prepared(f"file://{tmp_path}/it")
    die_with_all_staged(tmp_path, root_uri)
    _, result = Driver(root_uri, run_id, take_over=take_over).run()
    assert (result["outcome"], result["found"]) == ("ok", found)
    assert [each.state for each in Ledger(area_of(root_uri)).history(SINK, INTERVAL)] == ["published", "died"]
    assert assert_whole(root_uri, run_id) == "published"


def test_kill_who_takes_over_before_every_call_then_another_one_takes_over(tmp_path):
    root_uri = prepared(f"file://{tmp_path}/count")
    die_with_all_staged(tmp_path, root_uri)
    _, result = Driver(root_uri, "r1", take_over=True).run()
    found = []
    for number in range(len(result["calls"])):
        root_uri = prepared(f"file://{tmp_path}/{number}")
        die_with_all_staged(tmp_path, root_uri)
        status, _ = Driver(root_uri, "r1", signal="SIGKILL", at_call=number, take_over=True).run()
        assert status == -signal.SIGKILL
        _, last = Driver(root_uri, "r1", take_over=True).run()
        assert last["outcome"] == "ok"
        found.append(last["found"])
        assert assert_whole(root_uri, "r1") == "published"
    # Whatever was staged is found until the second driver has journaled, and then it has published it.
    assert found == sorted(found, reverse=True)
    assert found.count(True) > 5


@pytest.mark.integration
@pytest.mark.parametrize("kind", ["leased", "journaled", "partition_retired", "partition_published", "ledgered"])
def test_kill_on_hdfs(hdfs, monkeypatch, kind):
    monkeypatch.setenv("HADOOP_CONF_DIR", str(hdfs.conf_dir))
    root_uri = prepared(f"{hdfs.uri}/kill/{secrets.token_hex(6)}")
    status, _ = Driver(root_uri, "r1", signal="SIGKILL", at_event=EVENTS.index(kind)).run()
    assert status == -signal.SIGKILL
    recover_all(root_uri)
    assert assert_whole(root_uri, "r1") == ("died" if kind == "leased" else "published")
