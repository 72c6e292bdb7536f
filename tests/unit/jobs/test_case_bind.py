"""Test files: everything that is wrong with them is said before a JVM starts, with its place."""

from __future__ import annotations

import json
import re
from datetime import date
from decimal import Decimal

import jsonschema
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from firesteel.conf.codes import CODES
from firesteel.conf.errors import SpecErrors
from firesteel.jobs.cli.main import invoke
from firesteel.jobs.testing.bind import Binder
from firesteel.jobs.testing.load import load_cases
from firesteel.jobs.testing.model import case_schema
from firesteel.jobs.testing.prepare import CaseBackend, prepare
from firesteel.pipelines.planner.contract import read_schema
from support.specs import EXAMPLE, FixedBackend, example_with

CASE = """\
test_version: 1
cases:
  - name: a
"""
FLIGHT = "{flight_id: a, origin: JFK, distance: 100}"


def bind(spec, text, *, only="", params=None, backend=None):
    file = spec.parent / "tests" / "a.yaml"
    file.parent.mkdir(exist_ok=True)
    file.write_text(text, encoding="utf-8")
    cases = load_cases(spec, [file], only)
    return Binder(spec, "", params or {}, backend or FixedBackend()).bind(cases)


def one(spec, body, **options):
    (case,) = bind(spec, CASE + "".join(f"    {line}\n" for line in body.splitlines()), **options)
    return case


def problems(spec, text):
    with pytest.raises(SpecErrors) as caught:
        bind(spec, text)
    return [str(error) for error in caught.value.errors]


@pytest.fixture
def spec(tmp_path):
    return example_with(tmp_path, {})


MANY = """\
test_version: 1
cases:
  - name: too early
    interval: 2012-01-01
    expect: {features: {count: 0}}
  - name: params
    params: {min_distance: 9999, cutof: 1}
    expect: {features: {count: 0}}
  - name: rows
    interval: 2013-06-01
    given:
      flights:
        rows:
          - {flight_id: 17, origin: JFK, distance: 3.5, dep_dely: 1}
          - {flight_id: a, origin: ORD, distance: 100}
          - {flight_id: b, distance: 100, dt: 2013-06-02}
          - {origin: JFK, distance: null}
      wether: {rows: []}
      weather: {file: nothing.csv}
    models: {delay: {stub: {p_dely: 0.5}}, other: real}
    expect:
      features: {rows: [{flight_id: a, dep_hour: late, temperature: 3}]}
      scors: {count: 1}
      sink:scores: {rows: [{_run_id: test, p_delay: high}]}
    gates: {input_k: pass}
  - name: stubs
    models:
      delay: {by: flight, stub: {p_delay: {a: 1}}}
    dead_letter: {count: 0}
  - name: more stubs
    models:
      delay: {by: flight_id, stub: {p_delay: {a: x}}}
    gates: {output_ok: pass}
"""

SHAPES = """\
test_version: 1
cases:
  - nam: x
    givn: {flights: {rows: []}}
    expect: {features: {rows: 3}}
  - name: y
    given: {flights: {}}
    models: {delay: {stup: {a: 1}}}
  - name: z
    expect: {features: {order: sorted, count: 1}, scored: {columns: all}}
    models: {delay: fake}
    gates: {a: maybe}
    name: z
"""


@pytest.mark.parametrize(("name", "text"), [("many", MANY), ("shapes", SHAPES)])
def test_all_that_is_wrong_is_said_at_once_with_its_place(spec, golden, name, text):
    golden(f"case_{name}.txt", "\n".join(problems(spec, text)) + "\n")


def test_a_file_without_cases_and_two_cases_of_one_name_are_refused(spec):
    assert problems(spec, "test_version: 1\ncases: []\n") == [
        "FS1004 tests/a.yaml:2:1  `cases`: a test file has at least one case."
    ]
    twice = CASE + "    expect: {features: {count: 0}}\n  - name: a\n    expect: {features: {count: 0}}\n"
    assert problems(spec, twice) == [
        "FS1013 tests/a.yaml:5:5  two cases have the name `a` (first at line 3). Rename one; `-k` selects cases by name."
    ]
    assert "must be 1, found 2" in problems(spec, "test_version: 2\ncases: []\n")[0]


def test_what_is_wrong_with_the_spec_itself_is_said_once(tmp_path):
    spec = example_with(tmp_path, {"model: delay": "model: dely"})
    found = problems(
        spec, CASE + "    expect: {features: {count: 0}}\n  - name: b\n    expect: {features: {count: 0}}\n"
    )
    assert [each.split(":")[0] for each in found] == ["FS1010 pipeline.yaml"]


def test_cases_are_chosen_by_a_part_of_their_name_and_none_is_an_error(capsys):
    spec = str(EXAMPLE / "pipeline.yaml")
    assert [case.case.name for case in load_cases(EXAMPLE / "pipeline.yaml", only="MIN_")] == [
        "min_distance excludes short flights"
    ]
    assert invoke(["test", spec, "-k", "nothing like it"]) == 2
    assert (
        "FS1101 no case has a name that contains `nothing like it`. Use a part of one of these names: `weather joins"
        in capsys.readouterr().err
    )


def test_a_spec_without_tests_says_where_they_go(tmp_path, capsys):
    assert invoke(["test", str(tmp_path / "pipeline.yaml"), "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["errors"][0]["code"] == "FS1101"


def test_a_row_stands_in_the_partition_that_a_producer_would_have_named(spec):
    case = one(
        spec, f"interval: 2013-06-01\ngiven: {{flights: {{rows: [{FLIGHT}]}}}}\nexpect: {{features: {{count: 1}}}}"
    )
    (source,) = case.sources
    assert source.directories == (("dt=2013-06-01/origin=JFK", ({"flight_id": "a", "distance": 100},)),)


def test_a_selected_value_is_written_as_spark_names_its_directory(tmp_path):
    changes = {"partitions: {dt: date, origin: string}": "partitions: {dt: date, origin: string, slot: int}"}
    changes |= {'origin: "${param.origins}"}': 'origin: "${param.origins}", slot: ["05", "06"]}'}
    spec = example_with(tmp_path, changes)
    row = FLIGHT.replace("}", ", slot: 5}")
    case = one(spec, f"given: {{flights: {{rows: [{row}]}}}}\nexpect: {{features: {{count: 1}}}}")
    assert case.sources[0].directories[0][0] == "dt=2013-01-01/origin=JFK/slot=5"


def test_data_files_hold_exact_values_with_their_lines(spec):
    folder = spec.parent / "tests"
    folder.mkdir(exist_ok=True)
    (folder / "f.csv").write_text("flight_id,origin,distance,dep_delay\n7,JFK,100,\n8,LGA,x,1.5\n", encoding="utf-8")
    body = "given: {flights: {file: f.csv}}\nexpect: {features: {count: 1}}"
    with pytest.raises(SpecErrors) as caught:
        one(spec, body)
    assert [str(error) for error in caught.value.errors] == [
        "FS1102 f.csv:3  `distance`: expected a whole number, found 'x'."
    ]
    (folder / "f.csv").write_text("flight_id,origin,distance,dep_delay\n7,JFK,100,\n", encoding="utf-8")
    expected = (("dt=2013-01-01/origin=JFK", ({"flight_id": "7", "distance": 100, "dep_delay": None},)),)
    assert one(spec, body).sources[0].directories == expected
    (folder / "f.json").write_text('[{"flight_id": "7", "origin": "JFK", "distance": 100, "dep_delay": null}]')
    assert one(spec, body.replace("csv", "json")).sources[0].directories == expected
    table = pa.table(
        {"flight_id": ["7"], "origin": ["JFK"], "distance": pa.array([100], pa.int32()), "dep_delay": [None]}
    )
    pq.write_table(table, folder / "f.parquet")
    assert one(spec, body.replace("csv", "parquet")).sources[0].directories == expected


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("f.csv", "flight_id,origin\na\n", "line 2 has 1 cell, the header has 2"),
        ("f.json", "{}", "expected a list of mappings"),
        ("f.json", "[", "Expecting value"),
        ("f.parquet", "no", "Parquet"),
        ("f.txt", "", "`f.txt` is not a .csv, .json or .parquet file."),
    ],
)
def test_a_data_file_that_cannot_be_read_is_said(spec, name, text, message):
    folder = spec.parent / "tests"
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")
    with pytest.raises(SpecErrors) as caught:
        one(spec, f"given: {{flights: {{file: {name}}}}}\nexpect: {{features: {{count: 1}}}}")
    assert [error.code for error in caught.value.errors] == ["FS1104"]
    assert message in str(caught.value)


def test_a_case_needs_only_the_steps_before_what_it_looks_at(spec):
    assert one(spec, "expect: {features: {count: 0}}").needed == ("features",)
    for look in ("expect: {scores: {count: 0}}", "gates: {output_ok: pass}", "dead_letter: {count: 0}"):
        assert one(spec, look).needed == ("features", "scored")
    assert one(spec, "gates: {input_ok: pass}").needed == ()


class Counting(FixedBackend):
    def __init__(self):
        super().__init__()
        self.asked = []

    def resolve_model(self, name, model, tracking_uri, where):
        self.asked.append(name)
        return super().resolve_model(name, model, tracking_uri, where)


def test_the_registry_is_asked_once_and_only_for_models_that_score(spec, tmp_path):
    counting = Counting()
    backend = CaseBackend(counting, frozenset())
    stub = "models: {delay: {stub: {p_delay: 0.5}}}\n"
    for number, body in enumerate(("expect: {features: {count: 0}}", f"{stub}expect: {{scored: {{count: 0}}}}")):
        assert prepare(one(spec, body), backend, tmp_path / str(number)).models[0].version == "stub"
    assert counting.asked == []
    for number in (2, 3):
        plan = prepare(one(spec, "expect: {scored: {count: 0}}"), backend, tmp_path / str(number))
        assert plan.models[0].version == "7"
    assert counting.asked == ["delay"]


def test_a_plan_of_a_case_is_local_and_names_no_place_outside_its_folder(spec, tmp_path):
    body = f"given: {{flights: {{rows: [{FLIGHT}]}}}}\nexpect: {{features: {{count: 1}}}}"
    plan = prepare(
        one(spec, body, params={"root": "hdfs://nn/ml"}), CaseBackend(FixedBackend(), frozenset()), tmp_path / "x"
    )
    assert plan.master == "local[1]"
    assert "hdfs://" not in plan.to_json().replace(json.dumps(plan.spec_text), "")
    assert {key for key, _ in plan.spark_conf if not key.startswith("spark.sql.")} == {"spark.default.parallelism"}
    (file,) = plan.intervals[0].inputs[0].files
    assert file.path == "dt=2013-01-01/origin=JFK/part-0.parquet"


def test_rows_are_written_in_the_types_of_the_contract(tmp_path):
    columns = "{flight_id: string!, sched_dep_time: int, dep_delay: double, distance: int!, hour: int}"
    more = columns.replace(
        "}", ", paid: 'decimal(20,4)', at: timestamp, seen: timestamp_ntz, on: date, tags: array<string>, raw: binary}"
    )
    spec = example_with(tmp_path / "p", {columns: more})
    row = FLIGHT.replace(
        "}", ", paid: 1.5, at: 2013-06-01T05:00:00Z, seen: 2013-06-01 05:00, 'on': 2013-06-01, tags: [a], raw: 0x}"
    )
    case = one(
        spec,
        f"given: {{flights: {{rows: [{row.replace('raw: 0x', 'raw: 0xca')}]}}}}\nexpect: {{features: {{count: 1}}}}".replace(
            "0xca", '"0xca"'
        ),
    )
    plan = prepare(case, CaseBackend(FixedBackend(), frozenset()), tmp_path / "x")
    source = next(each for each in plan.sources if each.name == "flights")
    path = f"{source.path}/{plan.intervals[0].inputs[0].files[0].path}".removeprefix("file://")
    from firesteel.pipelines.storage.open import locate

    storage, _ = locate(source.path)
    found = {
        column.name: column.type
        for column in read_schema("flights", storage, path, storage.status(path).length).columns
    }
    assert found == {
        "flight_id": "string", "sched_dep_time": "int", "dep_delay": "double", "distance": "int", "hour": "int",
        "paid": "decimal(20,4)", "at": "timestamp", "seen": "timestamp_ntz", "on": "date", "tags": "array<string>", "raw": "binary",
    }  # fmt: skip
    values = pq.read_table(path, partitioning=None).to_pylist()[0]
    assert (values["paid"], values["on"], values["raw"]) == (Decimal("1.5000"), date(2013, 6, 1), b"\xca")


def test_the_schema_accepts_the_files_that_we_ship_and_refuses_others(capsys):
    assert invoke(["schema", "--tests"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert schema == case_schema()
    starter = EXAMPLE.parents[1] / "jobs/src/firesteel/jobs/project/starter/tests/scores.yaml"
    reader = YAML(typ="base", pure=True)
    for path in (EXAMPLE / "tests" / "flights.yaml", starter):
        found = reader.load(path.read_text(encoding="utf-8"))
        found["test_version"] = 1  # everything is text to this reader
        for case in found["cases"]:
            for each in case["expect"].values():
                each.pop("tolerance", None)
        jsonschema.validate(found, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"test_version": 1, "cases": [{"name": "a", "expct": {}}]}, schema)


def test_the_how_to_is_true(spec):
    text = (EXAMPLE.parents[1] / "docs" / "how-to" / "test-a-pipeline.md").read_text(encoding="utf-8")
    (cases,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert [case.scoring for case in bind(spec, cases)] == ["", "scored", "scored"]
    (shown,) = re.findall(r"```text\n(.*?)```", text, re.DOTALL)
    golden = EXAMPLE.parents[1] / "tests" / "integration" / "golden" / "case_wrong_expectation.txt"
    assert shown in golden.read_text(encoding="utf-8")


CELLS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)
COLUMNS = st.sampled_from(["flight_id", "origin", "dt", "distance", "dep_delay", "hour", "p_delay", "temp", "x"])
ROWS = st.lists(st.dictionaries(COLUMNS, CELLS, max_size=4), max_size=3)


@settings(max_examples=60, deadline=None)
@given(rows=ROWS, wanted=ROWS, interval=CELLS, stub=CELLS, by=COLUMNS)
def test_whatever_a_case_holds_it_is_bound_or_refused_with_codes(tmp_path_factory, rows, wanted, interval, stub, by):
    folder = tmp_path_factory.mktemp("fuzz")
    file = folder / "a.yaml"
    case = {
        "name": "a",
        "interval": interval,
        "given": {"flights": {"rows": rows}},
        "models": {"delay": {"by": by, "stub": {"p_delay": stub}}},
        "expect": {"scored": {"rows": wanted}, "features": {"count": 1}},
    }
    file.write_text(json.dumps({"test_version": 1, "cases": [case]}), encoding="utf-8")
    spec = EXAMPLE / "pipeline.yaml"
    try:
        (bound,) = Binder(spec, "", {}, FixedBackend()).bind(load_cases(spec, [file]))
    except SpecErrors as found:
        assert all(error.code in CODES and error.where for error in found.errors)
    else:
        assert bound.needed == ("features", "scored")


WEATHER = 'partitions: {dt: date}\n    select: {dt: "${interval.ds}"}'


@pytest.mark.parametrize(
    ("day", "problem"),
    [
        ("year: 2013, month: 5, day: 31", ""),
        ("year: 2013, month: 6, day: 1", ""),
        (
            "year: 2013, month: 6, day: 31",
            "`weather` year=2013/month=6/day=31 is no partition that this interval reads",
        ),
        ("year: 2013, month: 7, day: 1", "`weather.month` 7 is in no partition that this interval reads"),
    ],
)
def test_columns_that_are_selected_together_are_checked_together(tmp_path, day, problem):
    declared = 'partitions: {year: "%Y", month: "%-m", day: "%-d"}\n    select: {from: "${interval.ds - 1d}", to: "${interval.ds}"}'
    spec = example_with(tmp_path, {WEATHER: declared}, {" AND f.dt = w.dt": ""})
    body = f"interval: 2013-06-01\ngiven: {{weather: {{rows: [{{origin: JFK, hour: 5, {day}}}]}}}}\nexpect: {{features: {{count: 0}}}}"
    if problem:
        with pytest.raises(SpecErrors, match=problem):
            one(spec, body)
        return
    (source,) = one(spec, body).sources
    assert source.directories[0][0] == day.replace(": ", "=").replace(", ", "/")


@pytest.mark.parametrize(
    ("partitions", "directory"), [('{dt: "%Y%m%d"}', "dt=20130531"), ('"%Y/%m/%d"', "2013/05/31"), ("{dt: date}", "dt=2013-05-31")]
)  # fmt: skip
def test_rows_of_the_newest_partition_are_in_one_that_the_interval_may_read(tmp_path, partitions, directory):
    changes = {
        WEATHER: f"partitions: {partitions}\n    select: latest",
        "unit: day, begin: 2013-01-01": "unit: hour, begin: 2013-01-01",
        'select: {dt: "${interval.ds}", origin': "select: {origin",
        "partitions: {dt: date, origin": 'partitions: {dt: "%Y-%m-%d", hr: "%H", origin',
        "partition_by: [dt, origin]": 'partition_by: [{dt: "%Y-%m-%d"}, {hr: "%H"}, origin]',
        "{column: dt, ": "{",
    }
    spec = example_with(tmp_path, changes, {" AND f.dt = w.dt": ""})
    body = "interval: 2013-06-01T05\ngiven: {weather: {rows: [{origin: JFK, hour: 5}]}}\nexpect: {features: {count: 0}}"
    case = one(spec, body)
    (source,) = case.sources
    assert [path for path, _ in source.directories] == [directory]
    plan = prepare(case, CaseBackend(FixedBackend(), frozenset()), tmp_path / "files")
    (read,) = [read for read in plan.intervals[0].inputs if read.source == "weather"]
    assert read.directories == (directory,)
