"""The drift gate without Spark: its index, its bins, its verdicts and its words."""

from __future__ import annotations

import json
import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import entropy

from firesteel.conf.errors import GateFailed
from firesteel.jobs.gates import raise_if_failed
from firesteel.jobs.gates.bins import TOP, code_of, edges_of
from firesteel.jobs.gates.drift import Baseline, DriftChecks, NoBaseline, comparison_problem, differences
from firesteel.jobs.gates.measure import Measurement
from firesteel.jobs.gates.psi import psi
from firesteel.jobs.gates.render import render_expected, render_observed
from firesteel.jobs.gates.values import profile_of
from firesteel.jobs.run.baselines import LOOK_BACK, Baselines
from firesteel.jobs.tracking.metrics import interval_metrics
from firesteel.pipelines.plan.model import Expectation, GatePlan
from firesteel.pipelines.profile import Profile
from firesteel.pipelines.publish.ledger import Ledger
from firesteel.pipelines.publish.recover import recover
from firesteel.pipelines.publish.rollback import rollback
from firesteel.pipelines.publish.transaction import Transaction
from firesteel.pipelines.result import GateResult, IntervalResult
from support.publishing import COUNTS, SINK, area_of, attempt_of, sink_of, stage

ON = "sink:scores"


def drift(column="p", severity="critical", **limits) -> Expectation:
    given_ = {"against": "last_success", "rows_min": 500, "column": column, **limits}
    return Expectation("drift", tuple(sorted(given_.items())), severity)


def profile(values, kind="double", then: Profile | None = None, least_rows=500) -> Profile:
    arrow = {"double": pa.float64(), "string": pa.string(), "boolean": pa.bool_(), "date": pa.date32()}[kind]
    wanted = Measurement(ON, "p", kind, then.bins if then else None, then.bin_rows if then else 0)
    return profile_of(wanted, [pa.chunked_array([pa.array(list(values), arrow)])], least_rows=least_rows)


def judged(now, then, expectation=None):
    baseline = NoBaseline(then) if isinstance(then, str) else Baseline(then, "2024-01-01")
    return DriftChecks(lambda _on, _column: baseline).judge(expectation or drift(psi_max=0.2), now)


def test_the_index_is_what_a_hand_computes():
    # 20, 30, 50 of 100 against 30, 30, 40 of 100, with half a row more in each bin.
    then, now = [20.5 / 101.5, 30.5 / 101.5, 50.5 / 101.5], [30.5 / 101.5, 30.5 / 101.5, 40.5 / 101.5]
    by_hand = (now[0] - then[0]) * math.log(30.5 / 20.5) + (now[2] - then[2]) * math.log(40.5 / 50.5)
    assert psi([20, 30, 50], [30, 30, 40]) == pytest.approx(by_hand, abs=1e-15)
    assert psi([20, 30, 50], [30, 30, 40]) == pytest.approx(0.06088, abs=5e-6)
    assert psi([20, 30, 0, 50], [30, 30, 0, 40]) == psi([20, 30, 50], [30, 30, 40])
    assert psi([], []) == 0


@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 10_000)), min_size=1, max_size=25))
def test_the_index_is_both_relative_entropies_of_scipy(pairs):
    pairs = [pair for pair in pairs if any(pair)]
    then, now = [[pair[side] + 0.5 for pair in pairs] for side in (0, 1)]
    wanted = entropy(now, then) + entropy(then, now) if pairs else 0.0
    assert psi([a for a, _ in pairs], [b for _, b in pairs]) == pytest.approx(wanted, rel=1e-9, abs=1e-12)


def test_by_chance_it_is_about_bins_over_rows():
    seed = np.random.default_rng(11)
    found = [psi(*seed.multinomial(1000, [0.1] * 10, size=2)) for _ in range(400)]
    assert np.mean(found) == pytest.approx(9 * (1 / 1000 + 1 / 1000), rel=0.1)
    smallest = [psi(*seed.multinomial(500, [0.1] * 10, size=2)) for _ in range(400)]
    assert max(smallest) < 0.2, "with the fewest rows that are compared, chance alone does not reach the limit"


def test_a_profile_counts_nulls_nans_and_infinities_apart():
    values = [*np.linspace(0, 1, 1000), None, None, math.nan, math.inf, -math.inf, -math.inf]
    found = profile(values)
    assert (found.rows, found.nulls, found.nans, found.values) == (1006, 2, 1, 1003)
    assert (len(found.bins), found.bin_rows, sum(found.counts)) == (9, 1003, 1003)
    assert found.counts[0] == 102  # a tenth of the finite values, and what is below all
    assert found.counts[-1] == 101
    assert (found.mean, found.std) == (pytest.approx(0.5), pytest.approx(np.std(np.linspace(0, 1, 1000), ddof=1)))
    json.dumps(found.bins, allow_nan=False)


@pytest.mark.parametrize(
    ("values", "bins"),
    [
        ([3.0] * 600, (math.nextafter(3, 0), 3.0)),
        ([0.0] * 300 + [1.0] * 300, (-5e-324, 0.0, 1.0)),
        ([None] * 600, ()),
        ([math.nan] * 600, ()),
        ([math.inf] * 600, ()),
        ([-0.0] * 600, (-5e-324, 0.0)),
        ([1.0] * 499, ()),
    ],
)
def test_bins_of_odd_columns(values, bins):
    found = profile(values)
    assert found.bins == bins
    assert len(found.counts) == (len(bins) + 1 if len(values) >= 500 else 0)


def test_the_largest_double_makes_no_infinite_edge_and_no_infinite_moment():
    found = profile([-1.7e308] * 300 + [1.7e308] * 300)
    assert all(math.isfinite(edge) for edge in found.bins)
    assert found.mean is None or math.isfinite(found.mean)
    assert found.std is None
    assert edges_of([-1.7976931348623157e308], -1.7976931348623157e308) == (-1.7976931348623157e308,)


def test_categories_are_counted_by_code_and_the_rest_together():
    values = [f"c{number}" for number in range(25) for _ in range(60 - number)] + [None] * 7
    found = profile(values, "string")
    assert found.bins == tuple(float(code_of(f"c{number}")) for number in range(TOP))
    assert found.counts == (*(60 - number for number in range(TOP)), sum(60 - number for number in range(TOP, 25)))
    assert "c1" not in json.dumps(found.bins)
    later = profile([*values, *(["new"] * 1000)], "string", found)
    assert later.bins == found.bins
    assert later.counts[-1] == found.counts[-1] + 1000
    assert profile([True] * 400 + [False] * 200, "boolean").counts == (400, 200, 0)
    assert profile([True] * 400 + [False] * 200, "boolean").bins == (float(code_of("true")), float(code_of("false")))


def test_the_same_column_has_not_drifted_and_another_has():
    seed = np.random.default_rng(3)
    then = profile(seed.normal(size=2000))
    same = judged(profile(seed.normal(size=2000), then=then), then)
    assert (same.success, same.note) == (True, "baseline 2024-01-01")
    assert same.observed["psi"] < 0.05
    moved = judged(profile(seed.normal(1, 1, size=2000), then=then), then)
    assert (moved.success, moved.note) == (False, "baseline 2024-01-01; PSI above limit")
    assert moved.observed["psi"] > 0.5
    assert moved.observed["mean_shift"] == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(
    ("limits", "values", "note"),
    [
        ({"mean_shift_max": 0.5}, lambda x: x + 0.4, None),
        ({"mean_shift_max": 0.5}, lambda x: x + 0.6, "mean shift above limit"),
        ({"mean_shift_max": 0.5}, lambda x: x * math.nan, "mean shift above limit"),
        ({"null_rate_max_change": 0.1}, lambda x: x + 9, None),
        (
            {"null_rate_max_change": 0.1},
            lambda x: [None if n % 9 == 0 else v for n, v in enumerate(x)],
            "null rate change above limit",
        ),
        ({"psi_max": 0.2}, lambda x: [None] * len(x), "PSI above limit"),
        ({"psi_max": 0.2}, lambda x: x * math.nan, "PSI above limit"),
        ({"psi_max": 0.2}, lambda x: x * math.inf, "PSI above limit"),
        ({"psi_max": 9, "mean_shift_max": 9}, lambda x: x, None),
    ],
)
def test_each_limit_finds_its_own_change(limits, values, note):
    then = profile(np.random.default_rng(1).normal(size=1000))
    now = profile(values(np.random.default_rng(2).normal(size=1000)), then=then)
    found = judged(now, then, drift(**limits))
    assert found.success == (note is None)
    assert note is None or note in found.note
    json.dumps(found.observed, allow_nan=False)
    assert "nan" not in render_observed(found)


def test_a_constant_that_stays_is_no_drift_and_one_that_moves_either_way_is():
    then = profile([0.1] * 700)
    for value, stays in ((0.1, True), (0.1 + 1e-15, True), (0.2, False), (0.05, False)):
        now = profile([value] * 700, then=then)
        assert judged(now, then, drift(mean_shift_max=3)).success == stays
        if value != 0.1 + 1e-15:
            assert judged(now, then).success == stays


@pytest.mark.parametrize(
    ("now", "then", "note"),
    [
        (profile([1.0] * 700), "this is the first success", "no baseline: this is the first success"),
        (
            profile([1.0] * 700),
            profile(["a"] * 700, "string"),
            "no baseline: the type was string in 2024-01-01 and is double",
        ),
        (profile([]), profile([1.0] * 700), "not compared: 0 rows in this interval, fewer than 500"),
        (profile([5.0] * 499), profile([1.0] * 700), "not compared: 499 rows in this interval, fewer than 500"),
        (profile([5.0] * 700), profile([1.0] * 499), "not compared: 499 rows in 2024-01-01, fewer than 500"),
    ],
)
def test_what_cannot_be_compared_passes_and_says_so(now, then, note):
    found = judged(now, then)
    assert (found.success, found.note) == (True, note)
    assert render_observed(found) == f"{now.rows:,} rows"


def test_bins_of_a_column_that_was_empty_are_made_anew_and_values_nulls_and_nans_compared_till_then():
    then = profile([None] * 700)
    drifts = DriftChecks(lambda _on, _column: Baseline(then, "2024-01-01"))
    gate = GatePlan("g", ON, (drift(psi_max=0.2),))
    wanted = drifts.measurements(gate, {"p": "double"})["p"]
    assert wanted.bins is None
    now = profile_of(wanted, [pa.chunked_array([pa.array(np.arange(900.0))])], least_rows=500)
    assert (len(now.bins), now.bin_rows) == (9, 900)
    found = drifts.judge(gate.expectations[0], now)
    assert not found.success
    assert found.observed["psi"] == pytest.approx(psi([0, 0, 700], [900, 0, 0]), rel=1e-5)
    assert drifts.profiles == {(ON, "p"): now}


def test_bins_are_those_of_the_first_success_for_good():
    seed = np.random.default_rng(8)
    first = profile(seed.normal(size=900))
    second = profile(seed.normal(0.2, 1, size=900), then=first)
    third = profile(seed.normal(0.4, 1, size=900), then=second)
    assert first.bins == second.bins == third.bins
    assert (third.bin_rows, third.rows) == (900, 900)


def test_other_types_have_nulls_only():
    then, now = profile([None] * 70 + [0] * 630, "date"), profile([None] * 700, "date")
    assert differences(then, now) == {"null_rate": 1.0, "null_rate_was": 0.1, "rows": 700, "rows_was": 700}
    assert not judged(now, then, drift(null_rate_max_change=0.5)).success
    assert "type date supports only `null_rate_max_change`" in comparison_problem(drift(psi_max=0.1), "date")
    assert "a boolean has no mean" in comparison_problem(drift(mean_shift_max=0.1), "boolean")
    assert comparison_problem(drift(psi_max=0.1), None) == "the column does not exist"
    assert comparison_problem(drift(psi_max=0.1, mean_shift_max=1), "decimal(10,2)") is None


def test_words_name_limits_and_numbers():
    expectation = drift(psi_max=0.2, null_rate_max_change=0.05, mean_shift_max=0.5)
    assert render_expected(expectation) == (
        "PSI at most 0.2, null rate change at most 5 %, mean shift at most 0.5 standard deviations against the last success"
    )
    then = profile(np.tile([1.0, 2.0, 3.0, 4.0], 200))
    found = judged(profile([*np.tile([3.0, 4.0], 400), *([None] * 8)], then=then), then, expectation)
    gate = GateResult("output_ok", ON, success=False, expectations=(found,))
    with pytest.raises(
        GateFailed,
        match=r"FS7001.*drift on p: PSI [\d.]+, null rate 1 % \(baseline 0 %\), mean 3\.5 \(baseline 2\.5, shift 0\.894",
    ):
        raise_if_failed(gate, GatePlan("output_ok", ON, (expectation,)))
    metrics = interval_metrics(IntervalResult("i", "failed", "", "", gates=(gate,)))
    assert metrics["drift.output_ok.p.psi"] == found.observed["psi"] > 0.2
    assert metrics["drift.output_ok.p.mean_shift"] == pytest.approx(0.894, abs=1e-3)
    assert "drift.output_ok.p.rows" not in metrics


class Died(BaseException):
    """A driver that is gone: nothing is cleaned up after it."""


def publish(root_uri, day, profiles, run_id="r", die_at=""):
    def on_event(event):
        if event.kind == die_at:
            raise Died

    store, interval = area_of(root_uri), f"2024-01-{day:02}"
    with Transaction.begin(
        store,
        SINK,
        sink_of(root_uri),
        interval,
        attempt_of(run_id),
        on_event=on_event,
        lease_ttl_s=0.0 if die_at else 60.0,
    ) as transaction:
        stage(transaction, store.storage, {f"dt={interval}/part-0": run_id})
        return transaction.publish((f"dt={interval}",), COUNTS, profiles=profiles)


def baseline(root_uri, day, column="p"):
    return Baselines(Ledger(area_of(root_uri)), SINK, f"2024-01-{day:02}").baseline(ON, column)


def test_compared_with_is_the_newest_success_before_the_interval_with_a_profile(tmp_path):
    root = f"file://{tmp_path}"
    p = profile(np.arange(600.0))
    assert baseline(root, 3) == NoBaseline("this is the first success")
    publish(root, 1, (p,))
    assert baseline(root, 3) == Baseline(p, "2024-01-01")
    assert baseline(root, 1) == Baseline(p, "2024-01-01"), "there is nothing before it: its own last success"
    assert baseline(root, 3, "q") == NoBaseline("2024-01-01 was published without a profile of it")
    publish(root, 2, ())  # too few rows, say
    assert baseline(root, 3) == Baseline(p, "2024-01-01")
    later = profile(np.arange(700.0))
    publish(root, 5, (later,))
    assert baseline(root, 3) == Baseline(p, "2024-01-01")
    assert baseline(root, 6) == Baseline(later, "2024-01-05")
    for day in range(6, 6 + LOOK_BACK):
        publish(root, day, ())
    assert baseline(root, 6 + LOOK_BACK) == NoBaseline(
        f"2024-01-{5 + LOOK_BACK:02} was published without a profile of it"
    )


def test_a_profile_goes_with_what_it_describes_through_rollback_and_recovery(tmp_path):
    root, store = f"file://{tmp_path}", area_of(f"file://{tmp_path}")
    old, new = profile(np.arange(600.0)), profile(np.arange(700.0))
    publish(root, 1, (old,))
    publish(root, 1, (new,), "r2")
    assert baseline(root, 2).profile == new
    rollback(store, SINK, sink_of(root), "2024-01-01", attempt_of("back"))
    assert baseline(root, 2).profile == old
    with pytest.raises(Died):
        publish(root, 2, (new,), "r3", die_at="journaled")
    assert baseline(root, 3).profile == old
    recover(store, SINK, sink_of(root), "2024-01-02", lease_ttl_s=0.0)
    assert baseline(root, 3) == Baseline(new, "2024-01-02")
