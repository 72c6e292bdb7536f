"""What planning selects of generated trees is what Spark reads of the selected range, or an error."""

from __future__ import annotations

from collections import Counter
from functools import reduce
from typing import TYPE_CHECKING

import pytest

from firesteel.conf.errors import FiresteelError
from firesteel.jobs.spark.lower import _read
from firesteel.pipelines.plan.model import Column, SourcePlan
from support.trees import Generated, generate

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

TREES = 40


def source_plan(tree: Generated) -> SourcePlan:
    partitions = tuple(Column(name, kind) for name, kind in tree.partitions.items())
    return SourcePlan("rows", "parquet", tree.source.path, (Column("id", "bigint"),), partitions)


def flat(frame: DataFrame, tree: Generated, number: int) -> DataFrame:
    """Rows of any tree, in columns that all trees share."""
    from pyspark.sql import functions as F  # noqa: N812

    values = F.array(*(F.col(f"`{name}`").cast("string") for name in tree.partitions))
    return frame.select(F.lit(number).alias("tree"), "id", values.alias("values"))


def collected(frames: list[DataFrame]) -> dict[int, Counter]:
    """Tree -> its rows, in one job."""
    found: dict[int, Counter] = {}
    for row in reduce(lambda one, other: one.unionAll(other), frames).collect():
        found.setdefault(row["tree"], Counter())[row["id"], tuple(row["values"])] += 1
    return found


def everything(spark: SparkSession, tree: Generated) -> DataFrame | None:
    """All that Spark finds below the tree's root, by its own listing; None where it refuses."""
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException

    columns = ", ".join(f"`{name}` {kind}" for name, kind in {"id": "bigint", **tree.partitions}.items())
    try:
        return spark.read.schema(columns).parquet(tree.source.path)
    except (PySparkException, Py4JError):
        return None


def test_planning_selects_the_rows_that_spark_reads_or_refuses(spark, tmp_path):
    trees = [generate(tmp_path / str(seed), seed, unfinished=False) for seed in range(TREES)]
    planned, whole, accepted = [], [], {}
    for number, tree in enumerate(trees):
        found = tree.planned()
        if found is None or isinstance(found, FiresteelError):
            continue
        accepted[number] = tree
        frame = _read(spark, source_plan(tree), tuple(file.path for file in found.files))
        assert [kind for _, kind in frame.dtypes[1:]] == list(tree.partitions.values()), "declared types stay"
        planned.append(flat(frame, tree, number))
        if (frame := everything(spark, tree)) is not None:
            whole.append(flat(frame, tree, number))
    read, there = collected(planned), collected(whole)
    compared = 0
    for number, tree in accepted.items():
        if number not in there:
            continue
        wanted = {column: {str(value) for value in values} for column, values in tree.wanted().items()}
        expected = Counter(
            {
                row: times
                for row, times in there[number].items()
                if all(value in wanted.get(name, {value}) for name, value in zip(tree.partitions, row[1], strict=True))
            }
        )
        assert read.get(number, Counter()) == expected, (number, tree)
        compared += len(expected) > 0
    assert compared > TREES // 5


@pytest.mark.parametrize(
    "name",
    ["a[12]", "b{c,d}", "e*", "f?", "g%2F", "h i", "j#k", "l:m", "é", "n\\o", "p%zz", "q+r", "_x", ".h", "y.tmp"],
)
def test_spark_reads_the_listed_files_only_whatever_their_path_looks_like(spark, tmp_path, name):
    import pyarrow as pa
    import pyarrow.parquet as pq

    for folder, value in ((name, 1), ("a1", 2), ("bc", 3), ("e1", 4), ("f1", 5)):
        path = tmp_path / folder / "dt=2024-01-01" / f"part {name.replace(':', '')}.parquet"
        path.parent.mkdir(parents=True)
        pq.write_table(pa.table({"id": pa.array([value], pa.int64())}), path)
    source = SourcePlan(
        "rows", "parquet", f"file://{tmp_path}/{name}", (Column("id", "bigint"),), (Column("dt", "date"),)
    )
    frame = _read(spark, source, (f"dt=2024-01-01/part {name.replace(':', '')}.parquet",))
    assert [row["id"] for row in frame.collect()] == [1]
