"""Parquet files -> Arrow tables with the declared schema, as Spark's own reader would give them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from firesteel.conf.errors import InputNotReady
from firesteel.conf.partitions import parse_directory
from firesteel.conf.types import ARROW, INTEGERS, UNSIGNED, WIDENED

if TYPE_CHECKING:
    from firesteel.udfs.direct.files import Files
    from firesteel.udfs.direct.spec import ScanSpec, Split, TaskResult

BATCH_ROWS = 65_536
_UNSIGNED = {
    pa.type_for_alias(f"uint{bits}"): pa.type_for_alias(ARROW[name]) if name in ARROW else pa.decimal128(20, 0)
    for bits, name in UNSIGNED.items()
}
_WIDER = {(pa.type_for_alias(ARROW[found]), pa.type_for_alias(ARROW[wanted])) for found, wanted in WIDENED}
"""The plan lets no others pass."""
_LEGACY = (b"org.apache.spark.legacyDateTime", b"org.apache.spark.legacyINT96")
_SPARK_VERSION = b"org.apache.spark.version"
_SPARK_TYPES = {pa.type_for_alias(ARROW[name]): name for name in ("string", "date", *INTEGERS)}
"""Of partition columns; the compiler lets no others pass (pipelines/planner/operator.py)."""
T = TypeVar("T")


def scan(files: Files, spec: ScanSpec, splits: Iterable[Split], result: TaskResult) -> Iterator[pa.Table]:
    """The rows of the splits, in order. `result.rows_read` is filled from the footers.

    Raises
    ------
    InputNotReady
        FS4003 when a file has other types than declared.
    """
    for split in splits:
        with files.open(f"{spec.root}/{split.path}") as source:
            file = _read(split.path, pq.ParquetFile, source, pre_buffer=True, coerce_int96_timestamp_unit="us")
            groups = _groups(file.metadata, split)
            if not groups:
                continue
            result.rows_read += sum(file.metadata.row_group(group).num_rows for group in groups)
            constants = partition_values(split.path, spec)
            names = _names(file, spec, split.path)
            if names:
                batches: Iterator[Any] = file.iter_batches(BATCH_ROWS, row_groups=groups, columns=list(names.values()))
            else:
                batches = _bare(sum(file.metadata.row_group(group).num_rows for group in groups))
            while (batch := _read(split.path, next, batches, None)) is not None:
                yield _complete(batch, spec, names, constants, split.path)


def _read(path: str, read: Callable[..., T], *args: Any, **options: Any) -> T:
    """What `read` returns; FS4003 where the file is damaged. What the storage raises passes through."""
    try:
        return read(*args, **options)
    except (pa.ArrowInvalid, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        reason = str(error).splitlines()[0].rstrip(".")
        raise InputNotReady(
            "FS4003", f"{path} cannot be read, the file is damaged: {reason}.", hint="Write the partition again."
        ) from error


def _bare(rows: int) -> Iterator[pa.RecordBatch]:
    """Batches without columns, when only those of the path are needed."""
    for start in range(0, rows, BATCH_ROWS):
        size = min(BATCH_ROWS, rows - start)
        yield pa.RecordBatch.from_arrays([pa.nulls(size)], names=["_"])


def _groups(metadata: Any, split: Split) -> list[int]:
    """Row groups whose middle lies in the split: each belongs to exactly one split of its file."""
    found = []
    for index in range(metadata.num_row_groups):
        group = metadata.row_group(index)
        starts, size = [], 0
        for number in range(group.num_columns):
            column = group.column(number)
            dictionary = column.dictionary_page_offset
            starts.append(min(dictionary, column.data_page_offset) if dictionary else column.data_page_offset)
            size += column.total_compressed_size
        middle = min(starts, default=0) + size // 2
        if split.start <= middle < split.stop:
            found.append(index)
    return found


def _names(file: Any, spec: ScanSpec, path: str) -> dict[str, str]:
    """Declared column -> the file's name of it, whatever its case, as in Spark."""
    metadata = file.metadata.metadata or {}
    spark = metadata.get(_SPARK_VERSION, b"3").partition(b".")[0]
    legacy = any(key in metadata for key in _LEGACY) or (spark.isdigit() and int(spark) < 3)
    if legacy and any(pa.types.is_temporal(each.type) for each in spec.schema):
        raise InputNotReady(
            "FS4003",
            f"{path} has dates of Spark 2's calendar.",
            hint="Set `operator: arrow`: Spark reads such files right.",
        )
    lower: dict[str, list[str]] = {}
    for name in file.schema_arrow.names:
        lower.setdefault(name.lower(), []).append(name)
    names = {}
    for each in spec.schema:
        found = lower.get(each.name.lower(), [])
        if len(found) != 1:
            raise InputNotReady("FS4003", f"{path} has {len(found)} columns named `{each.name}`, whatever their case.")
        names[each.name] = found[0]
    return names


def _complete(
    batch: pa.RecordBatch,
    spec: ScanSpec,
    names: dict[str, str],
    constants: dict[str, pa.Scalar],
    path: str,
) -> pa.Table:
    columns: list[Any] = [_typed(batch.column(names[each.name]), each, path) for each in spec.schema]
    fields = [*spec.schema.names, *constants]
    columns += [
        pa.repeat(value, batch.num_rows) if value.is_valid else pa.nulls(batch.num_rows, value.type)
        for value in constants.values()
    ]
    return pa.table(columns, names=fields)


def _typed(column: pa.Array, wanted: pa.Field, path: str) -> pa.Array:
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if column.type in _UNSIGNED:
        column = column.cast(_UNSIGNED[column.type])
    if pa.types.is_duration(column.type):  # Parquet has no such type: to Spark it is a number
        column = column.cast(pa.int64())
    if column.type == wanted.type:
        return column
    if _fits(column.type, wanted.type):
        return column.cast(wanted.type)
    raise InputNotReady(
        "FS4003",
        f"{path}: column `{wanted.name}` is {column.type}, declared {wanted.type}.",
        hint="Write the file again with that type, or correct the contract.",
    )


def _fits(found: pa.DataType, wanted: pa.DataType) -> bool:
    types = pa.types
    if types.is_timestamp(found) and types.is_timestamp(wanted):
        return found.unit != "ns" and (bool(wanted.tz) or not found.tz)  # INT96 has no zone, and is in UTC
    text = types.is_string(found) or types.is_large_string(found) or types.is_string_view(found)
    data = (
        types.is_binary(found)
        or types.is_large_binary(found)
        or types.is_binary_view(found)
        or types.is_fixed_size_binary(found)
    )
    return (
        (found, wanted) in _WIDER
        or (text and types.is_string(wanted))
        or (data and types.is_binary(wanted))
        or (types.is_date(found) and types.is_date(wanted))
        or (types.is_decimal(found) and types.is_decimal(wanted) and _digits(found) == _digits(wanted))
    )


def _digits(kind: pa.DataType) -> tuple[int, int]:
    return kind.precision, kind.scale


def partition_values(path: str, spec: ScanSpec) -> dict[str, pa.Scalar]:
    """The values in a path, by column."""
    values = {}
    for (name, kind), part in zip(spec.partitions, path.split("/"), strict=False):
        try:
            values[name] = pa.scalar(parse_directory(part, name, _SPARK_TYPES[kind]), kind)
        except ValueError as error:
            raise InputNotReady("FS4005", f"{path}: `{part}`: {error}.") from None
    return values
