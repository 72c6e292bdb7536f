"""Parquet files -> Arrow tables with the declared schema, as Spark's own reader would give them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import date
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq

from firesteel.conf.errors import InputNotReady

if TYPE_CHECKING:
    from firesteel.udfs.direct.files import Files
    from firesteel.udfs.direct.spec import ScanSpec, Split, TaskResult

BATCH_ROWS = 65_536
DEFAULT_PARTITION = "__HIVE_DEFAULT_PARTITION__"
_WIDER = {
    pa.int64(): {pa.int8(), pa.int16(), pa.int32()},
    pa.int32(): {pa.int8(), pa.int16()},
    pa.int16(): {pa.int8()},
    pa.float64(): {pa.float32()},
}
"""Declared type -> narrower types that files may have; Spark 4 widens them too."""
_LEGACY = (b"org.apache.spark.legacyDateTime", b"org.apache.spark.legacyINT96")


def scan(files: Files, spec: ScanSpec, splits: Iterable[Split], result: TaskResult) -> Iterator[pa.Table]:
    """The rows of the splits, in order. `result.rows_read` is filled from the footers.

    Raises
    ------
    InputNotReady
        FS4003 when a file has other types than declared.
    """
    for split in splits:
        with files.open(f"{spec.root}/{split.path}") as source:
            file = pq.ParquetFile(source, pre_buffer=True)
            groups = _groups(file.metadata, split)
            if not groups:
                continue
            result.rows_read += sum(file.metadata.row_group(group).num_rows for group in groups)
            constants = partition_values(split.path, spec)
            names, missing = _names(file, spec, split.path)
            if names:
                batches: Iterable[Any] = file.iter_batches(BATCH_ROWS, row_groups=groups, columns=list(names.values()))
            else:
                batches = _bare(sum(file.metadata.row_group(group).num_rows for group in groups))
            for batch in batches:
                yield _complete(batch, spec, names, missing, constants, split.path)


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


def _names(file: Any, spec: ScanSpec, path: str) -> tuple[dict[str, str], set[str]]:
    """Declared column -> the file's name of it, whatever its case, as in Spark; and those that the file has not."""
    metadata = file.metadata.metadata or {}
    if any(key in metadata for key in _LEGACY) and any(pa.types.is_temporal(each.type) for each in spec.schema):
        raise InputNotReady(
            "FS4003",
            f"{path} has dates of Spark 2's calendar.",
            hint="Set `operator: arrow`: Spark reads such files right.",
        )
    lower: dict[str, list[str]] = {}
    for name in file.schema_arrow.names:
        lower.setdefault(name.lower(), []).append(name)
    names, missing = {}, set()
    for each in spec.schema:
        found = lower.get(each.name.lower(), [])
        if len(found) > 1:
            raise InputNotReady("FS4003", f"{path} has {len(found)} columns named `{each.name}` but for their case.")
        if found:
            names[each.name] = found[0]
        else:
            missing.add(each.name)
    return names, missing


def _complete(
    batch: pa.RecordBatch,
    spec: ScanSpec,
    names: dict[str, str],
    missing: set[str],
    constants: dict[str, pa.Scalar],
    path: str,
) -> pa.Table:
    columns: list[Any] = []
    for each in spec.schema:
        if each.name in missing:
            columns.append(pa.nulls(batch.num_rows, each.type))
        else:
            columns.append(_typed(batch.column(names[each.name]), each, path))
    fields = [*spec.schema.names, *constants]
    columns += [
        pa.repeat(value, batch.num_rows) if value.is_valid else pa.nulls(batch.num_rows, value.type)
        for value in constants.values()
    ]
    return pa.table(columns, names=fields)


def _typed(column: pa.Array, wanted: pa.Field, path: str) -> pa.Array:
    found = column.type
    if pa.types.is_dictionary(found):
        column = column.dictionary_decode()
        found = column.type
    if found == wanted.type:
        return column
    instants = pa.types.is_timestamp(found) and pa.types.is_timestamp(wanted.type)
    if instants and bool(found.tz) == bool(wanted.type.tz) and found.unit != "ns":
        return column.cast(wanted.type)
    large = {pa.large_string(): pa.string(), pa.large_binary(): pa.binary()}
    if found in _WIDER.get(wanted.type, set()) or large.get(found) == wanted.type:
        return column.cast(wanted.type)
    raise InputNotReady(
        "FS4003",
        f"{path}: `{wanted.name}` is {found}, declared {wanted.type}.",
        hint="Mend the contract or the file; or set `operator: arrow`, if Spark reads it.",
    )


def partition_values(path: str, spec: ScanSpec) -> dict[str, pa.Scalar]:
    """The values in a path, by column."""
    values = {}
    parts = path.split("/")
    for (name, kind), part in zip(spec.partitions, parts, strict=False):
        key, sign, text = part.partition("=")
        if not sign or unquote(key).lower() != name.lower():
            raise InputNotReady("FS4003", f"{path}: the directory of `{name}` is `{part}`.")
        values[name] = pa.scalar(None if text == DEFAULT_PARTITION else _value(unquote(text), kind), kind)
    return values


def _value(text: str, kind: pa.DataType) -> Any:
    if pa.types.is_date(kind):
        return date.fromisoformat(text)
    return int(text) if pa.types.is_integer(kind) else text
