"""Read Parquet files as Arrow tables with the declared schema and the semantics of Spark's reader."""

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
"""(type in the file, declared type) that Spark's reader widens. The plan rejects other pairs."""
_LEGACY = (b"org.apache.spark.legacyDateTime", b"org.apache.spark.legacyINT96")
_SPARK_VERSION = b"org.apache.spark.version"
_SPARK_TYPES = {pa.type_for_alias(ARROW[name]): name for name in ("string", "date", *INTEGERS)}
"""Types of partition columns. The compiler (planner/operator.py) rejects others."""
T = TypeVar("T")


def scan(files: Files, spec: ScanSpec, splits: Iterable[Split], result: TaskResult) -> Iterator[pa.Table]:
    """Yield the rows of the splits in order, and set `result.rows_read` from the footers.

    Raises
    ------
    InputNotReady
        FS4003 if the types in a file differ from the declared types.
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
                batches = _empty_batches(sum(file.metadata.row_group(group).num_rows for group in groups))
            while (batch := _read(split.path, next, batches, None)) is not None:
                yield _complete(batch, spec, names, constants, split.path)


def _read(path: str, read: Callable[..., T], *args: Any, **options: Any) -> T:
    """Return the result of `read`, or raise FS4003 if the file is damaged. Errors of the storage are not changed."""
    try:
        return read(*args, **options)
    except (pa.ArrowInvalid, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        reason = str(error).splitlines()[0].rstrip(".")
        raise InputNotReady(
            "FS4003", f"{path} cannot be read because the file is damaged: {reason}.", hint="Write the partition again."
        ) from error


def _empty_batches(rows: int) -> Iterator[pa.RecordBatch]:
    """Yield batches without data columns, if only partition columns are read."""
    for start in range(0, rows, BATCH_ROWS):
        size = min(BATCH_ROWS, rows - start)
        yield pa.RecordBatch.from_arrays([pa.nulls(size)], names=["_"])


def _groups(metadata: Any, split: Split) -> list[int]:
    """Return the row groups whose middle lies in the split, so that each group belongs to one split."""
    groups = []
    for index in range(metadata.num_row_groups):
        group = metadata.row_group(index)
        offsets, size = [], 0
        for number in range(group.num_columns):
            column = group.column(number)
            dictionary = column.dictionary_page_offset
            offsets.append(min(dictionary, column.data_page_offset) if dictionary else column.data_page_offset)
            size += column.total_compressed_size
        middle = min(offsets, default=0) + size // 2
        if split.start <= middle < split.stop:
            groups.append(index)
    return groups


def _names(file: Any, spec: ScanSpec, path: str) -> dict[str, str]:
    """Return the file's column name of each declared column. The match ignores case, as in Spark."""
    metadata = file.metadata.metadata or {}
    spark = metadata.get(_SPARK_VERSION, b"3").partition(b".")[0]
    legacy = any(key in metadata for key in _LEGACY) or (spark.isdigit() and int(spark) < 3)
    if legacy and any(pa.types.is_temporal(field.type) for field in spec.schema):
        raise InputNotReady(
            "FS4003",
            f"{path} has dates in the calendar of Spark 2, which the direct operator does not support.",
            hint="Set `operator: arrow`. Spark reads such files correctly.",
        )
    lower: dict[str, list[str]] = {}
    for name in file.schema_arrow.names:
        lower.setdefault(name.lower(), []).append(name)
    names = {}
    for field in spec.schema:
        matches = lower.get(field.name.lower(), [])
        if len(matches) != 1:
            raise InputNotReady(
                "FS4003", f"{path} has {len(matches)} columns named `{field.name}` (case ignored), expected 1."
            )
        names[field.name] = matches[0]
    return names


def _complete(
    batch: pa.RecordBatch,
    spec: ScanSpec,
    names: dict[str, str],
    constants: dict[str, pa.Scalar],
    path: str,
) -> pa.Table:
    columns: list[Any] = [_typed(batch.column(names[field.name]), field, path) for field in spec.schema]
    fields = [*spec.schema.names, *constants]
    columns += [
        pa.repeat(value, batch.num_rows) if value.is_valid else pa.nulls(batch.num_rows, value.type)
        for value in constants.values()
    ]
    return pa.table(columns, names=fields)


def _typed(column: pa.Array, declared: pa.Field, path: str) -> pa.Array:
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if column.type in _UNSIGNED:
        column = column.cast(_UNSIGNED[column.type])
    if pa.types.is_duration(column.type):  # Parquet has no duration type, and Spark reads a number
        column = column.cast(pa.int64())
    if column.type == declared.type:
        return column
    if _fits(column.type, declared.type):
        return column.cast(declared.type)
    raise InputNotReady(
        "FS4003",
        f"{path}: column `{declared.name}` has type {column.type}, expected {declared.type}.",
        hint="Write the file again with the declared type, or correct the contract.",
    )


def _fits(actual: pa.DataType, declared: pa.DataType) -> bool:
    types = pa.types
    if types.is_timestamp(actual) and types.is_timestamp(declared):
        return actual.unit != "ns" and (bool(declared.tz) or not actual.tz)  # INT96 has no zone and stores UTC
    is_string = types.is_string(actual) or types.is_large_string(actual) or types.is_string_view(actual)
    is_binary = (
        types.is_binary(actual)
        or types.is_large_binary(actual)
        or types.is_binary_view(actual)
        or types.is_fixed_size_binary(actual)
    )
    return (
        (actual, declared) in _WIDER
        or (is_string and types.is_string(declared))
        or (is_binary and types.is_binary(declared))
        or (types.is_date(actual) and types.is_date(declared))
        or (types.is_decimal(actual) and types.is_decimal(declared) and _digits(actual) == _digits(declared))
    )


def _digits(kind: pa.DataType) -> tuple[int, int]:
    return kind.precision, kind.scale


def partition_values(path: str, spec: ScanSpec) -> dict[str, pa.Scalar]:
    """Return the partition values in a path by column."""
    values = {}
    for (name, kind), part in zip(spec.partitions, path.split("/"), strict=False):
        try:
            values[name] = pa.scalar(parse_directory(part, name, _SPARK_TYPES[kind]), kind)
        except ValueError as error:
            raise InputNotReady("FS4005", f"{path}: `{part}`: {error}.") from None
    return values
