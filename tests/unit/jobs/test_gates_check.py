"""Validation of expectations: fast, and without Great Expectations."""

from __future__ import annotations

import subprocess
import sys

import pytest

from firesteel.jobs.gates.check import check_kwargs, known_expectations


def test_known_expectations_are_those_of_great_expectations_and_ours() -> None:
    known = known_expectations()
    assert {"expect_column_values_to_be_between", "expect_column_values_to_be_unique", "row_count_matches"} <= known
    assert len(known) > 50


def test_validation_imports_neither_great_expectations_nor_spark_nor_mlflow() -> None:
    code = (
        "import sys\n"
        "from firesteel.jobs.gates import check_kwargs, known_expectations\n"
        "assert check_kwargs('expect_column_values_to_be_unique', {'column': 'a'}) is None\n"
        "print(sorted({'great_expectations', 'pyspark', 'mlflow'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("type_", "kwargs", "problem"),
    [
        ("expect_column_values_to_be_between", {"column": "p", "min_value": 0, "mostly": 0.9}, None),
        ("expect_column_values_to_be_between", {"column": "p", "description": "a probability"}, None),
        ("expect_table_row_count_to_be_between", {"min_value": 1}, None),
        ("row_count_matches", {"of": "features", "less": "dead_letter"}, None),
        ("row_count_matches", {"of": "features"}, None),
        ("drift", {"column": "p"}, None),
        ("drift", {"psi_max": 0.2}, "drift: missing argument `column`."),
        (
            "expect_column_values_to_be_betwen",
            {"column": "p"},
            "unknown expectation `expect_column_values_to_be_betwen`. Did you mean `expect_column_values_to_be_between`?",
        ),
        (
            "expect_column_values_to_be_between",
            {"column": "p", "min": 0},
            "expect_column_values_to_be_between: unknown argument `min`. Did you mean `min_value`?",
        ),
        ("expect_column_values_to_be_unique", {}, "expect_column_values_to_be_unique: missing argument `column`."),
        (
            "expect_column_values_to_be_in_set",
            {},
            "expect_column_values_to_be_in_set: missing arguments `column`, `value_set`.",
        ),
        (
            "expect_column_values_to_match_like_pattern",
            {"column": "a", "like_pattern": "x%"},
            "expect_column_values_to_match_like_pattern: Great Expectations does not implement it for Spark.",
        ),
        (
            "expect_column_values_to_be_unique",
            {"column": "a", "mostly": 95},
            "expect_column_values_to_be_unique: `mostly` must be a fraction from 0 to 1, not 95.",
        ),
        ("row_count_matches", {"of": "f", "less": "x"}, "row_count_matches: `less` must be dead_letter, not 'x'."),
        ("row_count_matches", {}, "row_count_matches: missing argument `of`."),
    ],
)
def test_check_kwargs_says_what_is_wrong(type_: str, kwargs: dict[str, object], problem: str | None) -> None:
    assert check_kwargs(type_, kwargs) == problem
