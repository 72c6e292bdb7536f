"""Run shuffles one after the other: `python shuffle_app.py REQUEST.json` reads a JSON of `Shuffle` per line and answers a line of JSON."""

from __future__ import annotations

import json
import random
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

from support.shuffle_jobs import serve

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

POOL_BYTES = 1 << 17
"""Of random bytes, of which each row has a piece: more than a compressor looks back."""


def main() -> None:
    """Serve `Application`."""
    serve(shuffled)


def shuffled(spark: SparkSession, line: str) -> dict[str, Any]:
    """Run a shuffle; return its seconds, and the digest that all contenders share. Its outputs are deleted at the end."""
    context = spark._jsc.sc()  # noqa: SLF001 - Spark's own cleaner waits for a collection of garbage, which may spare the last query
    first = context.newShuffleId() + 1
    answer = _shuffled(spark, json.loads(line))
    for number in range(first, context.newShuffleId()):
        context.cleaner().get().doCleanupShuffle(number, True)
    return answer


def _shuffled(spark: SparkSession, asked: dict[str, Any]) -> dict[str, Any]:
    from pyspark.sql import functions as fn

    rows = asked["mib"] * (1 << 20) // asked["row_bytes"]
    spark.conf.set("spark.sql.adaptive.coalescePartitions.enabled", "false")
    spark.conf.set("spark.sql.shuffle.partitions", str(asked["reduces"]))
    pool = fn.lit(random.Random(1).randbytes(POOL_BYTES))
    at = fn.pmod(fn.xxhash64("id"), fn.lit(POOL_BYTES - asked["row_bytes"])).cast("int") + 1
    frame = spark.range(0, rows, 1, asked["maps"]).select(
        fn.xxhash64("id").alias("key"), fn.substring(pool, at, fn.lit(asked["row_bytes"])).alias("payload")
    )
    moved = frame.orderBy("key") if asked["kind"] == "sort" else frame.repartition(asked["reduces"], "key")
    began = time.monotonic()
    # Spark leaves out the sort of rows whose order changes nothing: their numbers depend on it.
    numbered = moved.withColumn("at", fn.monotonically_increasing_id())
    found = numbered.selectExpr("count_if(at >= 0)", "bit_xor(xxhash64(key, payload))").collect()
    seconds = time.monotonic() - began
    return {"seconds": round(seconds, 3), "found": list(found[0])}


if __name__ == "__main__":
    main()
