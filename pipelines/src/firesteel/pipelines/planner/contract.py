"""Compare a contract with the schemas that Parquet, ORC and Avro files contain, without a JVM.

Column types are those of Spark's reader, for Parquet from its schema alone: Spark ignores Arrow's own schema (`ARROW:schema`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from firesteel.conf.errors import FiresteelError, InputNotReady, StorageError
from firesteel.conf.formats import LINES, TITLES
from firesteel.conf.types import FROM_PARQUET, INTEGER_BITS, UNSIGNED, VOID, WIDENED
from firesteel.pipelines.plan.model import Column
from firesteel.pipelines.planner.avro_schema import avro_header, avro_schema
from firesteel.pipelines.planner.file_schema import MAX_PRECISION, FileSchema
from firesteel.pipelines.planner.orc_schema import orc_schema
from firesteel.pipelines.sql.select import UNKNOWN
from firesteel.pipelines.storage.ranges import RangeReader

if TYPE_CHECKING:
    from firesteel.pipelines.storage.base import Storage

_SIGNED = {bits: name for name, bits in INTEGER_BITS.items()}
_LOGICAL = {"String": "string", "Enum": "string", "JSON": "string", "BSON": "binary", "Date": "date", "Null": VOID}
_FIELD = re.compile(r"\w+")
_CODECS = {
    "parquet": {"UNCOMPRESSED", "SNAPPY", "GZIP", "LZ4", "ZSTD"},
    "orc": {"UNCOMPRESSED", "ZLIB", "SNAPPY", "LZO", "LZ4", "ZSTD"},
    "avro": {"null", "deflate", "snappy", "bzip2", "xz", "zstandard"},
}
"""Format -> the compression codecs that Spark includes."""


_NO_COLUMNS = FileSchema((), {})
_schemas: dict[str, FileSchema] = {}
_footers: dict[tuple[str, str, int, int], FileSchema] = {}
_MOST_FOOTERS = 1_000_000


def known_schema(
    name: str, storage: Storage, path: str, length: int, version: int | None, format_: str = "parquet"
) -> FileSchema:
    """Return the result of `read_schema`, cached in this process by (format, path, length, version).

    `version` is the file's modification time; None reads the footer.
    """
    if version is None:
        return read_schema(name, storage, path, length, format_)
    key = (format_, f"{storage.base_uri}{path}", length, version)
    schema = _footers.get(key)
    if schema is None:
        schema = read_schema(name, storage, path, length, format_)
        if len(_footers) >= _MOST_FOOTERS:
            _footers.clear()
        _footers[key] = schema
    return schema


def read_schema(name: str, storage: Storage, path: str, length: int, format_: str = "parquet") -> FileSchema:
    """Return the schema in the footer of a Parquet or ORC file, or in the header of an Avro file. Other files have no columns.

    Raises
    ------
    InputNotReady
        FS4003 when the file is not a file of this format that Spark can read.
    """
    place = f"{storage.base_uri}{path}"
    if ":" in path.rpartition("/")[2]:
        raise InputNotReady(
            "FS4003", f"{name}: {place} has a `:` in its name; Hadoop cannot open it.", hint="Rename the file."
        )
    if length == 0 and storage.status(path) is None:
        raise InputNotReady(
            "FS4003",
            f"{name}: {place} is a link to a file that does not exist.",
            hint="Restore the file, or delete the link.",
        )
    if format_ in LINES:
        return _NO_COLUMNS
    if length == 0:
        raise InputNotReady(
            "FS4003",
            f"{name}: {place} is not a valid {TITLES[format_]} file: it is empty (0 bytes).",
            hint="Write the partition again, or delete the file if its writer has finished.",
        )
    try:
        schema, codec = _FOOTERS[format_](RangeReader(storage, path, length, peek=True))
    except StorageError:
        raise
    except Exception as error:  # pyarrow raises many types of errors for a damaged file
        reason = str(error).splitlines()[0].rstrip(".")
        raise InputNotReady(
            "FS4003",
            f"{name}: {place} is not a valid {TITLES[format_]} file: {reason}.",
            hint="Write the partition again; the file may be truncated.",
        ) from error
    if codec and codec not in _CODECS[format_]:
        raise InputNotReady(
            "FS4003",
            f"{name}: {place} is compressed with {codec}, which Spark cannot read.",
            hint="Write it with zstd or snappy.",
        )
    return schema


def _parquet_footer(file: RangeReader) -> tuple[FileSchema, str]:
    """Return the schema of a Parquet file, and its compression codec or ""."""
    import pyarrow.parquet as pq

    metadata = pq.read_metadata(file)
    codec = metadata.row_group(0).column(0).compression if metadata.num_row_groups and metadata.num_columns else ""
    return _shared(repr(metadata.schema).partition("\n")[2], lambda: _schema_of(metadata.schema)), codec


def _orc_footer(file: RangeReader) -> tuple[FileSchema, str]:
    """Return the schema of an ORC file, and its compression codec."""
    from pyarrow import orc

    footer = orc.ORCFile(file)
    schema = footer.schema
    return _shared(
        f"orc {schema.to_string(show_schema_metadata=False)}", lambda: orc_schema(schema)
    ), footer.compression


def _avro_header(file: RangeReader) -> tuple[FileSchema, str]:
    """Return the schema of an Avro file, and its compression codec."""
    text, codec = avro_header(file)
    return _shared(f"avro {text}", lambda: avro_schema(text)), codec


_FOOTERS: Mapping[str, Callable[[RangeReader], tuple[FileSchema, str]]] = {
    "parquet": _parquet_footer,
    "orc": _orc_footer,
    "avro": _avro_header,
}
"""Format -> what reads the schema and the codec of a file."""


def _shared(key: str, make: Callable[[], FileSchema]) -> FileSchema:
    """Return one object for all threads and files of a schema: callers compare schemas by identity."""
    return _schemas[key] if key in _schemas else _schemas.setdefault(key, make())


def check_columns(
    name: str,
    expected: Mapping[str, str],
    schema: FileSchema,
    place: str,
    *,
    others: bool,
    says: str,
    partitions: Collection[str] = (),
) -> list[FiresteelError]:
    """Return FS4003 for each column that a file lacks or cannot convert to the expected type without loss.

    Parameters
    ----------
    others
        Whether the file may have columns that are not in `expected`.
    says
        The origin of the expectation, for the message: "the contract says", or another file.
    partitions
        Columns that the file may always have, because their values come from its path.
    """
    types = schema.types
    errors: list[FiresteelError] = []
    for column, kind in expected.items():
        if column not in types:
            close = next((name for name in types if name.lower() == column.lower()), "")
            hint = f"Use the same case: the file has `{close}`." if close else ""
            errors.append(
                InputNotReady(
                    "FS4003",
                    f"{name}: column `{column}` is not in {place}; {says} {kind}.",
                    hint=hint or f"Use a column of the file: {', '.join(types)}.",
                )
            )
        elif column in schema.unreadable:
            reason = schema.unreadable[column]
            errors.append(
                InputNotReady(
                    "FS4003",
                    f"{name}: column `{column}` is {reason} in {place}, which Spark cannot read; {says} {kind}.",
                    hint=unreadable_hint(reason),
                )
            )
        elif not fits(types[column], kind):
            errors.append(
                InputNotReady(
                    "FS4003",
                    f"{name}: column `{column}` is {named(types[column])} in {place}; {says} {kind}.",
                    hint="Write the file again with this type, or correct the contract.",
                )
            )
    from_path = {column.lower() for column in partitions}
    unknown = [] if others else [key for key in types if key not in expected and key.lower() not in from_path]
    if unknown:
        errors.append(
            InputNotReady(
                "FS4003",
                f"{name}: {place} has columns that are not in the contract: {', '.join(unknown)}.",
                hint="Add them to the contract, or set contract.mode: additive.",
            )
        )
    return errors


def named(kind: str) -> str:
    """Return a type for messages."""
    return f"{VOID} (only nulls, written without a type)" if kind == VOID else kind


def unreadable_hint(reason: str) -> str:
    """Return the hint for a column that Spark cannot read."""
    if "nanoseconds" in reason:
        return 'Write it in microseconds (pandas: `to_parquet(..., coerce_timestamps="us", allow_truncated_timestamps=True)`).'
    if "without a name" in reason:
        return "Write the file again with names, by a current version of Hive or Spark."
    return "Write it with a type that Spark supports."


def fits(actual: str, expected: str) -> bool:
    """Return whether a reader can convert a column of type `actual` to `expected` without loss."""
    return actual == expected or (actual, expected) in WIDENED


def common_type(kinds: Collection[str]) -> str | None:
    """Return the narrowest type to which all these types can be converted; None if there is none.

    Examples
    --------
    >>> common_type({"int", "bigint"}), common_type({"tinyint", "float"}), common_type({"bigint", "string"})
    ('bigint', 'double', None)
    """
    return next((wide for wide in (*kinds, "double") if all(fits(kind, wide) for kind in kinds)), None)


def _schema_of(schema: Any) -> FileSchema:
    leaves = (schema.column(index) for index in range(len(schema)))
    columns = []
    for field in schema.to_arrow_schema():
        reasons: list[str] = []
        columns.append((Column(field.name, _type_of(field.type, leaves, reasons)), reasons))
    return FileSchema.of(columns)


def _type_of(kind: Any, leaves: Iterator[Any], reasons: list[str]) -> str:
    """Return Spark's name of a column's type: the structure from the Arrow type, the leaves from the Parquet schema."""
    import pyarrow as pa

    if isinstance(kind, pa.BaseExtensionType):
        return _type_of(kind.storage_type, leaves, reasons)
    if pa.types.is_dictionary(kind):
        return _type_of(kind.value_type, leaves, reasons)
    if pa.types.is_map(kind):
        key, value = (_type_of(part, leaves, reasons) for part in (kind.key_type, kind.item_type))
        return f"map<{key},{value}>"
    if pa.types.is_struct(kind):
        fields = [(field.name, _type_of(field.type, leaves, reasons)) for field in kind]
        reasons += [f"a struct with the field `{name}`" for name, _ in fields if not _FIELD.fullmatch(name)]
        return f"struct<{','.join(f'{name}:{type_}' for name, type_ in fields)}>"
    if hasattr(kind, "value_type"):
        return f"array<{_type_of(kind.value_type, leaves, reasons)}>"
    leaf = next(leaves)
    type_, reason = _leaf(leaf.physical_type, json.loads(leaf.logical_type.to_json()))
    if reason:
        reasons.append(reason)
    return type_


def _leaf(physical: str, logical: Mapping[str, Any]) -> tuple[str, str]:
    """Return Spark's type of a Parquet column, and a description if Spark has no type for it."""
    kind = logical["Type"]
    if kind == "None" or physical == "INT96":
        return FROM_PARQUET[physical], ""
    if kind == "Int":
        return (_SIGNED if logical["isSigned"] else UNSIGNED)[logical["bitWidth"]], ""
    if kind == "Timestamp" and logical["timeUnit"] != "nanoseconds":
        return ("timestamp" if logical["isAdjustedToUTC"] else "timestamp_ntz"), ""
    if kind == "Decimal" and logical["precision"] <= MAX_PRECISION:
        return f"decimal({logical['precision']},{logical['scale']})", ""
    if kind in _LOGICAL:
        return _LOGICAL[kind], ""
    unreadable = {
        "Timestamp": "a timestamp in nanoseconds",
        "Decimal": f"a decimal of {logical.get('precision')} digits",
        "Time": "a time of day",
        "Float16": "a 16-bit float",
    }
    return UNKNOWN, unreadable.get(kind, f"of the Parquet type {kind}")
