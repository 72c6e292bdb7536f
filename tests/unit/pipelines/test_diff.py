"""What two specs or plans differ in, in words."""

from __future__ import annotations

import shutil

import pytest

from firesteel.pipelines import Pipeline
from firesteel.pipelines.planner.diff import diff
from support.data import write_days
from support.specs import FixedBackend, example_with

DAYS = ["2013-06-01", "2013-06-02"]


def _pipeline(folder, changes=None, sql=None, backend=None, **params):
    path = example_with(folder, changes or {}, sql)
    params = {"root": "file:///tmp/none", **params}
    return Pipeline.load(path, params=params, backend=backend or FixedBackend())


def _said(folder, **options):
    old = _pipeline(folder / "old").sketch()
    new = _pipeline(folder / "new", **options).sketch()
    found = diff(old, new)
    return [(change.of, change.words, change.touches) for change in found.changes], found


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, []),
        ({"changes": {"spec_version: 1": "# comment\nspec_version: 1"}}, []),
        (
            {"sql": {"-- One row per flight": "-- A flight"}},
            [("step features", "SQL changed only in comments or white space", "nothing")],
        ),
        (
            {"changes": {"max_value: 1}": "max_value: 0.9}"}},
            [
                (
                    "gate output_ok",
                    "- expect_column_values_to_be_between(column=p_delay, max_value=1, min_value=0) critical",
                    "gates",
                ),
                (
                    "gate output_ok",
                    "+ expect_column_values_to_be_between(column=p_delay, max_value=0.9, min_value=0) critical",
                    "gates",
                ),
            ],
        ),
        (
            {"changes": {"mostly: 0.8, severity: warning}": "mostly: 0.8, on_fail: quarantine}"}},
            [
                (
                    "gate input_ok",
                    "- expect_column_values_to_not_be_null(column=dep_delay, mostly=0.8) warning",
                    "gates",
                ),
                (
                    "gate input_ok",
                    "+ expect_column_values_to_not_be_null(column=dep_delay, mostly=0.8) quarantine",
                    "results",
                ),
            ],
        ),
        ({"changes": {"rows: 8192": "rows: 4096"}}, [("step scored", "batch_rows: 8192 -> 4096", "results")]),
        (
            {"changes": {"@champion": "/7"}},
            [("model delay", "uri: models:/flight_delay@champion -> models:/flight_delay/7", "nothing")],
        ),
        ({"changes": {'"local[2]"': '"local[4]"'}}, [("pipeline", "master: local[2] -> local[4]", "nothing")]),
        (
            {"changes": {'shuffle.partitions: "4"': 'shuffle.partitions: "8"'}},
            [("Spark", "spark.sql.shuffle.partitions: 4 -> 8", "nothing")],
        ),
        (
            {"changes": {'shuffle.partitions: "4"': 'ansi.enabled: "false"'}},
            [
                ("Spark", "spark.sql.ansi.enabled: not set -> false", "results"),
                ("Spark", "spark.sql.shuffle.partitions: 4 -> not set", "nothing"),
            ],
        ),
        (
            {"changes": {"distance: int!": "distance: bigint!"}},
            [
                ("source flights", "column distance: int! -> bigint!", "results"),
                ("step features", "column distance: int -> bigint", "results"),
            ],
        ),
        (
            {"changes": {"partition_by: [dt, origin]": "partition_by: [dt]"}},
            [
                ("sink scores", "partition_by: [dt, origin] -> [dt]", "results"),
            ],
        ),
    ],
)
def test_differences_in_words(tmp_path, options, said):
    found, whole = _said(tmp_path, **options)
    if said and said[0][0] == "sink scores":
        found = [each for each in found if "partition_by" in each[1]]
    assert found == said
    if not any(touches != "nothing" for _, _, touches in said):
        assert whole.equal_code or said[0][0] == "model delay"


def test_sql_is_compared_by_its_lines(tmp_path):
    found, whole = _said(
        tmp_path, sql={"f.distance >= :min_distance": "f.distance > :min_distance", "SELECT\n": "select\n"}
    )
    assert found == [("step features", "SQL changed", "results")]
    assert whole.changes[0].detail == (" WHERE", "-  f.distance >= :min_distance", "+  f.distance > :min_distance")
    assert not whole.equal_code


def test_plans_name_the_intervals_that_are_touched(tmp_path):
    data = tmp_path / "data"
    write_days(data, DAYS)
    old = _pipeline(tmp_path / "p", root=f"file://{data}").plan(*DAYS)
    write_days(data, DAYS[1:], rows=21)
    shutil.rmtree(tmp_path / "p")
    new = _pipeline(tmp_path / "p", root=f"file://{data}").plan(*DAYS)
    found = diff(old, new)
    assert (found.scored_again, found.same) == (("2013-06-02",), 1)
    assert {change.of for change in found.changes} == {"interval 2013-06-02"}
    assert "files:" in found.changes[0].words
    other = _pipeline(tmp_path / "m", backend=FixedBackend(digest="e" * 64, version="8"), root=f"file://{data}").plan(
        *DAYS
    )
    found = diff(new, other)
    assert found.scored_again == tuple(DAYS)
    assert found.changes[0].words == "v7 (sha dddddddd) -> v8 (sha eeeeeeee)"
    later = _pipeline(tmp_path / "l", root=f"file://{data}").plan(DAYS[1])
    found = diff(new, later)
    assert (found.removed, found.added, found.same) == (("2013-06-01",), (), 1)
