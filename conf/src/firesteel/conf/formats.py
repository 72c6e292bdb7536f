"""File formats: their names in a spec, their titles in messages, and the options of Spark's readers. It is data; no library is imported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

SourceFormat = Literal["parquet", "orc", "avro", "csv", "json", "text"]
SinkFormat = Literal["parquet", "orc"]
Compression = Literal["zstd", "snappy", "gzip", "lz4", "none"]

TITLES = {"parquet": "Parquet", "orc": "ORC", "avro": "Avro", "csv": "CSV", "json": "JSON", "text": "text"}
"""Format -> its name in messages."""
LINES = frozenset({"csv", "json", "text"})
"""Formats whose files have no schema. The spec declares their columns."""

_TIMES = ("dateFormat", "timestampFormat", "timestampNTZFormat", "timeZone", "locale")
OPTIONS: dict[str, tuple[str, ...]] = {
    "parquet": (),
    "orc": (),
    "avro": (),
    "csv": (
        *("header", "sep", "delimiter", "quote", "escape", "comment", "encoding", "lineSep", "multiLine", *_TIMES),
        *("nullValue", "emptyValue", "nanValue", "positiveInf", "negativeInf"),
        *("ignoreLeadingWhiteSpace", "ignoreTrailingWhiteSpace", "maxColumns", "maxCharsPerColumn"),
    ),
    "json": (
        *("lineSep", *_TIMES, "allowComments", "allowUnquotedFieldNames", "allowSingleQuotes"),
        *("allowNonNumericNumbers", "allowBackslashEscapingAnyCharacter", "allowUnquotedControlChars"),
    ),
    "text": ("lineSep",),
}
"""Format -> the options of Spark's reader that a spec may set. None of them makes a value null that cannot be parsed."""

_STRICT_TIMES = {
    "dateFormat": "yyyy-MM-dd",
    "timestampFormat": "yyyy-MM-dd[['T'][ ]HH:mm[:ss[.SSSSSS]][XXX]]",
    "timestampNTZFormat": "yyyy-MM-dd[['T'][ ]HH:mm[:ss[.SSSSSS]]]",
}
"""Spark's own defaults read `12:00` as today at 12:00, and ignore what follows a date."""
DEFAULTS: dict[str, dict[str, str]] = {
    "csv": {**_STRICT_TIMES, "escape": '"'},
    "json": {**_STRICT_TIMES, "allowSingleQuotes": "false"},
}
"""Format -> options that differ from Spark's defaults unless the spec sets them. A quote within quotes is doubled, as RFC 4180 says."""

CODECS: dict[str, dict[str, str]] = {
    "parquet": {"zstd": "zstd", "snappy": "snappy", "gzip": "gzip", "lz4": "lz4_raw", "none": "uncompressed"},
    "orc": {"zstd": "zstd", "snappy": "snappy", "gzip": "zlib", "lz4": "lz4", "none": "uncompressed"},
}
"""Format -> `compression` -> Spark's name of the codec. Only Hadoop reads what Spark calls `lz4` in Parquet."""


def one_byte_lines(options: Mapping[str, str]) -> bool:
    """Return whether the encoding of CSV files has the quote and the end of a line as in ASCII.

    Raises
    ------
    LookupError
        The encoding is unknown.
    """
    return '"\n'.encode(options.get("encoding", "UTF-8")) == b'"\n'


def format_of(path: str) -> str:
    """Return the format of a file that Spark or firesteel wrote, by its name."""
    return "orc" if path.endswith(".orc") else "parquet"
