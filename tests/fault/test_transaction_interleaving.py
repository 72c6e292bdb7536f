"""A zombie and its successors, interleaved call by call as hypothesis likes: the newest data always stands.

Both are threads of one process over a real folder; a scheduler lets one of them make one storage call at a time. The
zombie has stopped beating, so the successor may take over at any point of the zombie's publish.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from firesteel.conf.errors import LeaseConflict
from firesteel.pipelines.publish.ledger import Ledger
from firesteel.pipelines.publish.transaction import StateStore, Transaction
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
    publish,
    put,
    sink_of,
    stage,
    visible,
)

pytestmark = pytest.mark.fault

DEADLINE_S = 60
NEWER = {"dt=2013-06-01/origin=EWR/part-0": "newer ewr", "dt=2013-06-01/origin=JFK/part-0": "newer jfk"}
UNTOUCHED = {"dt=2013-05-30/origin=EWR/part-0": "untouched"}


class Turns:
    """Who may make the next call. When one of the two is through, the other runs on."""

    def __init__(self, order: Iterator[bool]) -> None:
        self._order = order
        self._condition = threading.Condition()
        self._turn: str | None = None
        self._through: set[str] = set()

    def wait(self, who: str) -> None:
        with self._condition:
            assert self._condition.wait_for(lambda: self._may(who), DEADLINE_S), f"{who} waited for its turn too long"
            self._turn = None
            self._condition.notify_all()

    def leave(self, who: str) -> None:
        with self._condition:
            self._through.add(who)
            self._turn = None
            self._condition.notify_all()

    def _may(self, who: str) -> bool:
        if self._through:
            return True
        if self._turn is None:
            self._turn = "zombie" if next(self._order, True) else "successor"
            self._condition.notify_all()
        return self._turn == who


class Turned:
    """A storage whose every call of one thread waits for its turn."""

    def __init__(self, inner, turns: Turns, who: str) -> None:
        self._inner, self._turns, self._who = inner, turns, who
        self.thread: int | None = None

    def __getattr__(self, name):
        value = getattr(self._inner, name)
        if not callable(value) or threading.get_ident() != self.thread:
            return value

        def call(*args):
            self._turns.wait(self._who)
            result = value(*args)
            return iter(list(result)) if name == "walk" else result

        return call


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(order=st.lists(st.booleans(), min_size=40, max_size=140), successors=st.integers(1, 4))
def test_however_they_interleave_the_newest_data_stands(order, successors):
    with tempfile.TemporaryDirectory() as folder:
        root_uri = f"file://{folder}"
        put(root_uri, OLD)
        outcome = _interleave(root_uri, iter(order), successors)
        assert visible(root_uri) == NEWER | UNTOUCHED, outcome
        ledger = Ledger(area_of(root_uri))
        assert ledger.published(SINK, INTERVAL).run_id == f"successor {successors - 1}"
        zombie = ledger.history(SINK, INTERVAL)[-1]
        assert (zombie.run_id, zombie.state) == ("zombie", "published" if outcome == "ok" else "died")
        assert below(root_uri, "staging") == []
        publish(root_uri, "again", NEW)
        assert visible(root_uri) == AFTER


def _interleave(root_uri: str, order: Iterator[bool], successors: int) -> str:
    """Run both to their ends, and return the outcome of the zombie's publish."""
    turns = Turns(order)
    store = area_of(root_uri)
    storages = {who: Turned(store.storage, turns, who) for who in ("zombie", "successor")}
    areas = {who: StateStore(storage, store.base, store.pipeline, "test") for who, storage in storages.items()}
    begun = threading.Event()
    outcome: list[str] = []
    failures: list[BaseException] = []

    def zombie() -> None:
        with Transaction.begin(
            areas["zombie"], SINK, sink_of(root_uri), INTERVAL, attempt_of("zombie"), lease_ttl_s=0.001
        ) as transaction:
            transaction._lease.close()  # as when the process is stopped
            stage(transaction, store.storage, NEW)
            begun.set()
            storages["zombie"].thread = threading.get_ident()
            try:
                transaction.publish(PLANNED, COUNTS)
                outcome.append("ok")
            except LeaseConflict as error:
                outcome.append(error.code)

    def successor() -> None:
        assert begun.wait(DEADLINE_S)
        storages["successor"].thread = threading.get_ident()
        for number in range(successors):
            with _begin(areas["successor"], root_uri, f"successor {number}") as transaction:
                stage(transaction, store.storage, NEWER)
                transaction.publish(PLANNED, COUNTS)

    def run(who: str, work) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - raised again by the test's thread
            failures.append(error)
        finally:
            begun.set()
            turns.leave(who)

    threads = [
        threading.Thread(target=run, args=(who, work)) for who, work in (("zombie", zombie), ("successor", successor))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(2 * DEADLINE_S)
    if failures:
        raise failures[0]
    return outcome[0]


def _begin(store: StateStore, root_uri: str, run_id: str) -> Transaction:
    """Begin as soon as the zombie's lease has run out: by the storage's clock, in a millisecond or a tick of it."""
    while True:
        try:
            return Transaction.begin(store, SINK, sink_of(root_uri), INTERVAL, attempt_of(run_id))
        except LeaseConflict as error:
            if error.code != "FS7501":
                raise
