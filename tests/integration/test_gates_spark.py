"""Gates on real Spark frames, by the real Great Expectations."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from dataclasses import asdict

import pytest
from pyspark.sql import DataFrame, SparkSession

from firesteel.conf.errors import GateFailed
from firesteel.jobs.gates import distribution, raise_if_failed, run_gate
from firesteel.jobs.gates.catalogue import catalogue, from_registry, render
from firesteel.pipelines.plan.model import Expectation, GatePlan
from firesteel.pipelines.result import Counts

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore:module 'sre_.*' is deprecated:DeprecationWarning"),
]


@pytest.fixture(scope="module")
def spark(spark: SparkSession) -> SparkSession:
    """A session of this module's own over the shared context."""
    return spark.newSession()


@pytest.fixture(scope="module")
def frame(spark: SparkSession) -> DataFrame:
    """1,000 rows: `x` null every 7th, `y` NaN once, `name` five values."""
    rows = [
        (i, float(i) if i % 7 else None, float("nan") if i == 3 else i / 1000, f"Jane {i % 5}") for i in range(1000)
    ]
    return spark.createDataFrame(rows, "id long, x double, y double, name string")


def expect(kind: str, severity: str = "critical", /, **kwargs) -> Expectation:
    return Expectation(kind, tuple(sorted(kwargs.items())), severity)  # type: ignore[arg-type]


def gate(*expectations: Expectation) -> GatePlan:
    return GatePlan("output_ok", "sink:scores", expectations)


def test_the_table_of_expectations_is_the_installed_great_expectations() -> None:
    assert render(catalogue()) == render(from_registry()), "run python -m firesteel.jobs.gates.catalogue"


def test_warming_up_in_python_c_does_not_end_the_process() -> None:
    """Without grpc, pyspark answers Great Expectations' probe of Spark Connect by `sys.exit(0)`."""
    code = "from firesteel.jobs.gates import warm_up; warm_up(); print('alive')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "alive\n"


def test_results_stand_in_the_order_of_the_plan_with_their_counts(frame: DataFrame) -> None:
    plan = gate(
        expect("expect_column_values_to_be_between", column="y", min_value=0, max_value=1),
        expect("expect_column_values_to_be_unique", column="id"),
        expect("expect_column_values_to_be_between", "warning", column="y", min_value=0, max_value=1, mostly=0.9),
        expect("expect_column_values_to_not_be_null", column="x", mostly=0.8),
        expect("row_count_matches", of="features", less="dead_letter"),
    )
    result = run_gate(plan, frame, row_counts={"features": 1003}, counts=Counts(dead_letter=3))
    assert [expectation.type for expectation in result.expectations] == [
        expectation.type for expectation in plan.expectations
    ]
    assert [expectation.success for expectation in result.expectations] == [False, True, True, True, True]
    assert [expectation.unexpected_count for expectation in result.expectations] == [1, 0, 1, 143, None]
    assert [expectation.element_count for expectation in result.expectations] == [1000, 1000, 1000, 1000, None]
    assert result.expectations[3].observed == 0.857
    assert result.expectations[4].observed == 1000
    assert not result.success


def test_a_warning_that_fails_does_not_fail_the_gate(frame: DataFrame) -> None:
    result = run_gate(gate(expect("expect_column_values_to_not_be_null", "warning", column="x")), frame)
    assert result.success
    assert not result.expectations[0].success
    raise_if_failed(result)


def test_results_are_strict_json_and_the_same_twice(frame: DataFrame) -> None:
    plan = gate(
        expect(
            "expect_column_quantile_values_to_be_between",
            column="x",
            quantile_ranges={"quantiles": [0.1], "value_ranges": [[0, 200]]},
        ),
        expect(
            "expect_column_kl_divergence_to_be_less_than",
            column="x",
            threshold=0.1,
            partition_object={"bins": [0, 500, 1000], "weights": [0.5, 0.5]},
        ),
        expect("expect_column_mean_to_be_between", column="y", min_value=0),
        expect("expect_column_values_to_be_of_type", column="x", type_="DoubleType"),
    )
    first, second = run_gate(plan, frame), run_gate(plan, frame, cache=False)
    assert json.dumps([asdict(expectation) for expectation in first.expectations], allow_nan=False)
    assert first.expectations == second.expectations


@pytest.mark.parametrize(
    ("expectation", "says"),
    [
        (
            expect("expect_column_values_to_be_unique", column="nope"),
            'on `nope` cannot be evaluated: The column "nope" in BatchData',
        ),
        (
            expect("expect_column_values_to_match_regex", column="name", regex="^s[0-3"),
            "Spark raised PatternSyntaxException",
        ),
        (expect("expect_column_values_to_be_between", column="name", min_value=0), "StringType()"),
        (
            expect("expect_column_values_to_be_between", column="x", min_value="a"),
            "min_value: value is not a valid float",
        ),
        (
            expect("expect_column_values_to_be_betwen", column="x"),
            "unknown expectation `expect_column_values_to_be_betwen`",
        ),
        (expect("row_count_matches", of="other"), "there is no row count of `other` (available: features)"),
        (
            expect("unexpected_rows_expectation", unexpected_rows_query="SELECT CAST(name AS INT) FROM {batch}"),
            "Spark raised CAST_INVALID_INPUT",
        ),
    ],
)
def test_what_cannot_be_evaluated_fails_and_says_why(
    frame: DataFrame,
    expectation: Expectation,
    says: str,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(GateFailed) as caught:
        run_gate(gate(expectation), frame, row_counts={"features": 1})
    assert caught.value.code == "FS7003"
    assert f"gate output_ok on sink:scores: {expectation.type}" in caught.value.what
    assert says in caught.value.what
    assert "\n" not in caught.value.what
    out, err = capfd.readouterr()
    assert "Jane" not in caught.value.what + caplog.text + out + err


def test_a_query_sees_the_frame_and_leaves_the_sessions_views_alone(spark: SparkSession, frame: DataFrame) -> None:
    spark.range(5).createOrReplaceTempView("tmp_view")
    result = run_gate(
        gate(expect("unexpected_rows_expectation", unexpected_rows_query="SELECT * FROM {batch} WHERE id > 989")), frame
    )
    assert not result.success
    assert result.expectations[0].observed == 10
    assert "Jane" not in repr(result)
    assert spark.table("tmp_view").count() == 5
    spark.catalog.dropTempView("tmp_view")
    run_gate(
        gate(expect("unexpected_rows_expectation", unexpected_rows_query="SELECT * FROM {batch} WHERE id < 0")), frame
    )
    assert not spark.catalog.tableExists("tmp_view")


def test_an_empty_frame_passes_row_wise_expectations(spark: SparkSession) -> None:
    empty = spark.createDataFrame([], "id long, x double")
    result = run_gate(
        gate(expect("expect_column_values_to_be_unique", column="id"), expect("row_count_matches", of="features")),
        empty,
        row_counts={"features": 0},
    )
    assert result.success
    assert result.expectations[0].observed is None


def test_nothing_stays_cached_and_the_session_is_as_it_was(spark: SparkSession, frame: DataFrame) -> None:
    cached = spark.sparkContext._jsc.getPersistentRDDs
    before, kept = dict(spark.conf.getAll), set(cached())
    run_gate(gate(expect("expect_column_values_to_be_unique", column="id")), frame)
    assert set(cached()) == kept  # others of this session may have kept something
    assert dict(spark.conf.getAll) == before
    assert logging.getLogger("SQLQueryContextLogger").level == logging.NOTSET


def test_the_callers_great_expectations_context_stays_current(frame: DataFrame) -> None:
    import great_expectations
    from great_expectations.data_context.data_context.context_factory import project_manager

    mine = great_expectations.get_context(mode="ephemeral")
    run_gate(gate(expect("expect_column_values_to_be_unique", column="id")), frame)
    assert project_manager.get_current_project() is mine


def test_distribution_counts_every_finite_value_once(frame: DataFrame) -> None:
    found = dict(distribution(frame, ["x", "y", "name"], 10))
    assert set(found) == {"x", "y"}
    y = found["y"]
    assert (y["rows"], y["nulls"], y["not_finite"], y["min"], y["max"]) == (1000, 0, 1, 0.0, 0.999)
    assert [edge for edge, _, _ in y["histogram"]] == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    assert sum(count for _, _, count in y["histogram"]) == 999
    assert found["x"]["nulls"] == 143
    assert sum(count for _, _, count in found["x"]["histogram"]) == 857


@pytest.mark.parametrize(
    "values", [[], [None], [float("nan")], [2.0, 2.0], [-1e308, 1e308], [0.1, 0.1 + 1e-15], [-3.0, float("inf"), 7.5]]
)
def test_distribution_of_odd_columns_is_json_and_adds_up(spark: SparkSession, values: list[float | None]) -> None:
    ((_, facts),) = distribution(spark.createDataFrame([(value,) for value in values], "p double"), ["p"])
    json.dumps(facts, allow_nan=False)
    assert sum(count for _, _, count in facts["histogram"]) == facts["rows"] - facts["nulls"] - facts["not_finite"]
