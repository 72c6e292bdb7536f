"""`firesteel test` on real Spark with real models: what we ship passes, what is wrong is shown as it is."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest

from firesteel.jobs.project.create import create_starter
from firesteel.jobs.run.plan_runner import run_plan
from firesteel.jobs.testing.bind import Binder
from firesteel.jobs.testing.load import load_cases
from firesteel.jobs.testing.result import exit_code
from firesteel.jobs.testing.run import run_cases
from firesteel.jobs.testing.show import report
from firesteel.pipelines.backend import default_backend
from support.picky import PICKY
from support.runs import DAY, firesteel
from support.specs import example_with

TRACKED = "experiment: /batch/flight_delay"
STUBBED = "{delay: {stub: {p_delay: 0.5}}}"


@pytest.fixture
def run(spark, tmp_path):
    """Run cases, given as the body of a test file, on the session that the tests share."""

    def run_text(cases, changes=None, sql=None):
        spec = example_with(tmp_path / "project", changes or {}, sql)
        file = spec.parent / "tests" / "a.yaml"
        file.write_text(f"test_version: 1\ncases:\n{cases}", encoding="utf-8")
        backend = default_backend()
        bound = Binder(spec, "", {}, backend).bind(load_cases(spec, [file]))
        return run_cases(bound, backend, lambda _: None, spark)

    return run_text


def tracked(uri):
    return {TRACKED: f'uri: "{uri}", {TRACKED}'}


def test_the_cases_of_the_flights_example_pass_with_the_real_model(tmp_path, flight_model):
    spec = example_with(tmp_path / "project", tracked(flight_model))
    root = tmp_path / "storage"
    done = firesteel("test", str(spec), "--param", f"root=file://{root}", "--json", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert (found["passed"], [case["state"] for case in found["cases"]]) == (3, ["passed"] * 3)
    assert not root.exists()  # nothing is read from the storage, and nothing is written to it
    left = {path.name for path in tmp_path.iterdir()} - {"project"}
    assert not left


def test_the_starter_passes_its_cases_without_a_registry(tmp_path):
    create_starter(tmp_path)
    environ = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:1"}  # nobody listens there
    done = firesteel("test", folder=tmp_path, environ=environ)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "PASS   an event without an amount is kept" in done.stdout
    assert "2 passed in" in done.stdout


@pytest.mark.long
def test_a_wrong_expectation_fails_with_the_rows_side_by_side(tmp_path, golden):
    spec = example_with(tmp_path / "project", {})
    (spec.parent / "tests" / "flights.yaml").write_text(
        """\
test_version: 1
cases:
  - name: the minimum distance is inclusive
    description: A flight of exactly min_distance miles is scored.
    params: {min_distance: 200}
    given:
      flights:
        rows:
          - {flight_id: AT, origin: JFK, distance: 200, sched_dep_time: 1745, dep_delay: 0.1}
          - {flight_id: BELOW, origin: EWR, distance: 199}
          - {flight_id: ABOVE, origin: LGA, distance: 201}
    models: {delay: {by: flight_id, stub: {p_delay: {AT: 0.25, ABOVE: null}}}}
    expect:
      features:
        rows:
          - {flight_id: AT, origin: JFK, dep_hour: 18, dep_delay: 0.1}
          - {flight_id: BELOW, origin: EWR}
      sink:scores: {rows: [{flight_id: AT, p_delay: 0.25}, {flight_id: ABOVE, p_delay: 0.75}]}
      scored: {count: 2}
    gates: {output_ok: pass, input_ok: fail}
""",
        encoding="utf-8",
    )
    done = firesteel("test", str(spec), folder=tmp_path)
    assert done.returncode == 2, done.stdout + done.stderr
    golden("case_wrong_expectation.txt", re.sub(r"\d+\.\d s", "N s", done.stdout))


def test_rows_that_the_model_fails_on_are_expected_or_shown(run, picky):
    flights = "given: {flights: {rows: [{flight_id: a, origin: JFK, distance: 107}, {flight_id: b, origin: JFK, distance: 500}]}}"
    stated, silent, wrong = run(
        f"""\
  - name: stated
    {flights}
    expect: {{scored: {{rows: [{{flight_id: b, p_delay: 0.5}}]}}}}
    dead_letter: {{rows: [{{flight_id: a, distance: 107, error: ValueError}}]}}
    gates: {{output_ok: pass}}
  - name: silent
    {flights}
    expect: {{sink:scores: {{count: 1}}}}
  - name: wrong
    {flights}
    dead_letter: {{count: 2}}
""",
        {**tracked(picky), **PICKY},
    )
    assert stated.state == "passed", stated
    assert [difference.summary for difference in silent.differences] == [
        "the model failed on 1 row, and the case has no `dead_letter`"
    ]
    assert [difference.summary for difference in wrong.differences] == ["2 rows expected, 1 found"]


def test_rows_that_a_gate_takes_out_reach_no_step_and_its_verdict_is_on_all(run):
    flights = "given: {flights: {rows: [{flight_id: a, origin: JFK, distance: 107}, {flight_id: b, origin: JFK, distance: 50, dep_delay: 1}]}}"
    taking, keeping = run(
        f"""\
  - name: taking
    {flights}
    models: {STUBBED}
    expect: {{features: {{rows: [{{flight_id: b}}]}}, sink:scores: {{count: 1}}}}
    gates: {{input_ok: pass, output_ok: pass}}
  - name: keeping
    {flights}
    expect: {{features: {{count: 2}}}}
""",
        {"mostly: 0.8, severity: warning}": "on_fail: quarantine}"},
    )
    assert taking.state == "passed", taking
    assert [difference.summary for difference in keeping.differences] == ["2 rows expected, 1 found"]


EXACT = {
    "flight_id: string!, sched_dep_time: int, dep_delay: double, distance: int!, hour: int": (
        "flight_id: string!, sched_dep_time: int, dep_delay: double, distance: int!, hour: int, "
        "paid: 'decimal(38,18)', big: bigint, at: timestamp, seen: timestamp_ntz, 'on': date, tags: array<double>, raw: binary, f: float"
    ),
}
COLUMNS = "paid, big, at, seen, `on`, tags, raw, f"
CELLS = """paid: "12345678901234567890.000000000000000001", big: 9007199254740993, at: 2013-11-03T05:30:00.000001Z,
             seen: 2013-03-10T02:30:00, 'on': 2013-06-01, tags: [0.1, null], raw: "0x00ff", f: 0.1"""


def test_every_type_comes_through_exactly_in_any_time_zone(run, monkeypatch):
    import time

    monkeypatch.setenv("TZ", "America/New_York")  # 05:30 UTC is shown twice there that night, and 02:30 in March never
    time.tzset()
    try:
        (result,) = run(
            f"""\
  - name: exact
    given:
      flights:
        rows:
          - {{flight_id: a, origin: JFK, distance: 1, {CELLS}}}
          - {{flight_id: b, origin: JFK, distance: 1}}
    expect:
      features:
        order: given
        rows:
          - {{flight_id: a, {CELLS}}}
          - {{flight_id: b}}
""",
            EXACT,
            {"  f.distance,": "  f.distance, " + ", ".join(f"f.{each.strip()}" for each in COLUMNS.split(",")) + ",",
             "WHERE f.distance >= :min_distance": "WHERE f.distance >= :min_distance ORDER BY f.flight_id"},
        )  # fmt: skip
    finally:
        monkeypatch.undo()
        time.tzset()
    assert result.state == "passed", result


def test_a_case_that_cannot_run_says_why_and_the_next_one_runs(run):
    results = run(
        f"""\
  - name: a stub without a value
    given: {{flights: {{rows: [{{flight_id: a, origin: JFK, distance: 1}}, {{flight_id: b, origin: JFK, distance: 1}}]}}}}
    models: {{delay: {{by: flight_id, stub: {{p_delay: {{b: 0.5}}}}}}}}
    expect: {{scored: {{count: 2}}}}
  - name: a division that Spark refuses
    given: {{flights: {{rows: [{{flight_id: a, origin: JFK, distance: 1, hour: 0}}]}}}}
    expect: {{features: {{count: 1, rows: [{{distance: 1}}]}}}}
  - name: one that runs
    given: {{flights: {{rows: [{{flight_id: a, origin: JFK, distance: 1, hour: 1}}]}}}}
    models: {STUBBED}
    expect: {{sink:scores: {{rows: [{{flight_id: a, p_delay: 0.5, _run_id: test}}]}}}}
""",
        sql={"  f.distance,": "  CAST(f.distance DIV f.hour AS INT) AS distance,"},
    )
    assert [result.state for result in results] == ["error", "error", "passed"], results
    assert [result.errors[0].code for result in results[:2]] == ["FS1105", "FS9002"]
    assert "DIVIDE_BY_ZERO" in str(results[1].errors[0])
    assert exit_code(results) == 1


def test_a_source_that_declares_no_columns_takes_those_of_the_rows(run, spark):
    before = spark.catalog.listTables()
    (result,) = run(
        """\
  - name: undeclared
    given:
      flights: {rows: [{flight_id: a, origin: JFK, distance: 1, hour: 5}]}
      weather: {rows: [{origin: JFK, hour: 5, temp: 20.5, wind_speed: 1.0, precip: 0.0, visib: 10.0}]}
    expect: {features: {rows: [{flight_id: a, temp: 20.5}]}}
""",
        {
            "      columns: {origin: string!, hour: int!, temp: double, wind_speed: double, precip: double, visib: double}\n": ""
        },
    )
    assert result.state == "passed", result
    assert spark.catalog.listTables() == before  # the caller's session has seen nothing of it


def test_a_case_gives_what_a_run_publishes(project, spark, runs, tmp_path):
    """The same rows, once through the whole transaction and once as a case: bit by bit the same scores."""
    pipeline = project.pipeline()
    assert run_plan(pipeline.plan(DAY), spark=spark, runs=runs).state == "published"
    scores = pads.dataset(f"{project.root}/scores/dt={DAY}", partitioning="hive", exclude_invalid_files=False)
    published = scores.to_table(columns=["flight_id", "origin", "p_delay", "_model_version"]).to_pylist()
    assert len(published) == 60
    tests = project.folder / "tests"
    for name in ("flights", "weather"):
        source = f"{project.root}/{name}/dt={DAY}".removeprefix("file://")
        table = pads.dataset(source, partitioning="hive").to_table()
        pq.write_table(table.cast(pa.schema([_plain(field) for field in table.schema])), tests / f"{name}.parquet")
    case = {
        "name": "as published",
        "interval": DAY,
        "given": {name: {"file": f"{name}.parquet"} for name in ("flights", "weather")},
        "expect": {"sink:scores": {"rows": published, "tolerance": 0}},
        "gates": {"input_ok": "pass", "output_ok": "pass"},
    }
    (tests / "a.yaml").write_text(json.dumps({"test_version": 1, "cases": [case]}), encoding="utf-8")
    spec, backend = project.folder / "pipeline.yaml", default_backend()
    bound = Binder(spec, "", {}, backend).bind(load_cases(spec, [tests / "a.yaml"]))
    (result,) = run_cases(bound, backend, lambda _: None, spark)
    assert result.state == "passed", report(result)


def _plain(field):
    """Partition columns are read as dictionaries."""
    return pa.field(field.name, field.type.value_type if pa.types.is_dictionary(field.type) else field.type)


def test_scratch_folders_are_gone_afterwards(run, monkeypatch, tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    (result,) = run(
        "  - name: a\n    expect: {features: {count: 0}, scored: {rows: []}}\n    models: " + STUBBED + "\n"
    )
    assert result.state == "passed", result
    assert list(Path(scratch).iterdir()) == []
