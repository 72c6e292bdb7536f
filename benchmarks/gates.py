"""What a gate costs: compiled to one pass, against plain Great Expectations on Spark, and against a bare scan.

    python benchmarks/gates.py [--rows 1000 10000000] [--repeats 5]

The results are ratios of medians, interleaved in one session. Raw seconds and the environment go to benchmarks/results/gates.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
os.environ["PYSPARK_PYTHON"] = sys.executable

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812

from firesteel.jobs.gates import gx, run_gate
from firesteel.pipelines.plan.model import Expectation, GatePlan

RESULTS = Path(__file__).parent / "results" / "gates.json"


def expectation(kind: str, **kwargs: object) -> Expectation:
    """Return an expectation as a plan has it."""
    return Expectation(kind, tuple(sorted(kwargs.items())))  # type: ignore[arg-type]


SUITE = (
    expectation("expect_column_values_to_not_be_null", column="id"),
    expectation("expect_column_values_to_not_be_null", column="x", mostly=0.9),
    expectation("expect_column_values_to_be_between", column="p", min_value=0, max_value=1),
    expectation("expect_column_values_to_be_between", column="x", min_value=-10, max_value=10, mostly=0.99),
    expectation("expect_column_values_to_be_in_set", column="origin", value_set=["JFK", "LGA", "EWR"]),
    expectation("expect_column_values_to_match_regex", column="origin", regex="^[A-Z]{3}$"),
    expectation("expect_column_value_lengths_to_equal", column="origin", value=3),
    expectation("expect_column_mean_to_be_between", column="p", min_value=0.4, max_value=0.6),
    expectation("expect_column_max_to_be_between", column="p", max_value=1),
    expectation("expect_table_row_count_to_be_between", min_value=1),
)


def frame(spark: SparkSession, rows: int, folder: Path) -> DataFrame:
    """Write Parquet with an id, a score, a feature with nulls and a short text."""
    spark.range(rows).select(
        "id",
        F.rand(1).alias("p"),
        F.when(F.rand(2) > 0.05, F.randn(3)).alias("x"),
        F.element_at(F.array(F.lit("JFK"), F.lit("LGA"), F.lit("EWR")), (F.col("id") % 3 + 1).cast("int")).alias(
            "origin"
        ),
    ).write.parquet(str(folder))
    return spark.read.parquet(str(folder))


def main() -> None:
    """Measure, print and store the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000, 100_000, 10_000_000])
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    spark = (
        SparkSession.builder.master("local[2]")
        .config("spark.ui.enabled", "false")
        .config("spark.driver.memory", "2g")
        .config("spark.ui.showConsoleProgress", "false")
        .getOrCreate()
    )
    spark.sparkContext.setLogLevel("ERROR")
    gx.warm_up()  # its import is not what is measured
    sizes = [measure(spark, rows, options.repeats) for rows in options.rows]
    spark.stop()
    environment = {
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        **{name: version(name) for name in ("pyspark", "great-expectations")},
    }
    RESULTS.parent.mkdir(exist_ok=True)
    kept = {"expectations": len(SUITE), "sizes": sizes, "environment": environment}
    RESULTS.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")


def measure(spark: SparkSession, rows: int, repeats: int) -> dict[str, object]:
    """Measure all methods on one frame, interleaved."""
    gate = GatePlan("bench", "flights", SUITE)
    with tempfile.TemporaryDirectory() as folder:
        data = frame(spark, rows, Path(folder) / "data")
        ways: dict[str, Callable[[], object]] = {
            "scan": lambda: data.agg(*(F.count(name) for name in data.columns)).collect(),
            "compiled": lambda: run_gate(gate, data),
            "great expectations": lambda: gx.validate(data, SUITE),
        }
        for way in ways.values():  # warm: the first of each pays for code generation
            way()
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(repeats):
            for name, way in ways.items():
                started = time.perf_counter()
                way()
                seconds[name].append(round(time.perf_counter() - started, 3))
    median = {name: statistics.median(values) for name, values in seconds.items()}
    ratios = {
        "great expectations / compiled": round(median["great expectations"] / median["compiled"], 2),
        "compiled / scan": round(median["compiled"] / median["scan"], 2),
    }
    print(f"{rows:,} rows: {median} {ratios}", flush=True)
    return {"rows": rows, "seconds": seconds, "ratios": ratios}


if __name__ == "__main__":
    main()
