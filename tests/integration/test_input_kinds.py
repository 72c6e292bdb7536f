"""Sources besides an interval's own partitions, through Spark: the published rows are those that pandas computes."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from firesteel.jobs.run.plan_runner import run_plan
from firesteel.jobs.testing.bind import Binder
from firesteel.jobs.testing.load import load_cases
from firesteel.jobs.testing.run import run_cases
from firesteel.pipelines import Pipeline
from firesteel.pipelines.backend import default_backend
from firesteel.pipelines.read import current_files
from firesteel.pipelines.storage.open import locate
from support.scoring_project import DAY, ScoringProject
from support.specs import FixedBackend

pytestmark = pytest.mark.integration

DAYS = [f"2024-06-0{number}" for number in range(1, 8)]
PLANNED = ("2024-06-05", "2024-06-06")


def frame(day: str, rows: int = 4) -> pd.DataFrame:
    """Return the rows of a day: a customer and an amount that tells the day."""
    number = pd.Timestamp(day).dayofyear
    return pd.DataFrame({"customer": range(rows), "amount": [float(number * 10 + row) for row in range(rows)]})


@dataclass(frozen=True, slots=True)
class Kind:
    """How a source is declared, where its days are, and what pandas expects for an interval from the source's days."""

    source: str
    directory: Callable[[str], str]
    read: Callable[[str], list[str]]
    written: tuple[str, ...] = tuple(DAYS)


def until(day: str, days: Mapping[str, object] | tuple[str, ...]) -> list[str]:
    return [other for other in days if other <= day]


SNAPSHOTS = ("2024-06-01", "2024-06-04", "2024-06-06")
KINDS = {
    "one folder": Kind("", lambda day: "", lambda day: [DAYS[0]], (DAYS[0],)),
    "the newest": Kind(
        'partitions: {dt: "%Y%m%d"}, select: latest, max_age: 7d',
        lambda day: f"dt={day.replace('-', '')}",
        lambda day: until(day, SNAPSHOTS)[-1:],
        SNAPSHOTS,
    ),
    "the newest of three levels": Kind(
        'partitions: {year: "%Y", month: "%-m", day: "%-d"}, select: latest',
        lambda day: f"year={day[:4]}/month={int(day[5:7])}/day={int(day[8:])}",
        lambda day: until(day, SNAPSHOTS)[-1:],
        SNAPSHOTS,
    ),
    "a range, what exists": Kind(
        'partitions: {year: "%Y", month: "%m", day: "%d"}, '
        'select: {from: "${interval.ds - 3d}", to: "${interval.ds}", at_least: 2}',
        lambda day: "year={}/month={}/day={}".format(*day.split("-")),
        lambda day: [other for other in until(day, (*SNAPSHOTS, "2024-06-05")) if other >= f"2024-06-0{int(day[-1]) - 3}"],
        (*SNAPSHOTS, "2024-06-05"),
    ),
    "no names": Kind('partitions: "%Y/%m/%d"', lambda day: day.replace("-", "/"), lambda day: [day]),
}  # fmt: skip


def spec(root: Path, source: str, tracking: str = "", uri: str = "") -> Path:
    path, uri = root / "pipeline.yaml", uri or f"file://{root}"
    path.write_text(
        f"""spec_version: 1
name: kinds
storage: "{uri}/_fs"
interval: {{unit: day, begin: 2024-06-01}}
sources:
  events: {{path: "{uri}/events", partitions: {{dt: "%Y-%m-%d"}}, contract: {{columns: {{customer: bigint}}}}}}
  rows: {{path: "{uri}/rows", contract: {{columns: {{customer: bigint, amount: double}}}}{", " if source else ""}{source}}}
steps:
  joined:
    sql: |
      SELECT e.customer, count(r.amount) AS found, sum(r.amount) AS total
      FROM events AS e LEFT JOIN rows AS r ON e.customer = r.customer GROUP BY e.customer
sinks: {{out: {{from: joined, path: "{uri}/out", partition_by: [dt: "%Y-%m-%d"]}}}}
configuration: {{spark.sql.shuffle.partitions: "1"}}
tracking: {{mlflow: {{uri: "{tracking}"}}}}
""",
        encoding="utf-8",
    )
    return path


@pytest.mark.parametrize("name", KINDS)
def test_each_kind_of_source_gives_the_rows_of_pandas(name, spark, tmp_path, runs, flight_model):
    kind = KINDS[name]
    for day in DAYS:
        target = tmp_path / "events" / f"dt={day}"
        target.mkdir(parents=True)
        pd.DataFrame({"customer": range(5)}).to_parquet(target / "p.parquet")
    for day in kind.written:
        target = tmp_path / "rows" / kind.directory(day)
        target.mkdir(parents=True, exist_ok=True)
        frame(day).to_parquet(target / "p.parquet")
    pipeline = Pipeline.load(spec(tmp_path, kind.source, flight_model))
    result = run_plan(pipeline.plan(*PLANNED), spark=spark, runs=runs)
    assert (result.state, result.error) == ("published", "")
    for day in PLANNED:
        source = pd.concat([frame(other) for other in kind.read(day)])
        groups = source.groupby("customer")["amount"]
        expected = pd.DataFrame({"found": groups.count(), "total": groups.sum()}).reindex(range(5))
        expected["found"] = expected["found"].fillna(0).astype("int64")
        files = current_files(f"file://{tmp_path}/out", [day])
        found = pd.concat([pd.read_parquet(file) for file in files]).set_index("customer").sort_index()
        pd.testing.assert_frame_equal(found[["found", "total"]], expected, check_names=False)
    assert {interval.action for interval in pipeline.plan(*PLANNED).intervals} == {"skip"}


def test_each_kind_reads_the_same_files_on_hdfs(tmp_path, hdfs_env):
    data = io.BytesIO()
    frame(DAYS[0]).to_parquet(data)
    events = io.BytesIO()
    pd.DataFrame({"customer": range(5)}).to_parquet(events)
    for number, kind in enumerate(KINDS.values()):
        found = {}
        for uri in (f"file://{tmp_path}/{number}", f"{hdfs_env.uri}/kinds/{number}"):
            storage, base = locate(uri)
            for day in DAYS:
                storage.create(f"{base}/events/dt={day}/p.parquet", events.getvalue())
            for day in kind.written:
                storage.create(f"{base}/rows/{kind.directory(day)}/p.parquet".replace("//p", "/p"), data.getvalue())
            plan = Pipeline.load(spec(tmp_path, kind.source, uri=uri), backend=FixedBackend()).plan(*PLANNED)
            found[uri] = [[file.path for file in interval.inputs[1].files] for interval in plan.intervals]
        local, on_hdfs = found.values()
        assert local == on_hdfs
        assert local[0]


CASES = """test_version: 1
cases:
  - name: the rows that the interval reads
    interval: 2024-06-05
    given:
      events: {rows: [{customer: 0}, {customer: 1}]}
      rows: {rows: [%s]}
    expect: {joined: {rows: [{customer: 0, found: 1, total: %s}, {customer: 1, found: 0, total: null}]}}
"""


@pytest.mark.parametrize(
    ("name", "rows", "total"),
    [
        ("one folder", "{customer: 0, amount: 3}", "3.0"),
        ("the newest", "{customer: 0, amount: 3}", "3.0"),
        ("the newest", "{customer: 0, amount: 3, dt: 20240603}, {customer: 0, amount: 4, dt: 20240602}", "3.0"),
        ("no names", "{customer: 0, amount: 3}", "3.0"),
    ],
)
def test_a_case_reads_what_a_run_reads(name, rows, total, spark, tmp_path):
    path = spec(tmp_path, KINDS[name].source)
    file = tmp_path / "tests" / "a.yaml"
    file.parent.mkdir()
    file.write_text(CASES % (rows, total), encoding="utf-8")
    bound = Binder(path, "", {}, default_backend()).bind(load_cases(path, [file]))
    (result,) = run_cases(bound, default_backend(), lambda _: None, spark)
    assert (result.errors, result.differences) == ((), ())


@pytest.mark.parametrize(
    ("directory", "partitions"), [("", ""), ("2024/01/01", 'partitions: "%Y/%m/%d"')], ids=["one folder", "no names"]
)
def test_the_direct_operator_reads_files_without_partition_columns(directory, partitions, spark, tmp_path, runs):
    project = ScoringProject(tmp_path, f"file://{tmp_path}")
    project.write_points(rows=20, files=1)
    written = sorted((tmp_path / "points").rglob("*.parquet"))
    target = tmp_path / "points" / directory
    target.mkdir(parents=True, exist_ok=True)
    for file in written:
        file.rename(target / file.name)
    shutil.rmtree(tmp_path / "points" / f"dt={DAY}")
    changes = {
        '    partitions: {dt: date, origin: string}\n    select: {dt: "${interval.ds}"}\n': f"    {partitions}\n",
        "{column: dt, ": "{",
        "keep: [id, c, dt, origin]": "keep: [id, c]",
        "partition_by: [dt, origin]": 'partition_by: [dt: "%Y-%m-%d"]',
    }
    path = project.write("direct", sql="SELECT id, a, CAST(b AS DOUBLE) AS b, c FROM points WHERE id > :floor")
    text = path.read_text(encoding="utf-8")
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    path.write_text(text, encoding="utf-8")
    result = run_plan(Pipeline.load(path).plan(DAY), spark=spark, runs=runs)
    assert (result.state, result.error) == ("published", "")
    assert {dict(interval.scoring)["operator"] for interval in result.intervals} == {"direct"}
    assert result.counts.rows_in == 40
    assert project.published().num_rows == 40 - result.counts.dead_letter
