"""Hand-written Spark jobs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from contenders.data import DAY, Model


def spark_udf(spark: Any, root: Path, model: Model, saved: Path, target: Path) -> None:
    """Score by `mlflow.pyfunc.spark_udf` as documented: for scikit-learn that is `predict`, a class and not a probability."""
    import mlflow
    from pyspark.sql import functions as F  # noqa: N812

    predict = mlflow.pyfunc.spark_udf(spark, str(saved), result_type="double", env_manager="local")
    rows = spark.read.parquet(f"{root}/points/dt={DAY}")
    scored = rows.select("id", predict(F.struct(*map(F.col, model.features))).alias("p"), F.lit(DAY).alias("dt"))
    scored.write.partitionBy("dt").parquet(str(target))


def joined_by_hand(spark: Any, root: Path, model: Model, bare: Path, target: Path) -> None:
    """Join, then score by `mapInArrow` with the compiled model on matrix blocks: the fastest known job."""
    import pyarrow as pa

    from contenders.limit import SCHEMA, _loaded
    from contenders.models import BLOCK, matrix

    names = model.features

    def score(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        predict = _loaded(str(bare), "compiled")
        for batch in batches:
            for start in range(0, batch.num_rows, BLOCK):
                part = batch.slice(start, BLOCK)
                values = predict(matrix([part.column(name).to_numpy(zero_copy_only=False) for name in names]))
                yield pa.record_batch([part.column("id"), pa.array(values)], schema=SCHEMA)

    spark.read.parquet(f"{root}/points/dt={DAY}").createOrReplaceTempView("bench_points")
    spark.read.parquet(f"{root}/sides/dt={DAY}").createOrReplaceTempView("bench_sides")
    joined = spark.sql(
        f"SELECT p.id, s.g AS f00, {', '.join(f'p.{name}' for name in names[1:])} "
        "FROM bench_points p JOIN bench_sides s ON p.id = s.id"
    )
    joined.mapInArrow(score, "id bigint, p double").write.parquet(f"{target}/dt={DAY}")
