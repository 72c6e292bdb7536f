"""SQL that the compiler gives to Arrow, against Spark's own answer: nulls, NaN, infinities, zeros, the ends of the integers."""

from __future__ import annotations

import datetime
import math

import pyarrow as pa
import pytest

from firesteel.conf.errors import Where
from firesteel.pipelines.plan.model import Column
from firesteel.pipelines.sql.mapping import NotMapOnlyError, map_only
from firesteel.pipelines.sql.select import SqlText, parse_select
from firesteel.udfs.direct.expressions import ARROW_TYPES, OPERATORS, project
from firesteel.udfs.direct.spec import Projection

pytestmark = pytest.mark.integration

COLUMNS = tuple(
    Column(name, kind)
    for name, kind in (("x", "double"), ("y", "double"), ("f", "float"), ("i", "int"), ("l", "bigint"), ("t", "tinyint"),
                       ("s", "string"), ("d", "date"), ("b", "boolean"))
)  # fmt: skip
NAN, INF = float("nan"), float("inf")
DAY = datetime.date(2024, 2, 29)
ROWS = [
    (1.5, NAN, 0.25, 3, 2**53 + 1, 1, "a", DAY, True), (NAN, NAN, NAN, -3, 0, -1, "A", DAY, False),
    (None, 1.0, None, None, None, None, None, None, None), (-0.0, 0.0, -0.0, 0, -1, 0, "", datetime.date(1969, 12, 31), None),
    (INF, -INF, INF, 2**30, 2**62, 127, "é", datetime.date(9999, 12, 31), True), (-INF, None, -INF, -(2**30), -(2**62), -128, "ab", None, False),
    (0.1, 0.1, 0.1, 7, 7, 7, "2024-02-29", DAY, None), (16777217.0, 16777216.0, 16777216.0, 16777217, 16777217, 5, "b", DAY, True),
]  # fmt: skip
VALUES = [
    "x + y", "x - 1", "x * 0.1", "x / 3", "i / 2", "-x", "-i", "i + 1", "i + l", "t - t", "i - t", "i * 1", "x + i", "x + f", "abs(i)", "abs(x)",
    "CAST(i AS DOUBLE)", "CAST(f AS DOUBLE)", "CAST(t AS INT)", "CAST(i AS BIGINT)", "coalesce(x, y, 0.0)", "coalesce(i, 0)",
    "coalesce(s, 'none')", "if(x > 1, x, y)", "if(b, 1, 0)", "CASE WHEN x > 1 THEN 'big' WHEN x < 0 THEN 'small' ELSE 'middle' END",
    "CASE WHEN b THEN x ELSE 1 END", "x = y", "x <> y", "x > y", "x >= y", "x < y", "x <= y", "f = f", "f < 1e0 * f", "x > 0.1", "x = 0.1", "i > 2",
    "l = i", "i IN (3, 7)", "NOT i IN (3)", "x IN (0.1, 1.5)", "s = 'a'", "s < 'b'", "s IN ('a', 'é')", "d = '2024-02-29'", "d > DATE '1970-01-01'",
    "d BETWEEN '2024-01-01' AND '2024-12-31'", "x BETWEEN 0 AND 1", "x IS NULL", "s IS NOT NULL", "b AND x > 1", "b OR x > 1", "NOT b",
    "(b OR NOT b) AND i > 0", "x > :cut", "i + :one", "s = :name", "d", "s", "1", "'text'", "true",
]  # fmt: skip
LEFT_TO_SPARK = [
    "x / y", "i % 2", "CAST(x AS INT)", "CAST(l AS INT)", "CAST(s AS DOUBLE)", "sqrt(x)", "f > 0.1", "i * 0.5", "i > 0.5", "f + i", "l / 0.5", "s = i",
    "rand()", "sum(x)", "row_number() OVER (ORDER BY x)", "s LIKE 'a%'", "upper(s)", "d = 'tomorrow'", "TRY_CAST(s AS INT)", "x <=> y", "s || 'a'", "x / 0",
]  # fmt: skip
ARGS = {"cut": 0.5, "one": 1, "name": "a"}


def table() -> pa.Table:
    columns = zip(*ROWS, strict=True)
    return pa.table(
        {
            column.name: pa.array(list(values), ARROW_TYPES[column.type])
            for column, values in zip(COLUMNS, columns, strict=True)
        }
    )


def translated(sql: str):
    return map_only(parse_select(SqlText(sql, Where("test"), in_file=False)).tree, COLUMNS, ARGS)


def same(left: object, right: object) -> bool:
    if isinstance(left, float) and isinstance(right, float):
        return (math.isnan(left) and math.isnan(right)) or (
            left == right and math.copysign(1, left) == math.copysign(1, right)
        )
    return left == right and type(left) is type(right)


@pytest.fixture(scope="module")
def points(spark):
    schema = ", ".join(f"{column.name} {column.type}" for column in COLUMNS)
    spark.createDataFrame(ROWS, schema).coalesce(1).createOrReplaceTempView("points")
    yield "points"
    spark.catalog.dropTempView("points")


def test_values_and_types_are_sparks(spark, points):
    sql = "SELECT " + ", ".join(f"{text} AS c{number}" for number, text in enumerate(VALUES)) + " FROM points"
    made = translated(sql)
    got = project(table(), Projection(made.columns, made.where))
    frame = spark.sql(sql, args=ARGS)
    kinds = dict(frame.dtypes)
    right = [row.asDict() for row in frame.collect()]
    for number, text in enumerate(VALUES):
        name = f"c{number}"
        assert dict(made.columns)[name][1] == kinds[name], text
        values = got.column(name).to_pylist()
        assert all(same(a, b) for a, b in zip(values, (row[name] for row in right), strict=True)), (
            text,
            values,
            [row[name] for row in right],
        )


def test_conditions_keep_the_rows_that_spark_keeps(spark, points):
    for text in (
        value for value in VALUES if translated(f"SELECT {value} AS c FROM points").columns[0][1][1] == "boolean"
    ):
        sql = f"SELECT i, l, s AS name FROM points AS p WHERE {text}"
        made = translated(sql)
        got = project(table(), Projection(made.columns, made.where)).to_pylist()
        assert got == [row.asDict() for row in spark.sql(sql, args=ARGS).collect()], text


@pytest.mark.parametrize("text", LEFT_TO_SPARK)
def test_what_could_differ_is_left_to_spark(text):
    with pytest.raises(NotMapOnlyError):
        translated(f"SELECT {text} AS c FROM points")


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT DISTINCT x FROM points", "SELECT x FROM points LIMIT 3", "SELECT x FROM points ORDER BY x", "SELECT x FROM points, points AS q",
        "SELECT x FROM (SELECT x FROM points)", "SELECT x FROM points GROUP BY x", "SELECT x FROM points UNION ALL SELECT y FROM points",
        "WITH q AS (SELECT x FROM points) SELECT x FROM q", "SELECT x, X FROM points", "SELECT x + 1 FROM points", "SELECT q.x FROM points AS p",
        "SELECT x FROM points TABLESAMPLE (10 PERCENT)", "SELECT x FROM points LATERAL VIEW explode(array(1)) AS e", "SELECT /*+ REPARTITION(3) */ x FROM points",
        "SELECT x FROM points HAVING x > 1", "SELECT x FROM points WHERE x IN (SELECT y FROM points)", "SELECT * EXCEPT (x) FROM points",
    ],
)  # fmt: skip
def test_what_is_more_than_a_map_is_refused(sql):
    with pytest.raises(NotMapOnlyError):
        translated(sql)


def test_overflow_is_an_error_as_in_spark():
    made = translated("SELECT l * 4 AS c FROM points")
    with pytest.raises(pa.ArrowInvalid):
        project(table(), Projection(made.columns, made.where))


def test_the_compiler_uses_no_operator_that_arrow_lacks():
    def operators(expression):
        yield expression[0]
        for each in expression[2:]:
            if isinstance(each, tuple):
                yield from operators(each)

    made = translated(
        "SELECT " + ", ".join(f"{text} AS c{number}" for number, text in enumerate(VALUES)) + " FROM points"
    )
    assert {op for _, each in made.columns for op in operators(each)} <= OPERATORS
