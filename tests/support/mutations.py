"""Specs with random changes."""

from __future__ import annotations

import copy
import random
from typing import Any

ODD = [
    None,
    True,
    False,
    0,
    -1,
    1.5,
    float("nan"),
    float("inf"),
    10**30,
    "",
    "a b",
    "x" * 5000,
    "9" * 400,
    "1e400",
    "\x1b[31mred",
    "two\nlines",
    "é\x00",
    "\u202eright to left",
    "..",
    "file:///a/../b",
    "hdfs://",
    "s3://x/y",
    "${param.root}",
    "${param.",
    "${}",
    "$${x}",
    "${param.origins}",
    "${interval.ds} - 1d",
    "${interval.ds} - 99999999d",
    "${env:HOME}",
    "${secret:a/b}",
    "2013-02-30",
    "1h",
    "-3d",
    "sink:scores",
    "scored",
    "features",
    "flights",
    "decimal(99,99)",
    "array<array<int>>",
    "double from [1]",
    "double from [99999999999999999999]",
    [],
    {},
    [[]],
    [None],
    {"a": None},
    {"": 1},
    {"score": {}},
    *(
        {"sql": sql}
        for sql in (
            "SELECT",
            "SELECT 1; DROP TABLE x",
            "SELECT ((((",
            "VALUES (1)",
            "FROM flights SELECT dt",
            "SELECT * FROM (flights)",
            "SELECT * FROM flights f1, flights f2, weather",
            "WITH a AS (SELECT 1) SELECT * FROM a",
            "SELECT f.* FROM flights f LATERAL VIEW explode(array(1)) t AS z",
            "SELECT a.b.c.d FROM flights",
            "SELECT dt, origin, flight_id FROM flights UNION SELECT 1, 2, 3",
            "SELECT * EXCEPT (dt) FROM flights",
            "SELECT dt FROM flights PIVOT (count(1) FOR hour IN (1, 2))",
            "SELECT :a, ?, {b} FROM flights",
            "SELECT count(*) FILTER (WHERE hour > 1) OVER w FROM flights WINDOW w AS (PARTITION BY dt)",
            "SELECT dt FROM db.flights",
            "SELECT transform(dt, x -> x) FROM flights",
            "SELECT hour:a.b FROM flights",
            "SELECT dt FROM VALUES (1), (2) AS t(dt)",
            "SELECT dt FROM range(10)",
            "SELECT * FROM flights NATURAL JOIN weather",
            "SELECT (SELECT max(temp) FROM weather) FROM flights",
            "SELECT flights.hour FROM flights, LATERAL (SELECT 1)",
            "WITH RECURSIVE a AS (SELECT 1 AS x UNION ALL SELECT x + 1 FROM a WHERE x < 3) SELECT * FROM a",
            "SELECT " + "(" * 400 + "1" + ")" * 400,
            "SELECT /* never closed",
            "SELECT 'never closed",
        )
    ),
]


def _paths(value, path=()):
    yield path
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from _paths(value[key], (*path, key))


def _get(value, path):
    for key in path:
        value = value[key]
    return value


def mutated(chance: random.Random, spec: Any) -> Any:
    """Copy a spec with one to five changes: removed or renamed keys, and odd or moved values."""
    spec = copy.deepcopy(spec)
    for _ in range(chance.choice([1, 1, 1, 2, 3, 5])):
        paths = [path for path in _paths(spec) if path]
        if not paths:
            break
        *above, key = chance.choice(paths)
        parent, how = _get(spec, above), chance.random()
        if how < 0.15:
            del parent[key]
        elif how < 0.3 and isinstance(parent, dict):
            parent[chance.choice(["x", "sql", "score", "from", "path", f"{key}s"])] = parent.pop(key)
        elif how < 0.4:
            parent[key] = copy.deepcopy(_get(spec, chance.choice(paths)))
        else:
            parent[key] = copy.deepcopy(chance.choice(ODD))
    return spec
