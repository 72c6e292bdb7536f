"""What the driver reads from staged files by itself is what Spark would say of them."""

from __future__ import annotations

import json
import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from firesteel.conf.errors import StorageError
from firesteel.jobs.gates.distribution import describe, distribution
from firesteel.jobs.run import staged_files
from firesteel.jobs.run.staged_files import StagedFiles
from firesteel.pipelines.storage.open import locate

pytestmark = pytest.mark.integration

VALUES = st.lists(st.none() | st.floats(width=64) | st.floats(0, 1), max_size=40)
ODD = [[], [None], [math.nan], [2.0, 2.0], [-1e308, 1e308], [1e308, 1e308], [0.1, 0.1 + 1e-15], [-3.0, math.inf, 7.5]]


def files_of(folder, tables) -> StagedFiles:
    folder.mkdir()
    (folder / ".other.parquet.crc").write_bytes(b"Hadoop's own")
    for number, table in enumerate(tables):
        pq.write_table(table, folder / f"part-{number}.parquet", row_group_size=7)
    storage, path = locate(folder.as_uri())
    return StagedFiles.below(storage, path)


def same(ours, sparks) -> None:
    assert {key: value for key, value in ours.items() if key != "mean"} == {
        key: value for key, value in sparks.items() if key != "mean"
    }
    if ours["mean"] is not None:
        assert ours["mean"] == pytest.approx(sparks["mean"], rel=1e-9, abs=1e-9 * max(1.0, abs(ours["max"])))


def test_rows_and_distributions_are_those_that_spark_finds(spark, tmp_path):
    seed = np.random.default_rng(3)
    tables = []
    for rows in (50, 0, 9):
        p = pa.array(seed.random(rows), mask=seed.random(rows) < 0.2)
        n = pa.array(seed.integers(-5, 90, rows), pa.int32())
        tables.append(pa.table({"p": p, "n": n, "d": pa.array(seed.random(rows).round(2)).cast(pa.decimal128(5, 2))}))
    files = files_of(tmp_path / "files", tables)
    assert files.rows() == 59
    ours, frame = (
        dict(files.load(["p", "n", "d"], 59).distribution(["p", "n", "d"])),
        spark.read.parquet(str(tmp_path / "files")),
    )
    for name, facts in distribution(frame, ["p", "n", "d"]):
        same(ours[name], facts)


@pytest.mark.parametrize("values", ODD)
def test_odd_columns_are_described_alike(spark, values):
    ((_, facts),) = distribution(spark.createDataFrame([(value,) for value in values], "p double"), ["p"])
    ours = describe([np.array([value for value in values if value is not None], np.float64)], len(values))
    json.dumps(ours, allow_nan=False)
    same(ours, facts)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(values=VALUES)
def test_every_value_is_counted_once(values):
    facts = describe([np.array([value for value in values if value is not None], np.float64)], len(values))
    json.dumps(facts, allow_nan=False)
    assert sum(count for _, _, count in facts["histogram"]) == facts["rows"] - facts["nulls"] - facts["not_finite"]


def test_no_files_have_no_rows(tmp_path):
    files = files_of(tmp_path / "files", [])
    assert files.rows() == 0
    ((_, facts),) = files.load(["p"], 0).distribution(["p"])
    assert (facts["rows"], facts["mean"], facts["histogram"]) == (0, None, [])


def test_much_is_left_to_the_executors(tmp_path, monkeypatch):
    files = files_of(tmp_path / "files", [pa.table({"p": [1.0]}), pa.table({"p": [2.0]})])
    monkeypatch.setattr(staged_files, "MAX_VALUES", 1)
    assert files.load(["p"], 2) is None
    monkeypatch.setattr(staged_files, "MAX_FILES", 1)
    assert files.rows() is None


def test_a_cut_file_is_an_error_that_names_it(tmp_path):
    files = files_of(tmp_path / "files", [pa.table({"p": [1.0, 2.0]})])
    path = tmp_path / "files" / "part-0.parquet"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(StorageError, match="FS8006.*part-0.parquet is not a valid Parquet file"):
        StagedFiles.below(files.storage, str(path.parent)).rows()
