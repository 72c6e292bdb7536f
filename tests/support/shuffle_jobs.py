"""Shuffling jobs with a digest each, run by `python shuffle_jobs.py REQUEST.json`; prints one line of JSON.

A process of its own: a SparkContext's settings are those of its JVM, and some tests kill parts of it.
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
    """Of rows in the order given."""
    state = hashlib.sha256()
    for row in rows:
        state.update(repr(tuple(row)).encode())
    return state.hexdigest()


def wide(spark, rows, partitions):
    """Rows that compress badly: what a shuffle of features looks like."""
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
    """Maps >> reduces: SparkUCX died of it."""
    rows = wide(spark, 20_000, 60).repartition(2, "k").selectExpr("count(*)", "bit_xor(xxhash64(*))").collect()
    return digest(rows)


def many_reduces(spark):
    rows = wide(spark, 20_000, 2).repartition(90, "k").selectExpr("count(*)", "bit_xor(xxhash64(*))").collect()
    return digest(rows)


def one_value(spark):
    """Most blocks are empty, the rest is a row."""
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
    """Python's own records, and a shuffle with an aggregator."""
    pairs = spark.sparkContext.parallelize(range(10_000), 4).map(lambda x: (x % 101, x)).reduceByKey(add, 5)
    return digest(sorted(pairs.collect()))


def speculation(spark):
    """Of two attempts of one map task both commit: the slow one is not stopped by the winner's end (see the settings)."""
    marks = os.environ["SHUFFLE_MARKS"]

    def slow_first(index, rows):
        from pyspark import TaskContext

        mark = Path(marks, f"{index}-{TaskContext.get().taskAttemptId()}")
        mark.touch()
        if index == 0 and len(list(Path(marks).glob("0-*"))) == 1:
            deadline = time.monotonic() + 60
            while len(list(Path(marks).glob("0-*"))) < 2 and time.monotonic() < deadline:
                time.sleep(0.02)
        return rows

    pairs = spark.sparkContext.parallelize(range(4_000), 4).mapPartitionsWithIndex(slow_first)
    return digest(sorted(pairs.map(lambda x: (x % 53, x)).reduceByKey(add, 3).collect()))


JOBS = {
    job.__name__: job for job in (group_by, sort, join, many_maps, many_reduces, one_value, skew_join, rdd, speculation)
}


def main() -> None:
    from pyspark.sql import SparkSession

    request = json.loads(Path(sys.argv[1]).read_text())
    builder = SparkSession.builder.master(request["master"]).appName("shuffle")
    for key, value in request["conf"].items():
        builder = builder.config(key, value)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("WARN")
    told = {"app": spark.sparkContext.applicationId, "digests": {}}
    told["manager"] = spark.sparkContext.getConf().get("spark.shuffle.manager", "sort")
    told["reason"] = spark.sparkContext.getConf().get("spark.firesteel.shuffle.fallbackReason", None)
    for name in request["jobs"]:
        told["digests"][name] = JOBS[name](spark)
    spark.stop()
    print(json.dumps(told))  # noqa: T201 - what the test reads


if __name__ == "__main__":
    main()
