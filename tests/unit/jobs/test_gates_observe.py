"""Results of Great Expectations become JSON that holds no rows."""

from __future__ import annotations

import datetime as dt
import decimal
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firesteel.jobs.gates.gx import RawResult
from firesteel.jobs.gates.observe import column_of, one_line, result_of, to_json
from firesteel.jobs.gates.render import percent, render_expected, render_observed
from firesteel.pipelines.plan.model import Expectation
from firesteel.pipelines.result import ExpectationResult


def expectation(kind: str, /, **kwargs) -> Expectation:
    return Expectation(kind, tuple(sorted(kwargs.items())))


def test_row_wise_results_observe_the_fraction_that_mostly_is_compared_with() -> None:
    raw = RawResult(True, {"element_count": 1000, "unexpected_count": 12, "missing_count": 400})
    result = result_of(expectation("expect_column_values_to_be_between", column="p", min_value=0), raw)
    assert (result.observed, result.element_count, result.unexpected_count) == (0.98, 1000, 12)
    assert result.note == "400 nulls not checked"
    assert result.column == "p"


def test_values_of_string_columns_do_not_get_into_results() -> None:
    largest = result_of(
        expectation("expect_column_max_to_be_between", column="s"), RawResult(False, {"observed_value": "Jane Doe"})
    )
    common = result_of(
        expectation("expect_column_most_common_value_to_be_in_set", column="s"),
        RawResult(False, {"observed_value": ["Jane Doe", "John Roe"]}),
    )
    rows = result_of(
        expectation("unexpected_rows_expectation"),
        RawResult(False, {"observed_value": 2, "details": {"unexpected_rows": [{"name": "Jane Doe"}]}}),
    )
    assert (largest.observed, common.observed, rows.observed) == ("(text)", {"distinct_values": 2}, 2)
    assert not any("Jane" in repr(each) for each in (largest, common, rows))


def test_types_and_column_names_are_not_values() -> None:
    kind = result_of(
        expectation("expect_column_values_to_be_of_type", column="x"), RawResult(True, {"observed_value": "DoubleType"})
    )
    columns = result_of(
        expectation("expect_table_columns_to_match_set"), RawResult(True, {"observed_value": ["a", "b"]})
    )
    assert (kind.observed, columns.observed) == ("DoubleType", ["a", "b"])


def test_numpy_values_dates_and_decimals_become_json() -> None:
    value = {
        "success_details": [np.True_, np.False_],
        "values": np.array([1.5, float("nan")]),
        "day": dt.date(2013, 6, 1),
        "sum": decimal.Decimal("1.5"),
        "set": {"b", "a"},
        "inf": -math.inf,
    }
    assert to_json(value) == {
        "success_details": [True, False],
        "values": [1.5, "NaN"],
        "day": "2013-06-01",
        "sum": 1.5,
        "set": ["a", "b"],
        "inf": "-Infinity",
    }


JSON_LIKE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.floats().map(np.float64)
    | st.booleans().map(np.bool_),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=10,
)


@given(JSON_LIKE)
def test_everything_becomes_strict_json(value) -> None:
    text = json.dumps(to_json(value), allow_nan=False)
    assert to_json(json.loads(text)) == json.loads(text)


@pytest.mark.parametrize(
    ("cause", "line"),
    [
        ('Error: The column "nope" in BatchData does not exist.', 'The column "nope" in BatchData does not exist'),
        (
            "[CAST_INVALID_INPUT] The value 'Jane Doe' of the type \"STRING\" cannot be cast.",
            "Spark raised CAST_INVALID_INPUT",
        ),
        (
            "[UNRESOLVED_COLUMN.WITH_SUGGESTION] A column with name `nope` cannot be resolved. SQLSTATE: 42703",
            "UNRESOLVED_COLUMN.WITH_SUGGESTION: A column with name `nope` cannot be resolved",
        ),
        (
            "calling o1.collect.\n: org.apache.spark.SparkException: Job aborted\nCaused by: java.util.regex.PatternSyntaxException: x",
            "Spark raised PatternSyntaxException",
        ),
        (
            "5 validation errors for ExpectX\nmin_value\n  value is not a valid float (type=type_error.float)\n",
            "min_value: value is not a valid float",
        ),
        ("", "no reason given"),
    ],
)
def test_a_cause_is_one_line_without_the_values_that_spark_quotes(cause: str, line: str) -> None:
    assert one_line(cause) == line


def test_columns_of_an_expectation() -> None:
    assert column_of({"column": "a"}) == "a"
    assert column_of({"column_A": "a", "column_B": "b"}) == "a, b"
    assert column_of({"column_list": ["a", "b"]}) == "a, b"
    assert column_of({"value": 3}) == ""


@pytest.mark.parametrize(
    ("given_", "words"),
    [
        (expectation("expect_column_values_to_be_between", column="p", min_value=0, max_value=1), "0 to 1"),
        (
            expectation("expect_column_values_to_be_between", column="p", min_value=0, strict_min=True, mostly=0.95),
            "above 0, at least 95 % of rows",
        ),
        (expectation("expect_column_values_to_be_unique", column="id"), "all rows"),
        (expectation("expect_column_values_to_be_in_set", column="o", value_set=["JFK", "LGA"]), "value set JFK, LGA"),
        (
            expectation("row_count_matches", of="features", less="dead_letter"),
            "row count of features minus dead letters",
        ),
        (expectation("expect_column_values_to_be_of_type", column="x", type_="DoubleType"), "type DoubleType"),
    ],
)
def test_expected_in_words(given_: Expectation, words: str) -> None:
    assert render_expected(given_) == words


def test_observed_in_words() -> None:
    failed = ExpectationResult(
        "t", "c", "critical", success=False, observed=0.988, element_count=1000, unexpected_count=12
    )
    passed = ExpectationResult("t", "c", "critical", success=True, observed=1.0, element_count=1000, unexpected_count=0)
    empty = ExpectationResult("t", "c", "critical", success=True, observed=None, element_count=0, unexpected_count=0)
    assert render_observed(failed) == "12 of 1,000 rows fail (1.2 %)"
    assert render_observed(passed) == "all 1,000 rows pass"
    assert render_observed(empty) == "no rows"


def test_a_percentage_between_none_and_all_never_reads_as_none_or_all() -> None:
    assert percent(0.0) == "0 %"
    assert percent(1.0) == "100 %"
    assert percent(0.00001) == "0.001 %"
    assert percent(0.99999) == "99.999 %"
    assert percent(0.5) == "50 %"
