"""A driver is stopped with SIGSTOP, given up for dead, superseded by newer data, and then wakes up."""

from __future__ import annotations

import os
import secrets
import signal
import time
from contextlib import contextmanager

import pytest

from firesteel.conf.errors import LeaseConflict
from firesteel.pipelines.publish.ledger import Ledger
from firesteel.pipelines.publish.transaction import Transaction
from support.publishing import (
    AFTER,
    COUNTS,
    INTERVAL,
    OLD,
    SINK,
    Driver,
    area_of,
    attempt_of,
    below,
    finish,
    folders_below,
    publish,
    put,
    visible,
    wait_stopped,
)

pytestmark = pytest.mark.fault

TTL_S = 0.5
DEADLINE_S = 60
NEWER = [
    {"dt=2013-06-01/origin=EWR/part-0": f"newer {n} ewr", "dt=2013-06-01/origin=JFK/part-0": f"newer {n} jfk"}
    for n in range(4)
]
UNTOUCHED = {"dt=2013-05-30/origin=EWR/part-0": "untouched"}


@contextmanager
def stopped(driver: Driver):
    """A driver that has stopped itself; None when it ended before. Killed at the end, if it is still there."""
    process = driver.start()
    try:
        yield process if wait_stopped(process) else None
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=60)


def take_over(root_uri: str, run_id: str, content: dict[str, str]):
    """Publish as soon as the stopped driver's lease has run out."""
    ends = time.monotonic() + DEADLINE_S
    while True:
        try:
            return publish(root_uri, run_id, content)
        except LeaseConflict as error:
            if error.code != "FS7501" or time.monotonic() > ends:
                raise


def wake(process) -> dict[str, object]:
    process.send_signal(signal.SIGCONT)
    status, result = finish(process)
    assert status == 0
    return result


@pytest.mark.parametrize("publishes", [1, 4], ids=["one newer", "old versions pruned"])
@pytest.mark.parametrize(
    ("event", "number", "outcome"),
    [
        ("before the journal", 0, "FS7502"),
        ("journaled", 1, "ok"),
        ("first retired", 2, "ok"),
        ("first published", 3, "ok"),
        ("ledgered", 8, "ok"),
    ],
)
def test_a_zombie_harms_nobody(tmp_path, event, number, outcome, publishes):
    root_uri = f"file://{tmp_path}"
    put(root_uri, OLD)
    with stopped(Driver(root_uri, "zombie", signal="SIGSTOP", at_event=number, ttl_s=TTL_S)) as zombie:
        for content in NEWER[:publishes]:
            record = take_over(root_uri, "newer", content)
        expected = NEWER[publishes - 1] | UNTOUCHED
        assert visible(root_uri) == expected
        result = wake(zombie)
    assert result["outcome"] == outcome
    if outcome == "FS7502":
        assert "run newer" in result["message"]
    assert visible(root_uri) == expected
    ledger = Ledger(area_of(root_uri))
    assert ledger.published(SINK, INTERVAL) == record
    first = ledger.history(SINK, INTERVAL)[-1]
    assert (first.run_id, first.state) == ("zombie", "died" if outcome == "FS7502" else "published")
    assert first.recovered_by == ("" if event == "ledgered" else "newer")
    assert below(root_uri, "staging") == []


def test_a_zombie_that_is_stopped_before_any_call_harms_nobody(tmp_path):
    """Not only at events: between looking and renaming, before folders are made, before old versions are removed."""
    outcomes = []
    calls = Driver(f"file://{tmp_path}/calls", "whole").run()[1]["calls"]
    leased = next(number for number, call in enumerate(calls) if call.startswith("create") and "/lease/" in call)
    for number in range(leased + 1, 200):  # before its lease a driver is no zombie
        root_uri = f"file://{tmp_path}/{number}"
        put(root_uri, OLD)
        with stopped(Driver(root_uri, "zombie", signal="SIGSTOP", at_call=number, ttl_s=TTL_S)) as zombie:
            if zombie is None:
                break
            for content in NEWER:  # enough of them for the zombie's version to be pruned
                take_over(root_uri, "newer", content)
            result = wake(zombie)
        assert result["outcome"] in {"ok", "FS7501", "FS7502"}, result
        assert visible(root_uri) == NEWER[-1] | UNTOUCHED, f"after call {number} ({result})"
        assert below(root_uri, "staging") == []
        outcomes.append(result["outcome"])
        again = publish(root_uri, "again", NEWER[0])
        assert visible(root_uri) == NEWER[0] | UNTOUCHED
        assert Ledger(area_of(root_uri)).published(SINK, INTERVAL) == again
    assert outcomes.count("FS7502") > 3
    assert outcomes.count("ok") > 8


def test_a_live_holder_is_not_taken_over(tmp_path):
    root_uri = f"file://{tmp_path}"
    put(root_uri, OLD)
    with stopped(Driver(root_uri, "holder", signal="SIGSTOP", at_event=1, ttl_s=600)) as holder:
        with pytest.raises(LeaseConflict) as caught:
            publish(root_uri, "other", {})
        assert caught.value.code == "FS7501"
        for fact in ("ann@host-1", f"pid {holder.pid}", "run holder", "2013-06-02T00:00:00+00:00"):
            assert fact in str(caught.value)
        assert visible(root_uri) == OLD
        assert wake(holder)["outcome"] == "ok"
    assert visible(root_uri) == AFTER


def test_heartbeats_keep_a_slow_holder_alive(tmp_path):
    """The holder outlives its ttl many times over, and is refused to others all the time."""
    root_uri = f"file://{tmp_path}"
    store = area_of(root_uri)
    ttl_s = 0.3
    with Transaction.begin(
        store, SINK, f"{root_uri}/scores", INTERVAL, attempt_of("slow"), lease_ttl_s=ttl_s
    ) as transaction:
        ends = time.monotonic() + 5 * ttl_s
        while time.monotonic() < ends:
            with pytest.raises(LeaseConflict, match="FS7501"):
                publish(root_uri, "other", {})
        assert transaction.publish((), COUNTS).state == "published"


def test_two_drivers_that_start_at_once(tmp_path):
    """Both are real processes that begin together: one publishes, the other is told who, and the result is whole."""
    for number in range(6):
        root_uri = f"file://{tmp_path}/{number}"
        put(root_uri, OLD)
        # Both are stopped right before they create their lease, and let go together.
        drivers = [Driver(root_uri, f"r{each}", signal="SIGSTOP", at_call=0) for each in range(2)]
        with stopped(drivers[0]) as one, stopped(drivers[1]) as two:
            os.kill(one.pid, signal.SIGCONT)
            os.kill(two.pid, signal.SIGCONT)
            results = [finish(one)[1], finish(two)[1]]
        outcomes = sorted(str(result["outcome"]) for result in results)
        # The later one may also start when the first is through already.
        assert outcomes in (["FS7501", "ok"], ["ok", "ok"])
        assert visible(root_uri) == AFTER
        assert below(root_uri, "staging") == []
        assert folders_below(root_uri, "trash") == []
        states = [record.state for record in Ledger(area_of(root_uri)).history(SINK, INTERVAL)]
        assert states == ["published"] * outcomes.count("ok")


@pytest.mark.integration
@pytest.mark.parametrize(("number", "outcome"), [(0, "FS7502"), (1, "ok"), (2, "ok")])
def test_a_zombie_on_hdfs_harms_nobody(hdfs, monkeypatch, number, outcome):
    monkeypatch.setenv("HADOOP_CONF_DIR", str(hdfs.conf_dir))
    root_uri = f"{hdfs.uri}/zombie/{secrets.token_hex(6)}"
    put(root_uri, OLD)
    with stopped(Driver(root_uri, "zombie", signal="SIGSTOP", at_event=number, ttl_s=3)) as zombie:
        for content in NEWER:
            take_over(root_uri, "newer", content)
        assert wake(zombie)["outcome"] == outcome
    assert visible(root_uri) == NEWER[-1] | UNTOUCHED
    assert below(root_uri, "staging") == []
