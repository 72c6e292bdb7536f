"""What `show` prints, and what `--sample` takes."""

from __future__ import annotations

import datetime
import json
from decimal import Decimal

import pytest
from pyspark.sql import Row

from firesteel.jobs.cli.main import invoke
from firesteel.jobs.cli.show import _json_value, _print_table
from support.runs import DAY
from support.specs import EXAMPLE

SPEC = str(EXAMPLE / "pipeline.yaml")


@pytest.mark.parametrize("part", ["0", "0%", "101%", "1.5", "-1%", "nan", "some", "%", ""])
def test_a_sample_is_a_part_of_the_rows(part, capsys):
    assert invoke(["run", SPEC, "--start", DAY, "--sample", part]) == 2
    assert "is not a part of the rows, such as 1% or 0.01" in capsys.readouterr().err


def test_a_sample_takes_no_run_id(capsys):
    assert invoke(["run", SPEC, "--start", DAY, "--sample", "1%", "--run-id", "r1"]) == 2
    assert "--sample publishes nothing, so it takes no --run-id." in capsys.readouterr().err


def test_every_value_of_spark_is_json():
    value = Row(
        day=datetime.date(2013, 6, 1),
        amount=Decimal("1.10"),
        data=bytearray(b"\x00\xff"),
        rates={1: float("nan")},
        nested=[Row(x=1.5), None],
        flag=True,
    )
    assert json.loads(json.dumps(_json_value(value), allow_nan=False)) == {
        "day": "2013-06-01",
        "amount": "1.10",
        "data": "00ff",
        "rates": {"1": "nan"},
        "nested": [{"x": 1.5}, None],
        "flag": True,
    }


def test_a_table_has_text_as_it_is_and_nothing_for_null(capsys):
    _print_table(["id", "[b]text[/b]"], [[1, "[red]a[/]"], [20, None]])
    assert [line.rstrip() for line in capsys.readouterr().out.splitlines()] == [
        "id  [b]text[/b]",
        " 1  [red]a[/]",
        "20",
        "2 rows",
    ]
    _print_table(["id"], [])
    assert capsys.readouterr().out.splitlines()[-1] == "0 rows"
