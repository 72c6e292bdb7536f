"""File formats: their names in a spec, and their titles in messages. It is data; no library is imported."""

from __future__ import annotations

from typing import Literal

SourceFormat = Literal["parquet", "orc"]
SinkFormat = Literal["parquet"]

TITLES = {"parquet": "Parquet", "orc": "ORC"}
"""Format -> its name in messages."""
