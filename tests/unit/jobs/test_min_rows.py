"""What an interval must publish at least: nothing passes as an empty partition by accident."""

from __future__ import annotations

from dataclasses import replace

import pytest

from firesteel.conf.errors import GateFailed
from firesteel.jobs.run.output_stages import check_min_rows
from firesteel.pipelines.plan.model import SourceInput
from firesteel.pipelines.publish.transaction import Attempt, StateStore, Transaction
from firesteel.pipelines.result import Counts
from firesteel.pipelines.storage.open import locate
from support.sample_run import sample_plan

EMPTY = Counts(rows_in=60, quarantined=60)
ALL_DEAD = Counts(rows_in=60, dead_letter=60)


@pytest.fixture
def store(tmp_path) -> StateStore:
    return StateStore(*locate(f"file://{tmp_path}/fs"), "p", "default")


def sink_of(store: StateStore) -> str:
    return f"{store.storage.base_uri}{store.base}-out"


def check(
    store: StateStore, counts: Counts, *, missing: bool = False, on_missing: str = "fail", **sink: object
) -> None:
    plan = sample_plan()
    sources = tuple(replace(source, on_missing=on_missing) for source in plan.sources)
    interval = plan.intervals[0]
    if missing:
        interval = replace(interval, inputs=(SourceInput(plan.sources[0].name, ("dt=1",), ()), *interval.inputs[1:]))
    check_min_rows(
        replace(plan, sources=sources), interval, replace(plan.sinks[0], path=sink_of(store), **sink), counts, store
    )


def publish(store: StateStore, rows: int) -> None:
    plan = sample_plan()
    with Transaction.begin(
        store,
        plan.sinks[0].name,
        sink_of(store),
        plan.intervals[0].id,
        Attempt("r0", "h", "me", "here", "2024-01-01T00:00:00+00:00"),
    ) as transaction:
        transaction.publish(("dt=1",), Counts(rows_in=rows, scored=rows))


def test_rows_are_published(store):
    check(store, Counts(rows_in=1, scored=1))


@pytest.mark.parametrize("counts", [Counts(), EMPTY, Counts(rows_in=60, dropped=60)])
def test_an_empty_interval_fails_unless_it_is_allowed(store, counts):
    with pytest.raises(
        GateFailed, match=r"FS7005 .*: 0 rows would be published, expected at least one\. .*on_empty: allow"
    ) as caught:
        check(store, counts)
    assert caught.value.exit_code == 3
    check(store, counts, on_empty="allow")


def test_missing_input_that_the_spec_calls_empty_allows_it(store):
    check(store, Counts(), missing=True, on_missing="empty")
    with pytest.raises(GateFailed):
        check(store, Counts(), missing=False, on_missing="empty")  # the files are there, and hold nothing


def test_dead_letters_within_the_budget_allow_it_and_nothing_beside_them(store):
    check(store, ALL_DEAD)
    with pytest.raises(GateFailed):
        check(store, replace(ALL_DEAD, dead_letter=59, quarantined=1))


@pytest.mark.parametrize(("counts", "missing"), [(ALL_DEAD, False), (Counts(), True)])
def test_rows_that_are_published_are_not_replaced_by_none(store, counts, missing):
    publish(store, 0)
    check(store, counts, missing=missing, on_missing="empty")
    publish(store, 7)
    with pytest.raises(GateFailed, match="expected at least one, where 7 are published now"):
        check(store, counts, missing=missing, on_missing="empty")
    check(store, counts, missing=missing, on_missing="empty", on_empty="allow")


def test_fewer_rows_than_min_rows_fail_whatever_else_is_allowed(store):
    check(store, Counts(rows_in=5, scored=5), min_rows=5)
    for counts in (Counts(rows_in=4, scored=4), Counts()):
        with pytest.raises(GateFailed, match=r"expected at least 5 \(`min_rows`\)"):
            check(store, counts, min_rows=5, on_empty="allow")
