"""Write the demo's input, a year of real flights and weather, as partitioned Parquet to any storage.

::

    ROOT/flights/dt=2013-06-01/origin=JFK/part-0.parquet    one file per day and origin: 1,095
    ROOT/flights/dt=2013-06-01/_SUCCESS                     written last
    ROOT/weather/dt=2013-06-01/part-0.parquet               365 files; the source has no rows for 31 December
    ROOT/weather/dt=2013-06-01/_SUCCESS
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING

from firesteel.jobs.demo.nycflights import read_flights, read_weather
from firesteel.pipelines.storage.base import Storage
from firesteel.pipelines.storage.open import locate
from firesteel.pipelines.storage.paths import join

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

Progress = Callable[[int, int], object]
"""Called with the completed and the total number of daily tables."""

FIRST, LAST = date(2013, 1, 1), date(2013, 12, 31)
THREADS = 8
MARKER = "_SUCCESS"

_FLIGHTS = {
    "flight_id": "string", "carrier": "string", "flight": "int32", "tailnum": "string", "dest": "string", "sched_dep_time": "int32",
    "dep_delay": "float64", "arr_delay": "float64", "distance": "int32", "air_time": "float64", "hour": "int32", "minute": "int32",
}  # fmt: skip
_WEATHER = {
    "origin": "string", "hour": "int32", "temp": "float64", "dewp": "float64", "humid": "float64", "wind_dir": "float64",
    "wind_speed": "float64", "wind_gust": "float64", "precip": "float64", "pressure": "float64", "visib": "float64",
}  # fmt: skip
_NEVER_NULL = {"flight_id", "origin"}


@dataclass(frozen=True, slots=True)
class LoadReport:
    """The written rows and files, and the number of daily tables that existed already."""

    flights: int
    weather: int
    files: int
    days_written: int
    days_skipped: int

    def __str__(self) -> str:
        existing = f"{self.days_skipped} of {self.days_skipped + self.days_written} daily tables existed already"
        if not self.days_written:
            return f"nothing to do, {existing}"
        written = f"{self.flights:,} flights and {self.weather:,} hours of weather in {self.files:,} files"
        return f"{written}; {existing}" if self.days_skipped else written


@dataclass(frozen=True, slots=True)
class _Day:
    """One day of one table: its folder, its files by name and its number of rows."""

    folder: str
    files: tuple[tuple[str, pa.Table], ...]
    rows: int


def load_flights(root_uri: str, progress: Progress | None = None, days: tuple[date, date] | None = None) -> LoadReport:
    """Write the missing days. A day exists if it has a `_SUCCESS` file.

    Parameters
    ----------
    root_uri
        `hdfs://` or `file://`.
    progress
        Called in this thread after each day.
    days
        First and last day (inclusive). By default the whole year.

    Raises
    ------
    RuntimeFault
        FS9004 if the demo's packages are not installed.
    StorageError
        The storage fails.
    """
    storage, root = locate(root_uri)
    first, last = days or (FIRST, LAST)
    days_text = [str(first + timedelta(number)) for number in range((last - first).days + 1)]
    with ThreadPoolExecutor(THREADS, thread_name_prefix="load-flights") as pool:
        folders = [join(root, table, f"dt={day}") for table in ("flights", "weather") for day in days_text]
        complete = dict(zip(folders, pool.map(lambda folder: _is_complete(storage, folder), folders), strict=True))
        missing = {
            day for day in days_text for table in ("flights", "weather") if not complete[join(root, table, f"dt={day}")]
        }
        pending = [day for day in _days(root, missing) if not complete[day.folder]] if missing else []
        skipped = sum(complete.values())
        total, completed = len(folders), skipped
        if progress:
            progress(completed, total)
        writing = {pool.submit(_write, storage, day): day for day in pending}
        try:
            for future in as_completed(writing):
                future.result()
                completed += 1
                if progress:
                    progress(completed, total)
        except BaseException:
            pool.shutdown(
                wait=False, cancel_futures=True
            )  # Ctrl-C and the first error end the load; complete days stay
            raise
    rows = {table: sum(day.rows for day in pending if f"/{table}/" in day.folder) for table in ("flights", "weather")}
    return LoadReport(rows["flights"], rows["weather"], sum(len(day.files) for day in pending), len(pending), skipped)


def _is_complete(storage: Storage, folder: str) -> bool:
    return storage.status(join(folder, MARKER)) is not None


def _write(storage: Storage, day: _Day) -> None:
    """Write one day, with its marker last."""
    import pyarrow.parquet as pq

    storage.delete(day.folder)  # remains of an interrupted load, which no reader uses without a marker
    for name, table in day.files:
        buffer = io.BytesIO()
        pq.write_table(table, buffer, compression="snappy")
        storage.create(join(day.folder, name), buffer.getvalue())
    storage.create(join(day.folder, MARKER), b"")


def _days(root: str, days: set[str]) -> Iterator[_Day]:
    """Yield the selected days of both tables in calendar order."""
    flights = read_flights()
    flights = flights[flights["dt"].isin(days)]
    flights = flights.assign(flight_id=flight_ids(flights))
    for dt, day_flights in flights.groupby("dt", sort=True):
        files = tuple(
            (f"origin={origin}/part-0.parquet", _table(rows.sort_values("flight_id"), _FLIGHTS))
            for origin, rows in day_flights.groupby("origin", sort=True)
        )
        yield _Day(join(root, "flights", f"dt={dt}"), files, len(day_flights))
    weather = read_weather()
    for dt in sorted(days):
        rows = weather[weather["dt"] == dt].sort_values(["origin", "hour"])
        yield _Day(join(root, "weather", f"dt={dt}"), (("part-0.parquet", _table(rows, _WEATHER)),), len(rows))


def flight_ids(flights: pd.DataFrame) -> pd.Series[str]:
    """Return flight IDs such as `2013-06-01-JFK-B61734-0559` (day, origin, carrier, number, scheduled time).

    Duplicates get the suffix `-2` and so on. The published data has no duplicates.
    """
    number = flights["carrier"] + flights["flight"].astype(str)
    time = flights["sched_dep_time"].astype(str).str.zfill(4)
    ids = flights["dt"] + "-" + flights["origin"] + "-" + number + "-" + time
    occurrence = ids.groupby(ids).cumcount()
    return ids.where(occurrence == 0, ids + "-" + (occurrence + 1).astype(str))


def _table(frame: pd.DataFrame, columns: dict[str, str]) -> pa.Table:
    """Return an Arrow table with these types. NaN becomes null."""
    import pyarrow as pa

    schema = pa.schema(
        [pa.field(name, pa.type_for_alias(kind), nullable=name not in _NEVER_NULL) for name, kind in columns.items()]
    )
    arrays = [pa.array(frame[field.name].to_numpy(), type=field.type, from_pandas=True) for field in schema]
    return pa.Table.from_arrays(arrays, schema=schema)
