"""Gates run SQL and conditions of the spec, too: they read only the checked rows, and give the same verdict in every run."""

from __future__ import annotations

import pytest

from firesteel.conf.errors import GateFailed, SpecErrors
from firesteel.jobs.backend import SparkBackend
from firesteel.jobs.gates.check import check_kwargs
from firesteel.jobs.gates.run import run_gate
from firesteel.pipelines import Pipeline
from firesteel.pipelines.plan.model import Expectation, GatePlan
from support.specs import FixedBackend, example

BETWEEN, UNIQUE, QUERY = (
    "expect_column_values_to_be_between",
    "expect_column_values_to_be_unique",
    "unexpected_rows_expectation",
)


def spark_condition(text: str) -> tuple[str, dict[str, object]]:
    return UNIQUE, {"column": "a", "row_condition": text, "condition_parser": "spark"}


def rows_query(text: str) -> tuple[str, dict[str, object]]:
    return QUERY, {"unexpected_rows_query": text}


HOSTILE = [
    rows_query("SELECT b.* FROM {batch} b, parquet.`/etc` o"),
    rows_query("SELECT * FROM {batch} WHERE rand() < 0.5"),
    rows_query("SELECT * FROM {batch} WHERE dt < current_date"),
    rows_query("SELECT * FROM {batch} WHERE reflect('java.lang.System', 'exit', 1) = 1"),
    rows_query("SELECT * FROM {batch} WHERE a IN (SELECT a FROM other.t)"),
    rows_query("SELECT * FROM {batch} JOIN flights USING (a)"),
    rows_query("DROP TABLE {batch}"),
    rows_query("SELECT * FROM {batch}; SELECT 1"),
    rows_query("SELECT * FROM {batch} WHERE a = '{batch.__class__}'"),
    rows_query("SELECT * FROM {batch:>99999999999}"),
    rows_query("SELECT * FROM {other}"),
    spark_condition("rand() < 0.5"),
    spark_condition("a IN (SELECT a FROM parquet.`/etc`)"),
    spark_condition("a IN (SELECT a FROM flights)"),
    spark_condition("java_method('java.lang.System', 'nanoTime') > 0"),
    spark_condition("a > 0) UNION SELECT * FROM other.t WHERE (1 = 1"),
    spark_condition("dt < to_date('today') -- x"),
    (UNIQUE, {"column": "a", "row_condition": {"type": "pass_through", "pass_through_filter": "rand() < 1"}}),
    (
        UNIQUE,
        {
            "column": "a",
            "row_condition": {
                "type": "and",
                "conditions": [
                    {"type": "nullity", "column": {"name": "a"}, "is_null": False},
                    {"type": "pass_through", "pass_through_filter": "a IN (SELECT 1 FROM other.t)"},
                ],
            },
        },
    ),
    (
        UNIQUE,
        {
            "column": "a",
            "row_condition": {"type": "comparison", "column": {"name": "dt"}, "operator": "<", "parameter": "today"},
        },
    ),
    (
        UNIQUE,
        {"column": "a", "row_condition": 'col("dt") == date("yesterday")', "condition_parser": "great_expectations"},
    ),
    (BETWEEN, {"column": "dt", "min_value": "yesterday"}),
    (BETWEEN, {"column": "a", "max_value": {"$PARAMETER": "now()"}}),
    ("expect_column_values_to_match_json_schema", {"column": "a", "json_schema": {"$ref": "http://other/x.json"}}),
]


@pytest.mark.parametrize(("type_", "kwargs"), HOSTILE)
def test_a_gate_that_reads_other_data_or_differs_in_each_run_is_refused(type_, kwargs):
    assert check_kwargs(type_, kwargs)


@pytest.mark.parametrize(
    ("type_", "kwargs"),
    [
        rows_query("SELECT * FROM {batch} WHERE a > 1 AND b = 'today'"),
        rows_query("SELECT a FROM {batch} x WHERE a IN (SELECT max(a) FROM {batch}) AND b RLIKE 'x{{2}}'"),
        spark_condition("a > 0 AND b IN ('now', 'later')"),
        (UNIQUE, {"column": "a", "row_condition": 'col("b") == "x"', "condition_parser": "great_expectations"}),
        (BETWEEN, {"column": "a", "min_value": 0, "max_value": "2024-01-01"}),
        ("expect_column_values_to_match_json_schema", {"column": "a", "json_schema": {"$ref": "#/definitions/x"}}),
    ],
)
def test_conditions_on_the_checked_rows_are_accepted(type_, kwargs):
    assert check_kwargs(type_, kwargs) is None


class _Backend(FixedBackend):
    check_expectation = SparkBackend.check_expectation


def test_validate_refuses_it_at_its_line(tmp_path):
    old = "- {type: expect_column_values_to_be_unique, column: flight_id}"
    new = old.replace("flight_id", "flight_id, row_condition: rand() < 0.5, condition_parser: spark")
    path = example(tmp_path, **{old: new})
    with pytest.raises(SpecErrors) as caught:
        Pipeline.load(path, params={"root": f"file://{tmp_path}"}, backend=_Backend())
    (error,) = caught.value.errors
    line = next(number for number, text in enumerate(path.read_text().splitlines(), 1) if "rand()" in text)
    assert (error.code, error.where.line, "rand()" in error.what) == ("FS7003", line, True)


def test_a_run_refuses_the_gate_of_an_edited_plan():
    type_, kwargs = HOSTILE[0]
    gate = GatePlan("g", "flights", (Expectation(type_, tuple(kwargs.items())),))
    with pytest.raises(GateFailed, match="FS7003"):
        run_gate(gate, None)
