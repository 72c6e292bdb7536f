"""Compiled expectations against Great Expectations itself: the same verdict, the same counts, on awkward data."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from decimal import Decimal

import pytest

from firesteel.jobs.gates import run_gate
from firesteel.jobs.gates.compiled import _COMPILERS, compile_expectation
from firesteel.pipelines.plan.model import Expectation, GatePlan

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore:module 'sre_.*' is deprecated:DeprecationWarning"),
]

SCHEMA = "d double, f float, i int, l bigint, s string, m decimal(12,3), `odd name` double"
DOUBLES = [None, 0.0, -0.0, 0.5, 1.0, -3.25, 1e300, math.nan, math.inf, -math.inf]
LONGS = [None, 0, 1, -1, 5, (1 << 53) + 1, -(1 << 53) - 1, (1 << 63) - 1]
TEXTS = [None, "", "a", "JFK", "Zürich", "日本", "a\nb", "𝄞", "N'1", "%_"]


def _row(chance, doubles=DOUBLES):
    some = chance.choice
    decimal = some([None, Decimal("0.5"), Decimal("-3.125"), Decimal("123456789.999")])
    return (
        some(doubles),
        some(DOUBLES),
        some([None, 0, 1, 7]),
        some(LONGS),
        some(TEXTS),
        decimal,
        some([None, 1.0, 2.0]),
    )


FRAMES = {
    "mixed": lambda chance: [_row(chance) for _ in range(120)],
    "finite": lambda chance: [_row(chance, [0.0, 0.5, 1.0, -3.25]) for _ in range(50)],
    "one": lambda chance: [_row(chance)],
    "nulls": lambda _: [(None,) * 7 for _ in range(9)],
    "empty": lambda _: [],
}


def _bounds(chance, values):
    low, high = sorted(chance.sample(values, 2))
    chosen = {"min_value": low, "max_value": high}
    chosen.pop(chance.choice(["min_value", "max_value", "neither"]), None)
    strict = {key: True for key in ("strict_min", "strict_max") if chance.random() < 0.3}
    return {**chosen, **strict}


def _mostly(chance):
    return {} if chance.random() < 0.5 else {"mostly": chance.choice([0, 0.1, 0.5, 0.85, 0.9, 1.0])}


def _expectations(chance, count):
    made = []
    numeric = ["d", "f", "i", "l", "m", "odd name"]
    values = [-4, -1, 0, 0.5, 1, 3, 1e6]
    for _ in range(count):
        kind = chance.choice(sorted(_COMPILERS))
        column = chance.choice([*numeric, "s"])
        if kind.startswith("expect_table_row_count"):
            kwargs = (
                {"value": chance.choice([0, 1, 50, 120])}
                if kind.endswith("equal")
                else _bounds(chance, [0, 1, 50, 120, 200])
            )
        elif "null" in kind or kind.endswith("unique"):
            kwargs = {"column": column, **_mostly(chance)}
        elif "regex" in kind:
            kwargs = {"column": "s", "regex": chance.choice(["^[A-Z]", "a.b", ".*", "ü", "^$"]), **_mostly(chance)}
        elif "lengths_to_equal" in kind:
            kwargs = {"column": "s", "value": chance.choice([0, 1, 3]), **_mostly(chance)}
        elif "lengths" in kind:
            kwargs = {"column": "s", **_bounds(chance, [0, 1, 2, 3, 9]), **_mostly(chance)}
        elif "in_set" in kind:
            text = column == "s"
            pool = ["a", "JFK", "日本", ""] if text else [0, 1, 0.5, -3.25]
            kwargs = {"column": column, "value_set": chance.sample(pool, chance.randint(1, 3)), **_mostly(chance)}
        elif "values_to_be_between" in kind:
            kwargs = {"column": chance.choice(numeric), **_bounds(chance, values), **_mostly(chance)}
        elif "unique_value_count" in kind:
            kwargs = {"column": column, **_bounds(chance, [0, 1, 4, 8, 100])}
        else:
            kwargs = {"column": chance.choice(["d", "f", "i", "l", "odd name"]), **_bounds(chance, values)}
        made.append(Expectation(kind, tuple(sorted(kwargs.items()))))
    return tuple(made)


@pytest.mark.parametrize("name", FRAMES)
def test_the_same_verdict_and_counts_as_great_expectations(name, spark):
    seed = f"firesteel {name}"
    chance = random.Random(seed)
    frame = spark.createDataFrame(FRAMES[name](chance), SCHEMA)
    expectations = _expectations(chance, 70)
    gate = GatePlan("g", "flights", expectations)
    compiled = sum(compile_expectation(each, frame.schema) is not None for each in expectations)
    assert compiled > 55, "most of them are compiled, or this compares nothing"
    ours, theirs = (run_gate(gate, frame, compiled=each) for each in (True, False))
    for expectation, one, other in zip(expectations, ours.expectations, theirs.expectations, strict=True):
        assert _rounded(one) == _rounded(other), (seed, expectation)


def _rounded(result):
    """Sums of floats differ in the last digits with the order of the rows; Great Expectations counts None of no rows."""
    value = result.observed
    counted = 0 if result.element_count == 0 and result.unexpected_count is None else result.unexpected_count
    rounded = float(f"{value:.9g}") if isinstance(value, float) else value
    return replace(result, observed=rounded, unexpected_count=counted)


@pytest.mark.parametrize(
    "expectation",
    [
        Expectation("expect_column_values_to_be_between", (("column", "s"), ("min_value", 0))),
        Expectation("expect_column_values_to_be_between", (("column", "l"), ("min_value", (1 << 53) + 1))),
        Expectation("expect_column_values_to_be_between", (("column", "d"), ("max_value", 0), ("min_value", 1))),
        Expectation("expect_column_values_to_be_between", (("column", "d"), ("max_value", True))),
        Expectation("expect_column_values_to_be_in_set", (("column", "d"), ("value_set", ("a",)))),
        Expectation("expect_column_values_to_not_be_null", (("column", "d"), ("row_condition", "i > 0"))),
        Expectation("expect_column_values_to_not_be_null", (("column", "nope"),)),
        Expectation("expect_compound_columns_to_be_unique", (("column_list", ("d", "s")),)),
    ],
)
def test_what_would_not_be_the_same_is_left_to_great_expectations(expectation, spark):
    assert compile_expectation(expectation, spark.createDataFrame([], SCHEMA).schema) is None


def test_a_pattern_that_java_refuses_is_named_by_great_expectations(spark):
    from firesteel.conf.errors import GateFailed

    frame = spark.createDataFrame([(1.0, 1.0, 1, 1, "a", None, 1.0)], SCHEMA)
    good = Expectation("expect_column_values_to_not_be_null", (("column", "d"),))
    bad = Expectation("expect_column_values_to_match_regex", (("column", "s"), ("regex", "^s[0-3")))
    with pytest.raises(GateFailed, match="FS7003 .*match_regex on `s` cannot be evaluated: Spark raised PatternSyntax"):
        run_gate(GatePlan("g", "flights", (good, bad)), frame)
