"""Rows that gates exclude before the score: quarantined with the reason or dropped, and counted in both cases."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from dataclasses import replace

import pyarrow.dataset as pads
import pytest

from firesteel.conf.errors import GateFailed
from firesteel.jobs.gates.split import SplitRows
from firesteel.jobs.run.input_stages import write_quarantine
from firesteel.jobs.run.plan_runner import run_plan
from firesteel.pipelines.publish.ledger import Ledger
from firesteel.pipelines.publish.quarantine import prune_quarantine, quarantined
from firesteel.pipelines.publish.state_store import StateStore
from firesteel.pipelines.publish.verify import verify_excluded
from firesteel.pipelines.storage.open import locate
from support.runs import firesteel
from support.scoring_project import DAY, MAPPED, ScoringProject

pytestmark = pytest.mark.integration

NO_B = "{type: expect_column_values_to_not_be_null, column: b, on_fail: quarantine}"
LOW_C = "{type: expect_column_values_to_be_between, column: c, min_value: -10, on_fail: quarantine}"
HIGH_A = "{type: expect_column_values_to_be_between, column: a, max_value: 20, on_fail: drop}"
B_REASON = "input_ok: expect_column_values_to_not_be_null on b"
C_REASON = "input_ok: expect_column_values_to_be_between on c"


def gates(*expectations: str, on: str = "points") -> str:
    return f"gates: {{input_ok: {{on: {on}, expect: [{', '.join(expectations)}]}}}}\n"


@pytest.fixture
def project(tmp_path):
    made = ScoringProject(tmp_path, f"file://{tmp_path}/data")
    made.write_points()
    return made


def run(spark, runs, plan):
    result = run_plan(plan, spark=spark, runs=runs)
    assert result.state == "published", result.error
    return result


def quarantined_rows(project: ScoringProject, relation: str = "points"):
    """The quarantined rows, read as any reader of a partitioned data set reads them."""
    folder = f"{project.root.removeprefix('file://')}/_firesteel/points/quarantine/{relation}"
    return pads.dataset(folder, format="parquet", partitioning="hive").to_table().sort_by("id").to_pylist()


def in_sql(spark, project: ScoringProject, where: str) -> set[int]:
    points = spark.read.parquet(f"{project.root}/points")
    return {row.id for row in points.where(where).select("id").collect()}


@pytest.mark.parametrize("where", [pytest.param("local", marks=pytest.mark.long), "hdfs"])
def test_rows_that_fail_lie_in_quarantine_with_the_reasons_and_the_others_are_published(
    spark, tmp_path, runs, where, request
):
    root = f"file://{tmp_path}/data"
    if where == "hdfs":
        root = f"{request.getfixturevalue('hdfs_env').uri}/quarantine"
    project = ScoringProject(tmp_path, root)
    project.write_points()
    plan = project.plan(gates=gates(NO_B, LOW_C))
    assert plan.steps[-1].operator == "direct"  # where nothing fails, nothing is in the way
    result = run(spark, runs, plan)
    no_b, low_c = in_sql(spark, project, "b IS NULL"), in_sql(spark, project, "c < -10")
    assert 0 < len(no_b & low_c) < len(no_b)
    counts = result.counts
    assert counts.quarantined == len(no_b | low_c)
    assert (counts.dropped, counts.balanced) == (0, True)
    gate = result.intervals[0].gates[0]
    assert [gate.success, *(expectation.success for expectation in gate.expectations)] == [True, False, False]
    assert gate.expectations[0].note == f"{len(no_b):,} rows quarantined"
    (found,) = quarantined(project.store, {"scores": project.sink_uri})
    (record,) = Ledger(project.store).history("scores")
    rows = [file.path for file in record.excluded if file.path.startswith("quarantine/")]
    assert rows == [status.path.removeprefix(f"{project.store.base}/") for status in found.files]
    assert all(file.digest for file in record.excluded)
    assert verify_excluded(project.store, {"scores": (None, None)}, now_s=0.0) == []
    assert (found.relation, found.interval, found.run_id, found.state) == ("points", DAY, result.run_id, "active")
    rows = spark.read.parquet(f"{project.root}/_firesteel/points/quarantine/points").collect()
    assert {row.id for row in rows} == no_b | low_c
    for row in rows:
        wanted = [text for ids, text in ((no_b, B_REASON), (low_c, C_REASON)) if row.id in ids]
        assert row._reasons == wanted
        assert str(row.interval) == DAY
        assert row.run_id == result.run_id
    facts = dict(result.intervals[0].scoring)
    assert facts["operator_reason"] == f"not direct: a gate excluded {counts.quarantined:,} rows"
    published = project.published()
    without = MAPPED.replace("WHERE", "WHERE b IS NOT NULL AND (c >= -10 OR c IS NULL) AND") + " "
    without = without.replace("AND c > :floor OR c IS NULL", "AND (c > :floor OR c IS NULL)")
    plain = run(spark, runs, project.plan(operator="arrow", sql=without))
    assert plain.counts.quarantined == 0
    other = project.published()
    assert published.drop_columns(["_run_id", "_scored_at"]).equals(other.drop_columns(["_run_id", "_scored_at"]))
    assert [each.state for each in quarantined(project.store, {"scores": project.sink_uri})] == ["superseded"]


def test_a_row_that_is_quarantined_and_dropped_is_quarantined_and_a_step_can_be_looked_at(spark, project, runs):
    plan = project.plan(gates=gates(LOW_C, HIGH_A, on="features"))
    counts = run(spark, runs, plan).counts
    low_c = in_sql(spark, project, "c < -10 AND c > -15")
    high_a = in_sql(spark, project, "a * 2 > 20 AND (c > -15 OR c IS NULL)")
    assert low_c & high_a
    assert (counts.quarantined, counts.dropped) == (len(low_c), len(high_a - low_c))
    rows = quarantined_rows(project, "features")
    assert {row["id"] for row in rows} == low_c
    assert Counter(reason for row in rows for reason in row["_reasons"]) == {C_REASON: len(low_c)}
    assert not {*project.published().column("id").to_pylist()} & (low_c | high_a)


def test_an_expectation_that_passes_excludes_no_row(spark, project, runs):
    result = run(spark, runs, project.plan(gates=gates(NO_B.replace("b,", "b, mostly: 0.5,"))))
    assert (result.counts.quarantined, dict(result.intervals[0].scoring)["operator"]) == (0, "direct")
    assert not quarantined(project.store, {"scores": project.sink_uri})


def test_a_critical_expectation_beside_it_still_stops_the_run_and_sees_all_rows(spark, project, runs):
    many = "{type: expect_column_values_to_not_be_null, column: b, mostly: 0.99}"
    result = run_plan(project.plan(gates=gates(NO_B, many)), spark=spark, runs=runs)
    assert (result.state, result.exit_code) == ("failed", 3)
    assert "FS7001" in result.error
    assert not quarantined(project.store, {"scores": project.sink_uri})
    held = f"  after: {{on: points, expect: [{many}]}}\n"
    apart = "gates:\n  input_ok: {on: points, expect: [" + NO_B + "]}\n" + held
    result = run_plan(project.plan(gates=apart), spark=spark, runs=runs)
    assert (result.state, result.exit_code) == ("failed", 3)  # the other gate sees the relation whole as well


def test_rows_that_are_counted_and_not_written_publish_nothing(spark, tmp_path):
    frame = spark.range(4)
    store = StateStore(*locate(f"file://{tmp_path}/x"), "p", "default")
    with pytest.raises(GateFailed, match="FS7002") as caught:
        write_quarantine(SplitRows(frame, frame, 5, 0), store, "r", DAY, "run")
    assert "5 rows of r fail a gate, and 4 were quarantined" in str(caught.value)


def test_all_rows_may_be_excluded_where_the_sink_may_be_empty(spark, project, runs):
    never = "{type: expect_column_values_to_be_null, column: id, on_fail: quarantine}"
    plan = project.plan(gates=gates(never))
    refused = run_plan(plan, spark=spark, runs=runs)
    assert refused.error.startswith("FS7005"), refused.error
    assert "3,000 quarantined" in refused.error
    result = run(spark, runs, replace(plan, sinks=(replace(plan.sinks[0], on_empty="allow"),)))
    assert (result.counts.scored, result.counts.quarantined) == (0, 3000)


def test_what_can_be_told_only_with_the_data_at_hand_is_refused_then(spark, project, runs):
    """A regex is for strings: Great Expectations takes any column, and names no rows."""
    digits = '{type: expect_column_values_to_match_regex, column: id, regex: "^9", on_fail: quarantine}'
    result = run_plan(project.plan(gates=gates(digits)), spark=spark, runs=runs)
    assert result.state == "failed"
    assert result.exit_code == 3
    assert "points" in result.error


def test_the_command_line_lists_it_and_old_rows_are_deleted(spark, project, runs):
    project.plan(gates=gates(NO_B))
    path = project.folder / "pipeline.yaml"
    path.write_text(
        path.read_text().replace(
            "partition_by: [dt, origin],", "partition_by: [dt, origin], retain: {quarantine: 30d},"
        )
    )
    done = firesteel("run", "--start", DAY, folder=project.folder)
    assert done.returncode == 0, done.stderr
    assert "rows quarantined" in done.stdout
    shown = firesteel("quarantine", "ls", "--json", folder=project.folder)
    (row,) = json.loads(shown.stdout)
    assert row["reasons"] == {B_REASON: row["rows"]}
    assert row["state"] == "active"
    text = firesteel("quarantine", "ls", folder=project.folder).stdout
    assert f"{row['rows']:,} rows, active" in text
    assert row["path"] in text
    store = project.store
    assert prune_quarantine(store, 30 * 86_400, now_s=time.time()) == 0
    old = time.time() - 31 * 86_400
    os.utime(row["path"].removeprefix("file://"), (old, old))
    assert firesteel("run", "--start", DAY, "--force", folder=project.folder).returncode == 0
    assert [each.run_id == row["run_id"] for each in quarantined(store, {"scores": project.sink_uri})] == [False]
