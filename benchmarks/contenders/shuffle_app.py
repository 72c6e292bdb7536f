"""One shuffle after the other: `python shuffle_app.py REQUEST.json`, then a JSON of `Shuffle` a line; answers a line of JSON."""

from __future__ import annotations

import json
import random
import sys
import time
from pathlib import Path
from typing import Any

POOL_BYTES = 1 << 17
"""Of random bytes, of which each row has a piece: more than a compressor looks back."""


def main() -> None:
    from pyspark.sql import SparkSession
    from pyspark.sql import functions as fn

    request = json.loads(Path(sys.argv[1]).read_text())
    builder = SparkSession.builder.master(request["master"]).appName("shuffle")
    for key, value in request["conf"].items():
        builder = builder.config(key, value)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("WARN")
    spark.conf.set("spark.sql.adaptive.coalescePartitions.enabled", "false")
    pool = fn.lit(random.Random(1).randbytes(POOL_BYTES))
    say(app=spark.sparkContext.applicationId)
    for line in sys.stdin:
        asked = json.loads(line)
        rows = asked["mib"] * (1 << 20) // asked["row_bytes"]
        spark.conf.set("spark.sql.shuffle.partitions", str(asked["reduces"]))
        at = fn.pmod(fn.xxhash64("id"), fn.lit(POOL_BYTES - asked["row_bytes"])).cast("int") + 1
        frame = spark.range(0, rows, 1, asked["maps"]).select(
            fn.xxhash64("id").alias("key"), fn.substring(pool, at, fn.lit(asked["row_bytes"])).alias("payload")
        )
        moved = frame.orderBy("key") if asked["kind"] == "sort" else frame.repartition(asked["reduces"], "key")
        began = time.monotonic()
        found = moved.selectExpr("count(*)", "bit_xor(xxhash64(key, payload))").collect()
        seconds = time.monotonic() - began
        spark._jvm.System.gc()  # noqa: SLF001 - the cleaner of contexts removes what nobody refers to
        say(result={"seconds": round(seconds, 3), "found": list(found[0])})
    spark.stop()


def say(**what: Any) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    main()
