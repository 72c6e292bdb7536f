"""What the machine or the caller's session says of SQL's meaning reaches no run, and all operators have one time zone."""

from __future__ import annotations

import json
import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import mlflow
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from firesteel.jobs.run.plan_runner import run_plan
from firesteel.jobs.run.replay import replay
from firesteel.jobs.spark.session import activated, open_session
from firesteel.jobs.spark.types import schema_of
from firesteel.pipelines import Pipeline
from firesteel.pipelines.plan.model import Column
from firesteel.pipelines.plan.settings import FIXED
from support import forks
from support.mlflow_store import new_store
from support.sample_run import sample_plan

pytestmark = pytest.mark.integration

DAY = "2024-01-01"
SPEC = """
spec_version: 1
name: hours
storage: {root}/_firesteel/hours
interval: {{column: dt, unit: day, begin: 2024-01-01}}
sources:
  rows:
    path: {root}/rows
    partitions: {{dt: date}}
    select: {{dt: "${{interval.ds}}"}}
    contract: {{mode: additive, columns: {{id: bigint, at: timestamp}}}}
models:
  m: {{uri: "{model}", trust: {{formats: [pickle]}}}}
steps:
  scored:
    score:
      input: rows
      model: m
      features: [at]
      keep: [id, at, dt]
      output: {{hour: bigint}}
      operator: {operator}
      on_error: {{action: dead_letter, max_rows: 10}}
sinks:
  out: {{from: scored, path: "{root}/out-{operator}", partition_by: [dt]}}
tracking: {{mlflow: {{uri: "sqlite:///{folder}/mlflow.db"}}}}
resources: {{master: "local[2]"}}
configuration: {configuration}
"""


class Hours(mlflow.pyfunc.PythonModel):
    """The hour that a wall clock of the session's time zone shows; it fails while a file is there."""

    def __init__(self, zone: str, away: str) -> None:
        self.zone, self.away = zone, away

    def predict(self, context, model_input, params=None):
        if Path(self.away).exists():
            raise RuntimeError("the service is away")
        at = pd.to_datetime(model_input["at"])
        return (at.dt.tz_convert(self.zone) if at.dt.tz is not None else at).dt.hour.to_numpy()


@pytest.fixture(scope="module")
def rows(tmp_path_factory) -> Path:
    """Instants of the night in which New York's clocks jump, before 1970 and to the microsecond."""
    folder = tmp_path_factory.mktemp("hours")
    new_store(folder / "mlflow.db")
    start = datetime(2013, 3, 10, 6, 30, 0, 123457, tzinfo=UTC)
    at = [*(start + timedelta(minutes=30 * number) for number in range(6)), datetime(1969, 12, 31, 3, tzinfo=UTC)]
    table = pa.table({"id": pa.array(range(len(at)), pa.int64()), "at": pa.array(at, pa.timestamp("us", "UTC"))})
    target = folder / "rows" / f"dt={DAY}"
    target.mkdir(parents=True)
    pq.write_table(table, target / "part-0.parquet")
    return folder


def saved(folder: Path, zone: str) -> Path:
    import cloudpickle
    from mlflow.models import ModelSignature
    from mlflow.types.schema import AnyType, ColSpec, Schema

    cloudpickle.register_pickle_by_value(sys.modules[Hours.__module__])  # workers cannot import the tests
    path = folder / f"model-{zone.replace('/', '-')}"
    if not path.exists():
        signature = ModelSignature(Schema([ColSpec(AnyType(), "at", required=False)]))
        model = Hours(zone, str(folder / "away"))
        mlflow.pyfunc.save_model(path, python_model=model, signature=signature, pip_requirements=[])
    return path


def planned(rows: Path, operator: str, zone: str, configuration: dict[str, str]) -> Pipeline:
    text = SPEC.format(
        root=f"file://{rows}",
        folder=rows,
        model=saved(rows, zone),
        operator=operator,
        configuration=json.dumps(configuration),
    )
    path = rows / f"{operator}.yaml"
    path.write_text(text, encoding="utf-8")
    return Pipeline.load(path)


def published(rows: Path, operator: str) -> pa.Table:
    table = pa.concat_tables(
        pq.ParquetFile(path).read() for path in (rows / f"out-{operator}" / f"dt={DAY}").glob("*.parquet")
    )
    return table.set_column(1, "at", table.column("at").cast(pa.timestamp("us", "UTC"))).sort_by("id")


@pytest.mark.parametrize("zone", ["UTC", "America/New_York"])
def test_all_operators_give_the_same_rows_in_the_time_zone_of_the_spec(spark, rows, runs, zone):
    configuration = {} if zone == "UTC" else {"spark.sql.session.timeZone": zone}
    found = {}
    spark.conf.set("spark.sql.session.timeZone", "Asia/Tokyo")  # the caller's own: no run asks it
    try:
        for operator in ("pandas", "arrow", "direct"):
            plan = planned(rows, operator, zone, configuration).plan(DAY, force=True)
            result = run_plan(plan, spark=spark, runs=runs)
            assert result.state == "published", result.error
            assert dict(result.intervals[0].scoring)["operator"] == operator
            found[operator] = published(rows, operator)
    finally:
        spark.conf.set("spark.sql.session.timeZone", "UTC")
    source = pq.ParquetFile(rows / "rows" / f"dt={DAY}" / "part-0.parquet").read()
    for operator, table in found.items():
        assert table.column("at").to_pylist() == source.column("at").to_pylist(), operator
        hours = [each.hour for each in source.column("at").cast(pa.timestamp("us", zone)).to_pylist()]
        assert table.column("hour").to_pylist() == hours, operator


@pytest.mark.parametrize("operator", ["arrow", "direct"])
def test_a_replay_scores_what_the_run_would_have_scored(spark, rows, runs, operator):
    zone = "America/New_York"
    plan = planned(rows, operator, zone, {"spark.sql.session.timeZone": zone}).plan(DAY, force=True)
    (rows / "away").touch()
    try:
        path = rows / f"unseen-{operator}"
        first = run_plan(_to(plan, path), spark=spark, runs=runs)
    finally:
        (rows / "away").unlink()
    assert (first.state, first.counts.scored, first.counts.dead_letter) == ("published", 0, 7), first.error
    again = replay(_to(plan, path), DAY, spark=spark)
    assert again is not None
    assert (again.exit_code, again.counts.scored) == (0, 7), again.error
    table = pa.concat_tables(pq.ParquetFile(each).read() for each in (path / f"dt={DAY}").glob("*.parquet")).sort_by(
        "id"
    )
    source = pq.ParquetFile(rows / "rows" / f"dt={DAY}" / "part-0.parquet").read()
    assert table.column("at").cast(pa.timestamp("us", "UTC")).to_pylist() == source.column("at").to_pylist()
    hours = [each.hour for each in source.column("at").cast(pa.timestamp("us", zone)).to_pylist()]
    assert table.column("hour").to_pylist() == hours


def _to(plan, path: Path):
    """The plan with storage and sink of its own: nothing is published there yet."""
    from dataclasses import replace

    return replace(plan, storage=f"file://{path}-fs", sinks=(replace(plan.sinks[0], path=f"file://{path}"),))


def test_a_callers_own_settings_decide_nothing(spark):
    plan = sample_plan(tracking_uri="")
    spark.conf.set("spark.sql.timestampType", "TIMESTAMP_NTZ")
    spark.conf.set("spark.sql.caseSensitive", "true")
    try:
        with activated(spark):  # another test may have left a session of its own active
            with open_session(plan, spark) as session:
                assert schema_of([Column("at", "timestamp")]).simpleString() == "struct<at:timestamp>"
                assert {key: session.conf.get(key) for key in FIXED} == dict(FIXED)
            assert schema_of([Column("at", "timestamp")]).simpleString() == "struct<at:timestamp_ntz>"
    finally:
        spark.conf.unset("spark.sql.timestampType")
        spark.conf.unset("spark.sql.caseSensitive")


DRIVER = """
import sys
from dataclasses import replace
from firesteel.conf.errors import FiresteelError
from firesteel.jobs.spark.session import open_session
from support.sample_run import sample_plan

try:
    with open_session(replace(sample_plan(), master="local[1]", security="none")) as session:
        for key in sys.argv[1:]:
            print(key, session.conf.get(key))
except FiresteelError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("defaults", "expected"),
    [
        (
            {
                "spark.sql.files.ignoreCorruptFiles": "true",
                "spark.sql.ansi.enabled": "false",
                "spark.sql.session.timeZone": "Asia/Tokyo",
                "spark.sql.mapKeyDedupPolicy": "LAST_WIN",
                "spark.sql.legacy.timeParserPolicy": "LEGACY",
                "spark.sql.broadcastTimeout": "17",
            },
            ["false", "true", "UTC", "EXCEPTION", "CORRECTED", "17"],
        ),
        ({"spark.files.ignoreMissingFiles": "true"}, ["FS9042"]),
        ({"spark.executor.defaultJavaOptions": "-Duser.language=tr"}, ["FS9042"]),
    ],
)
def test_what_spark_defaults_says_changes_no_row(tmp_path, defaults, expected):
    lines = "".join(f"{key} {value}\n" for key, value in defaults.items())
    (tmp_path / "spark-defaults.conf").write_text(lines)
    environ = {**os.environ, "SPARK_CONF_DIR": str(tmp_path)}
    environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    done = forks.run([sys.executable, "-c", DRIVER, *defaults], env=environ, timeout=200)
    found = [line.split()[-1] if line.startswith("spark.") else line.split()[0] for line in done.stdout.splitlines()]
    assert found == expected, done.stdout + done.stderr
