"""Shuffle jobs with a digest each: `python shuffle_jobs.py REQUEST.json` reads a job per line and answers a line of JSON.

It is a separate process, because the settings of a SparkContext are those of its JVM, and some tests kill parts of it.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from operator import add
from pathlib import Path


def digest(rows) -> str:
    """Return the digest of rows in the given order."""
    state = hashlib.sha256()
    for row in rows:
        state.update(repr(tuple(row)).encode())
    return state.hexdigest()


def wide(spark, rows, partitions):
    """Rows that compress badly, as in a shuffle of features."""
    return spark.range(0, rows, 1, partitions).selectExpr(
        "id", "id % 997 AS k", "xxhash64(id) >> 20 AS h", "sha2(cast(id AS string), 256) AS text"
    )


def group_by(spark):
    rows = wide(spark, 20_000, 6).groupBy("k").agg({"h": "sum", "text": "max", "id": "count"}).collect()
    return digest(sorted(map(tuple, rows)))


def sort(spark):
    return digest(wide(spark, 20_000, 4).orderBy("h").select("id", "text").collect())


def join(spark):
    left, right = wide(spark, 20_000, 3), wide(spark, 15_000, 4)
    frame = left.join(right.withColumnRenamed("text", "other").drop("h", "k"), "id").selectExpr(
        "count(*)", "sum(h)", "bit_xor(xxhash64(text, other))"
    )
    return digest(frame.collect())


def many_maps(spark):
    """Many more maps than reduces; SparkUCX failed on it."""
    rows = wide(spark, 20_000, 60).repartition(2, "k").selectExpr("count(*)", "bit_xor(xxhash64(*))").collect()
    return digest(rows)


def many_reduces(spark):
    rows = wide(spark, 20_000, 2).repartition(90, "k").selectExpr("count(*)", "bit_xor(xxhash64(*))").collect()
    return digest(rows)


def one_value(spark):
    """One block has a row, most are empty."""
    rows = wide(spark, 60, 10).repartition(20, "id").selectExpr("count(*)", "bit_xor(xxhash64(*))").collect()
    return digest(rows)


def skew_join(spark):
    """One key has most rows: AQE splits its partition by ranges of maps."""
    spark.conf.set("spark.sql.adaptive.skewJoin.skewedPartitionThresholdInBytes", "64k")
    spark.conf.set("spark.sql.adaptive.advisoryPartitionSizeInBytes", "32k")
    left = spark.range(0, 30_000, 1, 6).selectExpr(
        "if(id % 10 < 9, 7, id % 100) AS k", "sha2(cast(id AS string), 256) AS t"
    )
    right = spark.range(0, 100, 1, 2).selectExpr("id AS k", "sha2(cast(id AS string), 256) AS u")
    frame = left.join(right, "k").selectExpr("count(*)", "bit_xor(xxhash64(k, t, u))")
    rows = frame.collect()
    plan = frame._jdf.queryExecution().executedPlan().toString()
    assert "skew=true" in plan, plan
    return digest(rows)


def rdd(spark):
    """Records of Python, and a shuffle with an aggregator."""
    pairs = spark.sparkContext.parallelize(range(10_000), 4).map(lambda x: (x % 101, x)).reduceByKey(add, 5)
    return digest(sorted(pairs.collect()))


def rdd_4000(spark):
    """The expected result of `speculation`."""
    pairs = spark.sparkContext.parallelize(range(4_000), 4)
    return digest(sorted(pairs.map(lambda x: (x % 53, x)).reduceByKey(add, 3).collect()))


def speculation(spark):
    """Both attempts of a map task commit: each continues only when the other has started."""
    marks = os.environ["SHUFFLE_MARKS"]

    def meet(index, rows):
        from pyspark import TaskContext

        if index == 0:
            Path(marks, f"meet-{TaskContext.get().taskAttemptId()}").touch()
            deadline = time.monotonic() + 60
            while len(list(Path(marks).glob("meet-*"))) < 2 and time.monotonic() < deadline:
                time.sleep(0.02)
        return rows

    pairs = spark.sparkContext.parallelize(range(4_000), 4).mapPartitionsWithIndex(meet)
    return digest(sorted(pairs.map(lambda x: (x % 53, x)).reduceByKey(add, 3).collect()))


KEPT = {}


def first_stage(spark):
    """Run the maps of a shuffle; `second_stage` reads them again."""
    KEPT["pairs"] = spark.sparkContext.parallelize(range(12_000), 4).map(lambda x: (x % 211, x)).groupByKey(3)
    return KEPT["pairs"].count()


def second_stage(spark):
    rows = KEPT["pairs"].mapValues(sorted).collect()
    return digest(sorted((key, tuple(values)) for key, values in rows))


def cancelled(spark):
    """Cancel a job while its reducers hold blocks."""
    import threading

    context, marks = spark.sparkContext, os.environ["SHUFFLE_MARKS"]

    def slowly(rows):
        for count, row in enumerate(rows):
            if count == 5:
                Path(marks, "reading").touch()
                time.sleep(60)
            yield row

    frame = wide(spark, 20_000, 4).repartition(6, "k").rdd.mapPartitions(slowly)

    def work():
        context.setJobGroup("victim", "to be cancelled", interruptOnCancel=True)
        try:
            frame.count()
        except Exception as error:  # noqa: BLE001 - the test looks at it
            KEPT["error"] = str(error)

    thread = threading.Thread(target=work)
    thread.start()
    deadline = time.monotonic() + 120
    while not Path(marks, "reading").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    context.cancelJobGroup("victim")
    thread.join(60)
    return "cancelled" if "cancelled" in KEPT.get("error", "") else KEPT.get("error", "it was not stopped")


def wait_for_no_executors(spark):
    scheduler = spark.sparkContext._jsc.sc().schedulerBackend()
    deadline = time.monotonic() + 120
    while scheduler.getExecutorIds().size() and time.monotonic() < deadline:
        time.sleep(0.05)
    return scheduler.getExecutorIds().size()


NAMES = (
    group_by, sort, join, many_maps, many_reduces, one_value, skew_join, rdd, rdd_4000, speculation, first_stage, second_stage,
    cancelled, wait_for_no_executors,
)  # fmt: skip
JOBS = {job.__name__: job for job in NAMES}


def main() -> None:
    serve(lambda spark, line: JOBS[line.strip()](spark))


def serve(job) -> None:
    """Open the session of the request, and answer each line with the result of `job` for session and line."""
    from pyspark.sql import SparkSession

    request = json.loads(Path(sys.argv[1]).read_text())
    builder = SparkSession.builder.master(request["master"]).appName("shuffle")
    for key, value in request["conf"].items():
        builder = builder.config(key, value)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("WARN")
    conf = spark.sparkContext.getConf()
    say(
        app=spark.sparkContext.applicationId,
        manager=conf.get("spark.shuffle.manager", "sort"),
        reason=conf.get("spark.firesteel.shuffle.fallbackReason", None),
    )
    for line in sys.stdin:
        say(result=job(spark, line))
    spark.stop()


def say(**what) -> None:
    print(json.dumps(what), flush=True)  # noqa: T201 - what the test reads


if __name__ == "__main__":
    main()
