"""The demo's data as it lands: checked against the published CSV files, on local storage."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from firesteel.conf.errors import StorageError
from firesteel.jobs.demo import flights as demo
from firesteel.jobs.demo.flights import flight_ids, load_flights
from firesteel.jobs.demo.nycflights import read_flights, read_weather
from firesteel.pipelines.storage.local import LocalStorage

DAYS = (date(2013, 2, 8), date(2013, 2, 9))  # a blizzard: most nulls of the year


def uri(root: Path) -> str:
    return f"file://{root}"


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def year() -> pd.DataFrame:
    return read_flights()


def test_a_day_lands_as_published(tmp_path, year):
    report = load_flights(uri(tmp_path), days=DAYS)
    published = year[year["dt"].isin([str(day) for day in DAYS])]
    assert report.flights == len(published)
    assert (report.files, report.days_written, report.days_skipped) == (2 * 4, 4, 0)
    for (dt, origin), expected in published.groupby(["dt", "origin"]):
        table = pq.ParquetFile(tmp_path / "flights" / f"dt={dt}" / f"origin={origin}" / "part-0.parquet").read()
        assert table.num_rows == len(expected)
        assert table["dep_delay"].null_count == expected["dep_delay"].isna().sum() > 0
        assert table["tailnum"].null_count == expected["tailnum"].isna().sum()
        assert pc.sum(table["arr_delay"]).as_py() == expected["arr_delay"].sum()
        assert pc.sum(table["distance"]).as_py() == expected["distance"].sum()
        assert not pc.any(pc.is_nan(table["dep_delay"])).as_py()  # null, not NaN: SQL tells them apart


def test_files_hold_exactly_these_types(tmp_path):
    load_flights(uri(tmp_path), days=DAYS)
    flights = pq.ParquetFile(tmp_path / "flights/dt=2013-02-08/origin=JFK/part-0.parquet")
    assert flights.metadata.row_group(0).column(0).compression == "SNAPPY"
    assert flights.schema_arrow == pa.schema(
        [
            pa.field("flight_id", pa.string(), nullable=False),
            ("carrier", pa.string()),
            ("flight", pa.int32()),
            ("tailnum", pa.string()),
            ("dest", pa.string()),
            ("sched_dep_time", pa.int32()),
            ("dep_delay", pa.float64()),
            ("arr_delay", pa.float64()),
            ("distance", pa.int32()),
            ("air_time", pa.float64()),
            ("hour", pa.int32()),
            ("minute", pa.int32()),
        ]
    )
    weather = pq.ParquetFile(tmp_path / "weather/dt=2013-02-08/part-0.parquet").schema_arrow
    assert [weather.field("origin").type, weather.field("hour").type] == [pa.string(), pa.int32()]
    assert {field.type for field in weather if field.name not in ("origin", "hour")} == {pa.float64()}


def test_the_markers_are_written_last(tmp_path):
    load_flights(uri(tmp_path), days=DAYS)
    for folder in [*tmp_path.glob("flights/*"), *tmp_path.glob("weather/*")]:
        marker = (folder / "_SUCCESS").stat().st_mtime_ns
        assert all(path.stat().st_mtime_ns <= marker for path in folder.rglob("*.parquet"))


def test_days_that_are_there_are_skipped_and_cut_ones_are_written_again(tmp_path):
    load_flights(uri(tmp_path), days=DAYS)
    whole = files(tmp_path)
    (tmp_path / "flights/dt=2013-02-09/_SUCCESS").unlink()
    (tmp_path / "flights/dt=2013-02-09/origin=JFK/part-0.parquet").write_bytes(b"PAR1 cut short")
    (tmp_path / "flights/dt=2013-02-09/origin=XXX").mkdir()
    (tmp_path / "flights/dt=2013-02-09/origin=XXX/part-0.parquet").write_bytes(b"of another release")
    seen: list[tuple[int, int]] = []
    report = load_flights(uri(tmp_path), lambda done, total: seen.append((done, total)), days=DAYS)
    assert (report.days_written, report.days_skipped, report.weather) == (1, 3, 0)
    assert str(report).endswith("3 of 4 daily tables existed already")
    assert seen == [(3, 4), (4, 4)]
    assert files(tmp_path) == whole
    assert str(load_flights(uri(tmp_path), days=DAYS)) == "nothing to do, 4 of 4 daily tables existed already"


def test_a_storage_that_refuses_stops_the_load(tmp_path):
    (tmp_path / "flights").write_text("a file where the folder should be")
    with pytest.raises(StorageError):
        load_flights(uri(tmp_path), days=DAYS)


def test_flight_ids_are_unique_over_the_year(year):
    ids = flight_ids(year)
    assert len(ids) == 336_776
    assert ids.is_unique
    assert ids.iloc[0] == "2013-01-01-EWR-UA1545-0515"


def test_a_flight_that_comes_twice_gets_a_suffix(year):
    twice = pd.concat([year.head(2), year.head(1), year.head(1)], ignore_index=True)
    first = "2013-01-01-EWR-UA1545-0515"
    assert list(flight_ids(twice)) == [first, "2013-01-01-LGA-UA1714-0529", f"{first}-2", f"{first}-3"]


def test_the_hour_that_came_twice_is_kept_once():
    weather = read_weather()
    assert len(weather) == 26_115 - 3
    assert not weather.duplicated(["dt", "origin", "hour"]).any()
    kept = weather[(weather["dt"] == "2013-11-03") & (weather["hour"] == 1)]
    assert set(kept["time_hour"]) == {"2013-11-03T05:00:00Z"}


def test_the_last_day_has_a_weather_file_without_rows(tmp_path):
    load_flights(uri(tmp_path), days=(demo.LAST, demo.LAST))
    table = pq.ParquetFile(tmp_path / "weather/dt=2013-12-31/part-0.parquet").read()
    assert table.num_rows == 0
    assert "wind_speed" in table.column_names
    assert LocalStorage().status(f"{tmp_path}/weather/dt=2013-12-31/_SUCCESS") is not None
