"""Rules of the compiler: `rules/NAME.yaml` holds what each does to small pipelines."""

from __future__ import annotations

import pytest

from firesteel.pipelines.planner.lineage import lineage
from firesteel.pipelines.rules import RULES
from support.rules import CASES, cases, optimized


@pytest.mark.parametrize(("rule", "case"), list(cases()))
def test_what_a_rule_does(rule, case, tmp_path):
    _, effects = optimized(tmp_path, case)
    assert list(next(effect.did for effect in effects if effect.rule == rule)) == case["expect"]


def test_every_rule_has_cases_and_says_what_it_is():
    assert {rule.__name__ for rule in RULES} == {path.stem for path in CASES.glob("*.yaml")}
    assert all(rule.__doc__ for rule in RULES)


def test_lineage_goes_through_steps_and_models_to_the_sources(tmp_path):
    case = {
        "features": {"scored": ("miles", "temp")},
        "steps": {
            "a": {
                "sql": "SELECT f.dt, f.origin, f.distance + f.hour AS miles, w.temp FROM flights f "
                "LEFT JOIN weather w ON f.hour = w.hour WHERE f.dep_delay > 0"
            },
            "scored": {"score": {"input": "a", "model": "m", "keep": ["dt", "origin"], "output": {"p": "double"}}},
            "out": {"sql": "SELECT dt, p, upper(origin) AS o, 1 AS one FROM scored WHERE p > 0.5"},
        },
    }
    logical, _ = optimized(tmp_path, case)
    columns, rows = lineage(logical)
    found = {column.column: (column.values, column.models) for column in columns}
    of_p = (("flights", "distance"), ("flights", "hour"), ("weather", "temp"))
    assert found == {
        "dt": ((("flights", "dt"),), ()),
        "p": (of_p, ("m",)),
        "o": ((("flights", "origin"),), ()),
        "one": ((), ()),
    }
    assert {column.column: column.copied for column in columns} == {"dt": True, "p": False, "o": False, "one": False}
    assert rows[0].rows == (
        ("flights", "dep_delay"),
        ("flights", "distance"),
        ("flights", "hour"),
        ("weather", "hour"),
        ("weather", "temp"),
    )
