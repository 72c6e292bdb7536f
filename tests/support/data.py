"""Small real data: flights and weather of a few days in local files, in the layout of the flights example."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

ORIGINS = ("EWR", "JFK", "LGA")


def write_days(root: Path, days: list[str], *, rows: int = 20) -> None:
    """Write `rows` flights per day and origin, with nulls, weather for every hour, and a _SUCCESS file per day."""
    for day in days:
        for origin in ORIGINS:
            table = pa.table(
                {
                    "flight_id": [f"{day}-{origin}-{number}" for number in range(rows)],
                    "sched_dep_time": pa.array([500 + 10 * (number % 50) for number in range(rows)], pa.int32()),
                    "dep_delay": pa.array([None if number % 7 == 0 else float(number) for number in range(rows)]),
                    "distance": pa.array([100 + number for number in range(rows)], pa.int32()),
                    "hour": pa.array([(500 + 10 * (number % 50)) // 100 for number in range(rows)], pa.int32()),
                    "tailnum": [f"N{number}" for number in range(rows)],
                }
            )
            write(root / "flights" / f"dt={day}" / f"origin={origin}" / "part-0.parquet", table)
        hours = [(origin, hour) for origin in ORIGINS for hour in range(24)]
        weather = pa.table(
            {
                "origin": [origin for origin, _ in hours],
                "hour": pa.array([hour for _, hour in hours], pa.int32()),
                **{name: [float(hour) for _, hour in hours] for name in ("temp", "wind_speed", "precip", "visib")},
            }
        )
        write(root / "weather" / f"dt={day}" / "part-0.parquet", weather)
        for source in ("flights", "weather"):
            (root / source / f"dt={day}" / "_SUCCESS").touch()


def write(path: Path, table: pa.Table) -> None:
    """Write one Parquet file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)
