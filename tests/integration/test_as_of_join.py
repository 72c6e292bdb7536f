"""The SQL of docs/how-to/as-of-join.md gives the rows of `pandas.merge_asof`."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pandas as pd
import pytest

from firesteel.pipelines import Pipeline

pytestmark = pytest.mark.integration

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "as-of-join.md").read_text(encoding="utf-8")
DAY = "2024-06-05"
START = pd.Timestamp("2024-06-04", tz="UTC")
FEATURES = ["valid_at", "balance", "grade"]


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert found
    return found[1]


def change(row: str) -> str:
    """Return the SQL in a row of the page's table."""
    found = re.search(rf"\| {row} \| `(.*)` \|", PAGE)
    assert found
    return found[1]


@pytest.fixture(scope="module")
def tables(tmp_path_factory) -> tuple[Path, pd.DataFrame, pd.DataFrame]:
    """Events and features of many customers, each of them a case: few times, so that many are equal."""
    chance = random.Random(7)
    root = tmp_path_factory.mktemp("as-of")
    events, features = [], []
    for customer in range(400):
        hours = range(0, 48, chance.choice([1, 6, 24]))
        for _ in range(chance.randint(0, 4)):
            events.append((len(events), customer, START + pd.Timedelta(hours=chance.choice(hours[len(hours) // 2 :]))))
        for _ in range(chance.randint(0, 5)):
            at = START + pd.Timedelta(hours=chance.choice(hours))
            features.append((customer, at, chance.choice([None, 1.0, 2.5]), chance.choice([None, "a", "b"])))
    event_rows = pd.DataFrame(events, columns=["event_id", "customer", "at"])
    feature_rows = pd.DataFrame(features, columns=["customer", *FEATURES])
    for name, rows, time in (("events", event_rows, "at"), ("features", feature_rows, "valid_at")):
        for day, group in rows.groupby(rows[time].dt.strftime("%Y-%m-%d")):
            target = root / name / f"dt={day}"
            target.mkdir(parents=True)
            group.to_parquet(target / "p.parquet", index=False, coerce_timestamps="us")
    return root, event_rows, feature_rows


@pytest.mark.parametrize(
    ("old", "row", "options"),
    [
        ("", "", {}),
        ("ORDER BY at, is_event, feature", "rows before the event, not at its time", {"allow_exact_matches": False}),
        ("feature.balance,", "rows of the last hours only", {"tolerance": pd.Timedelta(hours=6)}),
    ],
    ids=["at or before", "before", "of the last hours"],
)
def test_the_sql_of_the_page_is_merge_asof(old, row, options, tables, spark, tmp_path):
    root, events, features = tables
    sql = block("sql")
    if old:
        assert old in sql
        sql = sql.replace(old, change(row) + ("," if old.endswith(",") else ""))
    (tmp_path / "sql").mkdir()
    (tmp_path / "sql" / "joined.sql").write_text(sql, encoding="utf-8")
    spec = tmp_path / "pipeline.yaml"
    spec.write_text(
        "spec_version: 1\nname: as_of\nparams: {root: {type: uri, required: true}}\nstorage: ${param.root}/_fs\n"
        f"interval: {{unit: day, begin: 2024-06-01}}\n{block('yaml')}"
        'sinks: {out: {from: joined, path: "${param.root}/out", partition_by: [dt: "%Y-%m-%d"]}}\n',
        encoding="utf-8",
    )
    pipeline = Pipeline.load(spec, params={"root": f"file://{root}"})
    found = pipeline.frame("joined", DAY, spark=spark).toPandas().sort_values("event_id", ignore_index=True)
    given = events[events["at"].dt.strftime("%Y-%m-%d") == DAY].sort_values(["at", "event_id"])
    ordered = features.sort_values(["valid_at", "balance", "grade"], na_position="first", kind="stable")
    expected = pd.merge_asof(given, ordered, left_on="at", right_on="valid_at", by="customer", **options)
    expected = expected.sort_values("event_id", ignore_index=True)
    assert len(expected) > 300
    compared = ["event_id", "balance"] if "tolerance" in options else ["event_id", "valid_at", "balance", "grade"]
    for frame in (found, expected):
        frame["valid_at"] = pd.to_datetime(frame["valid_at"], utc=True).astype("datetime64[us, UTC]")
        frame["grade"] = frame["grade"].astype(object).where(frame["grade"].notna(), None)
    pd.testing.assert_frame_equal(found[compared], expected[compared], check_dtype=False)
