"""Rules leave results alone: what they cut off is taken away from real tables, and Spark must give the same rows."""

from __future__ import annotations

import random
from collections import Counter
from datetime import date

import pytest

from support.rules import cases, optimized

pytestmark = pytest.mark.integration
SQL_CASES = [
    each
    for each in cases()
    if "score" not in str(each.values[1]["steps"])
    and "my_udf" not in str(each.values[1])
    and each.values[1].get("spark", True)
]


@pytest.fixture(scope="module")
def tables(spark):
    chance = random.Random(20130601)

    def some(*values):
        return chance.choice([None, *values])

    days = [date(2013, 6, 1), date(2013, 6, 2)]
    flights = [
        (
            f"f{n}",
            some(-3.0, 0.0, 7.0),
            some(1, 2, 101, 700),
            some(0, 1, 5),
            some("N'1", "N2"),
            chance.choice(days),
            some("JFK", "LGA", "EWR"),
            some(*days),
        )
        for n in range(80)
    ]
    weather = [
        (some("JFK", "LGA"), some(0, 1, 5), some(1.0, 2.0, 101.0), some(3.0), chance.choice(days)) for _ in range(25)
    ]
    made = {
        "flights": spark.createDataFrame(
            flights,
            "flight_id string, dep_delay double, distance int, hour int, tail string, dt date, origin string, due date",
        ).cache(),
        "weather": spark.createDataFrame(weather, "origin string, hour int, temp double, wind double, dt date").cache(),
    }
    yield made
    for frame in made.values():
        frame.unpersist()


def _result(spark, tables, case):
    from pyspark.sql import Row

    for name, frame in tables.items():
        frame.createOrReplaceTempView(name)
    for name, step in case["steps"].items():  # cases name their steps in the order of dependencies
        spark.sql(step["sql"], args=step.get("args")).createOrReplaceTempView(name)
    return Counter(map(Row.__repr__, spark.table("out").collect()))


def _cut(frame, scan, partitions):
    """The source with the columns that are not read emptied, and without the rows that the scan leaves out."""
    from pyspark.sql import functions as F  # noqa: N812 - Spark's own convention

    for sql in scan.filters:
        frame = frame.where(F.expr(sql))
    for column, values in scan.only:
        frame = frame.where(F.col(column).isin(list(values)))
    return frame.select(
        *(
            F.col(field.name)
            if field.name in scan.read or field.name in partitions
            else F.lit(None).cast(field.dataType).alias(field.name)
            for field in frame.schema.fields
        )
    )


@pytest.mark.parametrize(("rule", "case"), SQL_CASES)
def test_what_rules_cut_off_changes_no_row(rule, case, tables, spark, tmp_path):
    logical, _ = optimized(tmp_path, case)
    session = spark.newSession()
    tables = {name: session.createDataFrame(frame.collect(), frame.schema) for name, frame in tables.items()}
    whole = _result(session, tables, case)
    cut = {
        name: _cut(frame, logical.scan(name), logical.spec.sources[name].partitions) for name, frame in tables.items()
    }
    assert _result(session, cut, case) == whole
