from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from firesteel.conf.errors import InputNotReady, PlanDrift, SpecErrors
from firesteel.conf.partitions import partition_name
from firesteel.pipelines import Pipeline, Plan
from firesteel.pipelines.publish.transaction import Attempt, StateStore, Transaction
from firesteel.pipelines.result import Counts
from firesteel.pipelines.storage.open import locate
from support.data import write, write_days
from support.specs import FixedBackend, example_with

DAY = "2013-06-01"


@pytest.fixture
def data(tmp_path) -> Path:
    root = tmp_path / "data"
    write_days(root, [DAY, "2013-06-02"])
    return root


def pipeline(folder: Path, root: Path, changes=None, sql=None, backend=None, params=None) -> Pipeline:
    folder = folder / "project"
    path = (
        folder / "pipeline.yaml"
        if folder.exists() and not (changes or sql)
        else example_with(folder, changes or {}, sql)
    )
    return Pipeline.load(path, params={"root": f"file://{root}", **(params or {})}, backend=backend or FixedBackend())


def planned(folder: Path, root: Path, **options) -> Plan:
    return pipeline(folder, root, **options).plan(DAY)


def test_a_plan_reads_only_the_planned_partitions_and_needed_columns(tmp_path, data):
    plan = planned(tmp_path, data, params={"origins": "JFK,LGA"})
    flights, weather = plan.intervals[0].inputs
    assert flights.directories == ("dt=2013-06-01/origin=JFK", "dt=2013-06-01/origin=LGA")
    assert [file.path for file in flights.files] == [
        f"dt=2013-06-01/origin={each}/part-0.parquet" for each in ("JFK", "LGA")
    ]
    assert [file.path for file in weather.files] == ["dt=2013-06-01/part-0.parquet"]
    assert {column.name for column in plan.sources[0].columns} == {
        "flight_id",
        "sched_dep_time",
        "dep_delay",
        "distance",
        "hour",
    }
    assert plan.intervals[0].outputs[0].directories == flights.directories


def test_the_same_inputs_give_the_same_bytes(tmp_path, data):
    assert planned(tmp_path, data).to_json() == planned(tmp_path, data).to_json()


def test_a_plan_survives_its_json(tmp_path, data):
    plan = planned(tmp_path, data)
    assert Plan.from_json(plan.to_json()) == plan


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"format": "other"}'])
def test_what_is_no_plan_is_refused(text):
    with pytest.raises(PlanDrift, match="FS6003"):
        Plan.from_json(text)


def test_what_changes_the_hashes_and_what_does_not(tmp_path, data):
    base = planned(tmp_path, data)
    same = [
        {"changes": {"spec_version: 1": "# a comment\nspec_version: 1"}},
        {"changes": {"owner: ml-ops@example.org": "owner: someone@example.org"}},
        {"changes": {'resources: {master: "local[2]"}': 'resources: {master: "local[1]"}'}},
        {"changes": {"experiment: /batch/flight_delay": "experiment: /other"}},
        {
            "changes": {
                'spark.sql.shuffle.partitions: "4"': 'spark.sql.shuffle.partitions: "8", spark.driver.memory: 2g'
            }
        },
        {
            "changes": {
                "name: flight_delay_scores\nowner: ml-ops@example.org": "owner: ml-ops@example.org\nname: flight_delay_scores"
            }
        },
        {
            "changes": {
                "mode: replace_partitions": "mode: replace_partitions\n    retain: {versions: 5, dead_letter: 30d}"
            }
        },
        {
            "changes": {
                "features: signature ": "warmup: input_example\n      workers: {threads: 2}\n      features: signature "
            }
        },
        {"changes": {"    method: predict_proba": "    method: predict_proba\n    requirements: warn"}},
        {"sql": {"-- One row per flight": "-- A row for each flight", "SELECT\n": "select\n\n"}},
    ]
    for options in same:
        shutil.rmtree(tmp_path / "project")
        other = planned(tmp_path, data, **options)
        assert (other.code_hash, other.intervals[0].plan_hash) == (base.code_hash, base.intervals[0].plan_hash), options
    moved = tmp_path / "moved"
    shutil.copytree(data, moved)
    assert planned(tmp_path, moved).intervals[0].plan_hash == base.intervals[0].plan_hash
    different = [
        {"sql": {"f.distance >=": "f.distance >"}},
        {"changes": {'spark.sql.shuffle.partitions: "4"': 'spark.sql.ansi.enabled: "false"'}},
        {"params": {"min_distance": "5"}},
        {"params": {"origins": "JFK"}},
        {"changes": {"max_value: 1}": "max_value: 0.9}"}},
        {"changes": {"rows: 8192": "rows: 4096"}},
        {"changes": {"name: flight_delay_scores": "name: other"}},
    ]
    for options in different:
        shutil.rmtree(tmp_path / "project")
        other = planned(tmp_path, data, **options)
        assert other.code_hash != base.code_hash, options
    assert (
        planned(tmp_path / "m", data, backend=FixedBackend(digest="e" * 64)).intervals[0].plan_hash
        != base.intervals[0].plan_hash
    )
    assert (
        planned(tmp_path / "v", data, backend=FixedBackend(version="8")).intervals[0].plan_hash
        == base.intervals[0].plan_hash
    )
    write_days(data, [DAY], rows=21)
    assert planned(tmp_path / "d", data).intervals[0].plan_hash != base.intervals[0].plan_hash


def publish(pipe: Pipeline, interval, data: Path, hash_inputs=None) -> None:
    """Write an empty publish of `interval` to the ledger, as a run would."""
    storage, base = locate(pipe.loaded.spec.storage)
    store = StateStore(storage, base, pipe.name, pipe.loaded.profile)
    parts = interval.hash_inputs if hash_inputs is None else hash_inputs
    attempt = Attempt("r1", interval.plan_hash, "someone", "here", "2026-01-01T00:00:00+00:00", hash_inputs=parts)
    with Transaction.begin(store, "scores", str(data / "scores"), interval.id, attempt) as transaction:
        transaction.publish(interval.outputs[0].directories, Counts())


def test_a_published_interval_is_skipped(tmp_path, data):
    pipe = pipeline(tmp_path, data)
    first = pipe.plan(DAY).intervals[0]
    assert (first.action, first.reason) == ("score", "not published yet")
    publish(pipe, first, data)
    again = pipe.plan(DAY).intervals[0]
    assert again.action == "skip"
    assert again.reason.startswith("already published with the same plan hash")
    assert pipe.plan(DAY, force=True).intervals[0].reason == "forced"


def test_what_changed_since_an_interval_was_published_is_named(tmp_path, data):
    pipe = pipeline(tmp_path, data)
    publish(pipe, pipe.plan(DAY).intervals[0], data)
    write_days(data, [DAY], rows=21)
    reason = pipe.plan(DAY).intervals[0].reason
    assert re.fullmatch(
        r"changed since it was published: input flights \(3 files, [\d.]+ KiB, \w{8} -> 3 files, [\d.]+ KiB, \w{8}\); "
        r"input weather \(.*\)",
        reason,
    )
    publish(pipe, pipe.plan(DAY).intervals[0], data)
    other = pipeline(tmp_path, data, backend=FixedBackend(digest="e" * 64, version="8"))
    assert other.plan(DAY).intervals[0].reason == (
        "changed since it was published: model delay (v7 dddddddd -> v8 eeeeeeee)"
    )


def test_a_change_of_gates_that_keep_all_rows_is_audited_and_any_other_change_is_scored(tmp_path, data):
    pipe = pipeline(tmp_path, data)
    publish(pipe, pipe.plan(DAY).intervals[0], data)
    loose = {"max_value: 1}": "max_value: 2}"}
    gates = pipeline(tmp_path / "gates", data, loose).plan(DAY).intervals[0]
    assert (gates.action, gates.audited_gates) == ("audit", ("output_ok",))
    assert re.fullmatch(r"changed since it was published: gate output_ok \(\w{8} -> \w{8}\)", gates.reason)
    both = pipeline(tmp_path / "both", data, {**loose, "mostly: 0.8": "mostly: 0.7"}).plan(DAY).intervals[0]
    assert (both.action, len(both.audited_gates)) == ("audit", 2)
    taking = {"mostly: 0.8, severity: warning}": "mostly: 0.8, on_fail: drop}"}
    excluding = pipeline(tmp_path / "taking", data, taking).plan(DAY).intervals[0]
    assert (excluding.action, excluding.audited_gates) == ("score", ())
    assert "; spec (" in excluding.reason  # it changes which rows are scored
    other = pipeline(tmp_path / "other", data, loose, backend=FixedBackend(digest="e" * 64)).plan(DAY).intervals[0]
    assert other.action == "score"
    assert pipeline(tmp_path / "forced", data, loose).plan(DAY, force=True).intervals[0].action == "score"


def test_a_publish_of_which_nothing_is_known_is_changed_as_a_whole(tmp_path, data):
    pipe = pipeline(tmp_path, data)
    publish(pipe, pipe.plan(DAY).intervals[0], data, hash_inputs=())
    write_days(data, [DAY], rows=21)
    assert pipe.plan(DAY).intervals[0].reason == "changed since it was published: spec, model or input"


def test_a_run_waits_for_a_marker_that_is_written_meanwhile(tmp_path, data, monkeypatch):
    monkeypatch.setattr("firesteel.pipelines.planner.listing.READY_POLL_S", 0.01)
    marker = data / "flights" / f"dt={DAY}" / "_SUCCESS"
    marker.unlink()
    asked = []

    def progress(what, done, total):
        asked.append((what, done, total))
        if asked.count(("listing", 1, 2)) == 3:
            marker.touch()

    class Counting(FixedBackend):
        resolved = 0

        def resolve_model(self, *args):
            Counting.resolved += 1
            return super().resolve_model(*args)

    pipe = pipeline(tmp_path, data, {"{marker: _SUCCESS}": "{marker: _SUCCESS, timeout: 1m}"}, backend=Counting())
    plan = pipe.plan(DAY, wait=True, on_progress=progress)
    assert plan.intervals[0].action == "score"
    assert Counting.resolved == 1, "the model is looked up once, however long the wait"


def test_pruned_partitions_are_not_listed_and_are_replaced_all_the_same(tmp_path, data):
    changes = {
        "    on: flights\n    expect:": "    on: features\n    expect:",
    }
    plan = planned(
        tmp_path, data, changes=changes, sql={"WHERE f.distance": "WHERE f.origin IN ('JFK', 'LGA') AND f.distance"}
    )
    flights = plan.intervals[0].inputs[0]
    assert flights.directories == ("dt=2013-06-01/origin=JFK", "dt=2013-06-01/origin=LGA")
    assert plan.sources[0].filters == ("origin IN ('JFK', 'LGA')", "distance >= 0")
    assert len(plan.intervals[0].outputs[0].directories) == 3


WEATHER = "columns: {origin: string!, hour: int!, temp: double, wind_speed: double, precip: double, visib: double}"


def test_a_source_without_declared_columns_is_looked_at_when_the_plan_is_made(tmp_path, data):
    undeclared = {f"      {WEATHER}\n": ""}
    pipe = pipeline(tmp_path, data, undeclared)
    assert pipe.analysis.unknown == {"weather", "features"}
    plan = pipe.plan(DAY)
    assert {column.name for column in plan.sources[1].columns} == {
        "origin",
        "hour",
        "temp",
        "wind_speed",
        "precip",
        "visib",
    }
    declared = planned(tmp_path / "declared", data)
    assert plan.steps == declared.steps
    with pytest.raises(SpecErrors, match=r"FS2004 sql/features.sql:9:5  column `wind_sped` does not exist in weather"):
        planned(tmp_path / "wrong", data, changes=undeclared, sql={"w.wind_speed": "w.wind_sped"})
    for file in (data / "weather" / f"dt={DAY}").glob("*.parquet"):
        file.unlink()
    with pytest.raises(InputNotReady, match="FS4004 pipeline.yaml:26:3  weather: the spec declares no columns"):
        pipe.plan(DAY)


def test_a_missing_partition_is_named(tmp_path, data):
    with pytest.raises(InputNotReady) as caught:
        pipeline(tmp_path, data).plan(DAY, "2013-06-05")
    assert caught.value.code == "FS4002"
    assert "flights/dt=2013-06-03 is missing. Nothing was read. (5 more.)" in str(caught.value)
    assert caught.value.exit_code == 4


def test_a_missing_marker_is_named_with_what_is_there(tmp_path, data):
    (data / "flights" / f"dt={DAY}" / "_SUCCESS").unlink()
    with pytest.raises(
        InputNotReady,
        match=r"FS4001 flights dt=2013-06-01: _SUCCESS is missing \(3 files present\)\. Nothing was read\.",
    ):
        planned(tmp_path, data)


def test_on_missing_skip_and_empty(tmp_path, data):
    skip = pipeline(tmp_path / "s", data, {"on_missing: fail": "on_missing: skip"}).plan("2013-06-02", "2013-06-02")
    assert skip.intervals[0].action == "score"
    shutil.rmtree(data / "flights" / "dt=2013-06-02")
    skip = pipeline(tmp_path / "s", data).plan(DAY, "2013-06-02")
    assert [interval.action for interval in skip.intervals] == ["score", "skip"]
    assert skip.intervals[1].reason == "input missing (on_missing: skip)"
    empty = pipeline(tmp_path / "e", data, {"on_missing: fail": "on_missing: empty"}).plan("2013-06-02")
    assert empty.intervals[0].inputs[0].files == ()
    assert len(empty.intervals[0].outputs[0].directories) == 3


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        ({"distance": pa.array(["far"])}, "column `distance` is string in"),
        ({}, "column `distance` is not in"),
    ],
)
def test_data_that_breaks_the_contract_is_found_in_the_footer(tmp_path, data, column, expected):
    rest = {
        "flight_id": ["a"],
        "sched_dep_time": pa.array([1], pa.int32()),
        "dep_delay": [1.0],
        "hour": pa.array([1], pa.int32()),
    }
    write(data / "flights" / f"dt={DAY}" / "origin=JFK" / "part-1.parquet", pa.table({**rest, **column}))
    with pytest.raises(InputNotReady, match="FS4003") as caught:
        planned(tmp_path, data)
    assert expected in str(caught.value)
    assert "part-1.parquet" in str(caught.value)


def test_a_file_that_is_no_parquet_is_named(tmp_path, data):
    (data / "weather" / f"dt={DAY}" / "part-1.parquet").write_bytes(b"PAR1 not really PAR1")
    with pytest.raises(InputNotReady, match=r"FS4003 .*part-1.parquet is not a valid Parquet file"):
        planned(tmp_path, data)


def test_a_feature_of_the_wrong_type_is_found_before_a_jvm_starts_and_the_cast_is_named(tmp_path, data):
    with pytest.raises(SpecErrors) as caught:
        planned(tmp_path, data, sql={"f.dep_delay,": "CAST(f.dep_delay AS STRING) AS dep_delay,"})
    assert str(caught.value) == (
        "FS3002 sql/features.sql:8:8  model delay (v7) needs `dep_delay: double`, but features has `string`. Add CAST(dep_delay AS DOUBLE)."
    )
    assert caught.value.exit_code == 2


def test_a_missing_feature_is_named(tmp_path, data):
    with pytest.raises(
        SpecErrors,
        match=r"FS3002 pipeline.yaml:44:5  model delay \(v7\) needs `temp: double`, but features does not have this column",
    ):
        planned(tmp_path, data, sql={"w.temp": "w.temp AS temperature"})


def test_a_partition_column_that_is_computed_cannot_say_what_a_rerun_replaces(tmp_path, data):
    with pytest.raises(SpecErrors, match="`dt` is not an unchanged copy of a selected source partition"):
        planned(tmp_path, data, sql={"  f.dt,": "  DATE_ADD(f.dt, 1) AS dt,"})


def test_an_unknown_partition_value_replaces_the_directory_above(tmp_path, data):
    plan = planned(tmp_path, data, sql={"  f.origin,": "  UPPER(f.origin) AS origin,"})
    assert plan.intervals[0].outputs[0].directories == ("dt=2013-06-01",)


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("JFK", "k=JFK"),
        ("a/b", "k=a%2Fb"),
        ("10:30", "k=10%3A30"),
        ("50%", "k=50%25"),
        ("a b", "k=a b"),
        ("x=y", "k=x%3Dy"),
        ("é}", "k=é}"),
    ],
)
def test_partition_names_are_escaped_as_spark_does(value, name):
    assert partition_name("k", value) == name


def test_planning_imports_no_pyspark(tmp_path, data):
    path = example_with(tmp_path / "project", {})
    code = (
        "import sys; sys.path.insert(0, sys.argv[3])\n"
        "from support.specs import FixedBackend\nfrom firesteel.pipelines import Pipeline\n"
        "Pipeline.load(sys.argv[1], params={'root': sys.argv[2]}, backend=FixedBackend()).plan('2013-06-01')\n"
        "print(sorted(name for name in ('pyspark', 'mlflow', 'great_expectations', 'py4j') if name in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path), f"file://{data}", str(Path(__file__).parents[2])],
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("words", "severity"),
    [("on_fail: warn", "warning"), ("severity: warning, on_fail: fail", "critical"), ("severity: warning", "warning")],
)
def test_on_fail_decides_over_severity(tmp_path, data, words, severity):
    plan = planned(tmp_path, data, changes={"column: flight_id}": f"column: flight_id, {words}}}"})
    assert plan.gates[0].expectations[0].severity == severity


@pytest.mark.parametrize(
    ("said", "rows", "fraction"),
    [
        ("", 1000, 0.5),
        (", max_rows: 10", 10, 1.0),
        (", max_fraction: 0.9", 1000, 0.9),
        (", max_rows: 7, max_fraction: 0.1", 7, 0.1),
    ],
)
def test_a_budget_in_rows_is_the_users_and_without_one_half_the_rows_must_be_scored(
    tmp_path, data, said, rows, fraction
):
    plan = planned(tmp_path, data, changes={", max_rows: 1000, max_fraction: 0.001": said})
    on_error = plan.score_step.on_error
    assert (on_error.max_rows, on_error.max_fraction) == (rows, fraction)


def test_what_a_sink_must_publish_at_least_is_in_the_plan_and_in_no_hash(tmp_path, data):
    plain = planned(tmp_path / "plain", data)
    changes = {"mode: replace_partitions": "mode: replace_partitions\n    on_empty: allow\n    min_rows: 5"}
    other = planned(tmp_path / "other", data, changes=changes)
    assert (plain.sinks[0].on_empty, plain.sinks[0].min_rows) == ("fail", None)
    assert (other.sinks[0].on_empty, other.sinks[0].min_rows) == ("allow", 5)
    assert other.code_hash == plain.code_hash
