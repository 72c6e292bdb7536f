"""What the transaction costs: a run that stages, audits, journals, swaps and records, against a bare Spark write of the same rows.

    python benchmarks/transaction.py [--rows 10000000] [--repeats 3]

On a real HDFS, in one warm session, interleaved. Both read the same Parquet, run the same SELECT and write the same files. The
stages of the run are reported beside the whole call, which includes MLflow and the report. Raw seconds and the environment go to
benchmarks/results/transaction.json.
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
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
os.environ["PYSPARK_PYTHON"] = sys.executable

from pyspark.sql import SparkSession
from pyspark.sql import functions as F  # noqa: N812

from firesteel.jobs.embedded.hdfs import EmbeddedHdfs
from firesteel.jobs.run.plan_runner import run_plan
from firesteel.pipelines import Pipeline

RESULTS = Path(__file__).parent / "results" / "transaction.json"
DAY = "2013-06-01"
COLUMNS = "id, round(p, 3) AS p, x * 2 AS x, origin"
SPEC = """\
spec_version: 1
name: bench
storage: {root}/_firesteel
interval: {{column: dt, unit: day, begin: 2013-06-01}}
sources:
  events:
    path: {root}/events
    partitions: {{dt: date}}
    select: {{dt: "${{interval.ds}}"}}
    contract: {{mode: enforce, columns: {{id: bigint, p: double, x: double, origin: string}}}}
steps:
  kept: {{sql: "SELECT {columns}, dt FROM events"}}
sinks:
  out: {{from: kept, path: "{root}/out", partition_by: [dt, origin], mode: replace_partitions}}
tracking: {{mlflow: {{uri: "sqlite:///{folder}/mlflow.db", experiment: bench}}}}
"""


def fill(spark: SparkSession, root: str, rows: int) -> None:
    """Write one day of events."""
    names = F.array(*map(F.lit, ("JFK", "LGA", "EWR")))
    spark.range(rows, numPartitions=8).select(
        "id",
        F.rand(1).alias("p"),
        F.randn(3).alias("x"),
        F.element_at(names, (F.col("id") % 3 + 1).cast("int")).alias("origin"),
    ).write.parquet(f"{root}/events/dt={DAY}")


def bare(spark: SparkSession, root: str) -> float:
    """Return the seconds of the write of a hand-written job, in the layout of a run."""
    started = time.perf_counter()
    events = spark.read.option("basePath", f"{root}/events").parquet(f"{root}/events/dt={DAY}")
    events.createOrReplaceTempView("events")
    frame = spark.sql(f"SELECT {COLUMNS}, dt FROM events")
    frame.hint("rebalance", "dt", "origin").write.partitionBy("dt", "origin").mode("overwrite").parquet(f"{root}/bare")
    return time.perf_counter() - started


def whole(spark: SparkSession, pipeline: Pipeline, folder: Path) -> tuple[float, dict[str, float]]:
    """Return the seconds of a run without its plan, and of its stages."""
    plan = pipeline.plan(DAY, force=True)
    started = time.perf_counter()
    result = run_plan(plan, spark=spark, runs=folder / "runs")
    seconds = time.perf_counter() - started
    if result.state != "published":
        raise SystemExit(result.error)
    return seconds, dict(result.intervals[0].seconds)


def main() -> None:
    """Measure, print and store the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, EmbeddedHdfs(Path(name) / "hdfs", datanodes=1) as hdfs:
        os.environ["HADOOP_CONF_DIR"] = str(hdfs.conf_dir)
        folder, root = Path(name), f"{hdfs.uri}/bench"
        settings = {"spark.ui.enabled": "false", "spark.driver.memory": "2g", "spark.ui.showConsoleProgress": "false"}
        settings |= {"spark.sql.session.timeZone": "UTC", "spark.sql.parquet.compression.codec": "zstd"}
        builder = SparkSession.builder.master("local[2]")
        for key, value in settings.items():
            builder = builder.config(key, value)
        spark = builder.getOrCreate()
        spark.sparkContext.setLogLevel("ERROR")
        fill(spark, root, options.rows)
        (folder / "pipeline.yaml").write_text(SPEC.format(root=root, columns=COLUMNS, folder=folder), encoding="utf-8")
        pipeline = Pipeline.load(folder / "pipeline.yaml")
        bare(spark, root)  # warm: the first of each pays for code generation and imports
        whole(spark, pipeline, folder)
        rounds = []
        for number in range(options.repeats):
            first = bare(spark, root) if number % 2 else None  # who comes second finds warmer caches
            seconds, stages = whole(spark, pipeline, folder)
            alone = bare(spark, root) if first is None else first
            rounds.append({"bare": round(alone, 3), "run": round(seconds, 3), "stages": stages})
            print(rounds[-1], flush=True)
        spark.stop()
    median = {
        "bare": statistics.median(each["bare"] for each in rounds),
        "stages": statistics.median(sum(each["stages"].values()) for each in rounds),
        "run": statistics.median(each["run"] for each in rounds),
    }
    ratios = {
        "transaction / bare": round(
            statistics.median(sum(each["stages"].values()) / each["bare"] for each in rounds), 3
        ),
        "run / bare": round(statistics.median(each["run"] / each["bare"] for each in rounds), 3),
    }
    print(median, ratios)
    environment = {
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "load": os.getloadavg()[0],
        **{package: version(package) for package in ("pyspark", "pyarrow", "mlflow")},
    }
    kept = {"rows": options.rows, "rounds": rounds, "ratios": ratios, "environment": environment}
    RESULTS.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
