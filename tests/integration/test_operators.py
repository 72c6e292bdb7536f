"""The operators: the same rows, counts and dead letters, whichever way the rows go."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings

from firesteel.jobs.run.plan_runner import run_plan
from firesteel.pipelines import Pipeline
from firesteel.udfs.direct.job import pack, run_task
from firesteel.udfs.direct.spec import DirectSpec, FileSystemSpec, ScanSpec, Split, WriteSpec
from firesteel.udfs.report import TaskReport
from firesteel.udfs.score import score_batches
from firesteel.udfs.spec import ErrorBudget, Output, ScoreSpec
from support.models import FEATURES, save
from support.scoring_project import DAY, MAPPED, ScoringProject

pytestmark = pytest.mark.integration


def rows_of(project: ScoringProject) -> tuple[list[str], dict[str, list[object]]]:
    table = project.published()
    values = {name: table.column(name).to_pylist() for name in ("id", "c", "folder")}
    return table.column_names, {**values, "p": table.column("p").to_numpy()}


def run(spark, project, runs, *args, **options):
    result = run_plan(project.plan(*args, force=True, **options), spark=spark, runs=runs)
    assert result.state == "published", result.error
    return result.intervals[0]


def test_all_operators_publish_the_same_rows_and_dead_letters(spark, tmp_path, runs):
    found = {}
    for operator, accelerate in (("pandas", "off"), ("arrow", "off"), ("direct", "off"), ("direct", "auto")):
        project = ScoringProject(
            tmp_path / f"{operator}-{accelerate}", f"file://{tmp_path}/{operator}-{accelerate}/data"
        )
        project.folder.mkdir()
        project.write_points()
        interval = run(spark, project, runs, operator, accelerate)
        facts = dict(interval.scoring)
        assert facts["operator"] == operator
        found[operator, accelerate] = (interval.counts, project.dead(), rows_of(project), facts)
    counts, dead, (names, right), _ = found["pandas", "off"]
    assert counts.rows_in == 3000 - _left_out(
        ScoringProject(tmp_path / "pandas-off", f"file://{tmp_path}/pandas-off/data")
    )
    assert counts.dead_letter == len(dead) > 100
    assert counts.scored == len(right["id"]) > 1000
    for (operator, accelerate), (others, dead_letters, (columns, rows), facts) in found.items():
        assert (others, dead_letters, columns) == (counts, dead, names), (operator, accelerate)
        assert {name: rows[name] for name in ("id", "folder")} == {name: right[name] for name in ("id", "folder")}
        np.testing.assert_array_equal(rows["c"], right["c"])
        # BLAS rounds by the number of rows in a batch, and operators cut batches at other rows.
        np.testing.assert_allclose(rows["p"], right["p"], rtol=1e-12 if accelerate == "off" else 1e-6)
        backends = {"pandas": "pyfunc", "arrow": "scikit-learn", "direct": "scikit-learn"}
        expected = "folded linear" if accelerate == "auto" else backends[operator]
        assert [choice["backend"] for choice in facts["backends"]] == [expected]
    assert set(right["folder"]) == {"dt=2024-01-01/origin=JFK", "dt=2024-01-01/origin=L%2FX"}


@pytest.mark.parametrize("operator", ["arrow", "direct"])
def test_a_mapping_of_features_publishes_what_the_same_select_does(spark, tmp_path, runs, operator):
    project = ScoringProject(tmp_path, f"file://{tmp_path}/data")
    project.write_points(rows=100)
    run(spark, project, runs, operator)
    right = rows_of(project)
    path = project.folder / "pipeline.yaml"
    steps = path.read_text()
    before = "SELECT id, c, dt, origin, a, b FROM points WHERE c > :floor OR c IS NULL"
    changed = steps.replace(MAPPED, before).replace(
        "      model: m", "      model: m\n      features: {a: a * 2, b: CAST(b AS DOUBLE), c: c}"
    )
    path.write_text(changed)
    plan = Pipeline.load(path).plan(DAY, force=True)
    assert [step.name for step in plan.steps] == ["features", "scored_features", "scored"]
    result = run_plan(plan, spark=spark, runs=runs)
    assert dict(result.intervals[0].scoring)["operator"] == operator
    names, found = rows_of(project)
    assert names == right[0]
    for name, values in found.items():
        np.testing.assert_array_equal(values, right[1][name])


def _left_out(project: ScoringProject) -> int:
    """Rows whose c is a number that is not above the floor; NaN is above all numbers."""
    count = 0
    for path in Path(project.root.removeprefix("file://"), "points").rglob("*.parquet"):
        count += sum(
            value is not None and value <= -15.0 for value in pq.ParquetFile(path).read().column("c").to_pylist()
        )
    return count


def test_auto_takes_direct_for_maps_and_says_why_not_otherwise(tmp_path):
    project = ScoringProject(tmp_path, f"file://{tmp_path}/data")
    project.write_points(rows=3)
    step = project.plan().steps[-1]
    assert (step.operator, step.operator_reason) == (
        "direct",
        "points -> features -> scored only maps rows: tasks scan and write files directly",
    )
    step = project.plan(sql="SELECT DISTINCT id, a, b, c, dt, origin FROM points").steps[-1]
    assert (step.operator, step.operator_reason) == (
        "arrow",
        "not direct: features: it has DISTINCT; all features are numbers",
    )
    step = project.plan("direct", sql="SELECT id, sqrt(a) AS a, b, c, dt, origin FROM points").steps[-1]
    assert (step.operator, step.operator_reason) == (
        "arrow",
        "not direct: features: only Spark can compute `SQRT(a)`; all features are numbers",
    )


def test_a_session_that_computes_otherwise_falls_back_and_the_record_says_so(spark, tmp_path, runs):
    project = ScoringProject(tmp_path, f"file://{tmp_path}/data")
    project.write_points(rows=30, files=1)
    plan = replace(project.plan(force=True), spark_conf=(("spark.sql.ansi.enabled", "false"),))
    result = run_plan(plan, spark=spark, runs=runs)
    assert result.state == "published", result.error
    facts = dict(result.intervals[0].scoring)
    assert (facts["operator"], facts["operator_reason"]) == ("arrow", "not direct: the session is not in ANSI mode")


def task_spec(folder: Path, ref, backends: str, *, rows: int = 16) -> DirectSpec:
    schema = pa.schema([("id", pa.int64()), *((name, pa.float64()) for name in FEATURES)])
    score = ScoreSpec(
        ref, FEATURES, ("id", "origin"), (Output("y", "double"),), batch_rows=rows, backend=backends,
        on_error=ErrorBudget("dead_letter", max_rows=1000),
    )  # fmt: skip
    return DirectSpec(
        ScanSpec(FileSystemSpec("file"), str(folder / "in"), schema, (("origin", pa.string()),)),
        (),
        score,
        pa.schema([("id", pa.int64()), ("origin", pa.string()), ("y", pa.float64())]),
        WriteSpec(
            FileSystemSpec("file"),
            str(folder / "out"),
            ("id", "y", "_run_id"),
            ("origin",),
            (("_run_id", pa.string(), "r1"),),
        ),
    )


@pytest.fixture(scope="module")
def booster(tmp_path_factory):
    return save("lightgbm", tmp_path_factory.mktemp("booster") / "m", example=True)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
@given(data=st.data())
def test_a_direct_task_gives_what_the_general_operator_gives(booster, tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("task")
    tables = {}
    for origin in data.draw(st.lists(st.sampled_from(["JFK", "L/X", "ü ="]), min_size=1, max_size=3, unique=True)):
        rows = data.draw(st.integers(0, 40))
        values = st.lists(st.one_of(st.none(), st.floats(width=32)), min_size=rows, max_size=rows)
        kinds = [data.draw(st.sampled_from([pa.float64(), pa.float32()])) for _ in FEATURES]
        columns = {name: pa.array(data.draw(values), kind) for name, kind in zip(FEATURES, kinds, strict=True)}
        tables[origin] = pa.table({"id": pa.array(range(rows), pa.int64()), **columns})
    from firesteel.conf.partitions import partition_name

    for origin, table in tables.items():
        path = folder / "in" / partition_name("origin", origin) / "f.parquet"
        path.parent.mkdir(parents=True)
        pq.write_table(table, path, row_group_size=data.draw(st.sampled_from([7, 100])))
    spec = task_spec(folder, booster, data.draw(st.sampled_from(["reference", "native", "compiled"])))
    files = sorted((folder / "in").rglob("*.parquet"))
    splits = tuple(Split(str(each.relative_to(folder / "in")), 0, 1 << 62) for each in files)
    result = run_task(spec, splits, 3, 11, "job")
    expected = {}
    for origin, table in tables.items():
        report = TaskReport(0, 0)
        wide = pa.table(
            {
                **{
                    name: table.column(name).cast(pa.float64() if name != "id" else pa.int64())
                    for name in table.column_names
                },
                "origin": pa.repeat(origin, table.num_rows),
            }
        )
        got = score_batches(wide.to_batches(), spec.score, spec.scored, report)
        expected |= {(origin, row["id"]): row["y"] for batch in got for row in batch.to_pylist()}
    assert (
        result.rows_read == result.rows_in == result.report.rows_in == sum(table.num_rows for table in tables.values())
    )
    published = {}
    for file in result.files:
        assert file.temporary.startswith("_direct/job-00003-11/origin=")
        table = pq.ParquetFile(folder / "out" / file.temporary).read()
        assert table.column_names == ["id", "y", "_run_id"]
        assert (folder / "out" / file.temporary).stat().st_size == file.size
        origin = next(each for each in tables if file.final.startswith(partition_name("origin", each) + "/"))
        published |= {(origin, row["id"]): row["y"] for row in table.to_pylist()}
    assert published.keys() == expected.keys()
    tolerance = 0 if spec.score.backend != "compiled" else 1e-6
    np.testing.assert_allclose(
        [published[key] for key in expected], list(expected.values()), rtol=tolerance, atol=tolerance
    )


def test_splits_cover_each_row_group_once_however_a_file_is_cut(booster, tmp_path):
    values = np.random.default_rng(1).normal(size=(1000, 3))
    table = pa.table({"id": pa.array(range(1000)), **{name: values[:, i] for i, name in enumerate(FEATURES)}})
    (tmp_path / "in" / "origin=A").mkdir(parents=True)
    path = tmp_path / "in" / "origin=A" / "f.parquet"
    pq.write_table(table, path, row_group_size=90)
    size = path.stat().st_size
    spec = task_spec(tmp_path, booster, "native")
    cuts = [0, *range(1000, size, 3333), 1 << 62]
    found = []
    for number, (start, stop) in enumerate(itertools.pairwise(cuts)):
        result = run_task(spec, (Split("origin=A/f.parquet", start, stop),), number, number, "job")
        for file in result.files:
            found += pq.ParquetFile(tmp_path / "out" / file.temporary).read().column("id").to_pylist()
    assert sorted(found) == list(range(1000))


def test_a_file_that_is_large_enough_is_finished_and_another_begun(booster, tmp_path):
    values = np.random.default_rng(1).normal(size=(60_000, 3))
    table = pa.table({"id": pa.array(range(60_000)), **{name: values[:, i] for i, name in enumerate(FEATURES)}})
    (tmp_path / "in" / "origin=A").mkdir(parents=True)
    pq.write_table(table, tmp_path / "in" / "origin=A" / "f.parquet")
    spec = task_spec(tmp_path, booster, "native")
    most = 25_000
    found = run_task(
        replace(spec, write=replace(spec.write, file_bytes=most)),
        (Split("origin=A/f.parquet", 0, 1 << 62),),
        0,
        1,
        "job",
    )
    assert len({file.final for file in found.files}) == len(found.files) > 3
    ids = []
    for file in found.files:
        path = tmp_path / "out" / file.temporary
        assert (path.stat().st_size, pq.read_metadata(path).num_rows) == (file.size, file.rows)
        ids += pq.ParquetFile(path).read().column("id").to_pylist()
    assert ids == list(range(60_000))
    assert all(most <= file.size < 2 * most for file in found.files[:-1])


WHOLE = "SELECT id, coalesce(a, 0.0) AS a, CAST(coalesce(b, 0) AS DOUBLE) AS b, coalesce(c, 0.0) AS c, dt, origin FROM points WHERE id >= :floor"


@pytest.mark.parametrize("operator", ["arrow", "direct"])
def test_files_have_the_size_that_the_sink_asks_for(spark, tmp_path, runs, operator):
    project = ScoringProject(tmp_path, f"file://{tmp_path}/data")
    project.write_points(rows=120_000)
    project.plan(operator, sql=WHOLE)
    path = project.folder / "pipeline.yaml"
    changes = {
        "partition_by: [dt, origin],": "partition_by: [dt], files: {target_size: 2MiB},",
        "batch: {rows: 64}": "batch: {rows: 8192}",
    }
    text = path.read_text()
    for old, new in changes.items():
        text = text.replace(old, new)
    path.write_text(text)
    rows, sizes = [], []
    for expected in ("nothing is published yet", "as in earlier runs"):
        plan = Pipeline.load(path).plan(DAY, force=True)
        assert any(expected in reason for reason in plan.resources.reasons)
        assert run_plan(plan, spark=spark, runs=runs).state == "published"
        files = list((tmp_path / "data" / "scores").rglob("*.parquet"))
        rows.append(sum(pq.read_metadata(file).num_rows for file in files))
        sizes.append(sorted(file.stat().st_size for file in files if not file.parent.name.startswith("_")))
    assert rows[0] == rows[1]
    # Each of the two tasks, or partitions of the exchange, has one smaller file: its last.
    full = sizes[1][2:]
    assert len(full) >= 3
    assert all(0.75 * (2 << 20) < size < 1.5 * (2 << 20) for size in full), sizes


def test_two_attempts_at_a_task_meet_nobody_and_one_counts(booster, tmp_path):
    from firesteel.jobs.run.direct import commit, delete_task_marks
    from firesteel.pipelines.storage.open import locate
    from firesteel.udfs.direct.job import DirectResult
    from firesteel.udfs.report import summarise

    values = np.random.default_rng(1).normal(size=(50, 3))
    table = pa.table({"id": pa.array(range(50)), **{name: values[:, i] for i, name in enumerate(FEATURES)}})
    (tmp_path / "in" / "origin=A").mkdir(parents=True)
    pq.write_table(table, tmp_path / "in" / "origin=A" / "f.parquet")
    spec = task_spec(tmp_path, booster, "native")
    split = (Split("origin=A/f.parquet", 0, 1 << 62),)
    run_task(spec, split, 0, 1, "job")
    counts = run_task(spec, split, 0, 2, "job")
    storage, out = locate(f"file://{tmp_path}/out")
    commit(storage, out, DirectResult(summarise({}), tuple(counts.files), 50, 50))
    delete_task_marks(storage, out)
    names = [str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert names == ["origin=A/part-00000-job-c000.zstd.parquet"]
    assert pq.read_metadata(tmp_path / "out" / names[0]).num_rows == 50


def test_files_are_packed_for_all_slots_and_cut_where_they_are_large():
    tasks = pack([("a", 300 << 20), ("b", 1 << 20), ("c", 1 << 20)], slots=2)
    assert [split.path for task in tasks for split in task] == ["a", "a", "a", "b", "c"]
    assert [split.start for task in tasks for split in task][:3] == [0, 128 << 20, 256 << 20]
    assert pack([], slots=4) == ()
    small = pack([(f"f{number:02d}", 1 << 20) for number in range(40)], slots=4)
    assert 4 <= len(small) <= 5


@pytest.mark.parametrize("dead_datanode", [False, True])
def test_direct_on_hdfs_and_with_a_dead_datanode(spark, hdfs_env, tmp_path, runs, dead_datanode):
    project = ScoringProject(tmp_path, f"{hdfs_env.uri}/points-{dead_datanode}", "lightgbm")
    project.write_points(rows=60)
    if dead_datanode:
        hdfs_env.kill_datanode(1)
    try:
        interval = run(spark, project, runs, "direct")
    finally:
        if dead_datanode:
            hdfs_env.start_datanode(1)
            hdfs_env.wait_for_datanodes(2)
    assert dict(interval.scoring)["operator"] == "direct"
    assert interval.counts.scored == project.published().num_rows > 100
