"""The contract against the data: the schema in one Parquet footer per source, read over the storage. No JVM."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from firesteel.conf.errors import FiresteelError, InputNotReady, StorageError
from firesteel.pipelines.plan.model import Column
from firesteel.pipelines.spec.values import parse_column_type
from firesteel.pipelines.storage.ranges import Ranges

if TYPE_CHECKING:
    from firesteel.pipelines.spec.model import Source
    from firesteel.pipelines.storage.base import Storage

_WIDER = {
    ("int", "bigint"),
    ("smallint", "int"),
    ("tinyint", "int"),
    ("smallint", "bigint"),
    ("float", "double"),
    ("int", "double"),
}
"""Types in files that Spark's Parquet reader widens by itself (SPARK-40876)."""


def check_footer(name: str, source: Source, storage: Storage, path: str, length: int) -> list[FiresteelError]:
    """FS4003 for each column of the contract that the file lacks or holds as another type."""
    place = f"{storage.base_uri}{path}"
    try:
        found = {column.name: column.type for column in read_columns(name, storage, path, length)}
    except InputNotReady as error:
        return [error]
    errors: list[FiresteelError] = []
    for column, text in source.contract.columns.items():
        wanted, _ = parse_column_type(text)
        if column not in found:
            errors.append(
                InputNotReady(
                    "FS4003", f"{name}: column `{column}` is not in {place}.", hint=f"The file has: {', '.join(found)}."
                )
            )
        elif found[column] != wanted and (found[column], wanted) not in _WIDER:
            errors.append(
                InputNotReady(
                    "FS4003",
                    f"{name}: column `{column}` is {found[column]} in {place}, the contract says {wanted}.",
                    hint="Mend the data, or the contract.",
                )
            )
    if source.contract.mode == "enforce":
        extra = [column for column in found if column not in source.contract.columns]
        if extra:
            errors.append(
                InputNotReady(
                    "FS4003",
                    f"{name}: {place} has columns the contract does not know: {', '.join(extra)}.",
                    hint="Add them, or set contract.mode: additive.",
                )
            )
    return errors


def read_columns(name: str, storage: Storage, path: str, length: int) -> tuple[Column, ...]:
    """The columns of one Parquet file, by its footer. FS4003 when it is not one."""
    import pyarrow.parquet as pq

    try:
        schema = pq.read_schema(Ranges(storage, path, length))
    except StorageError:
        raise
    except Exception as error:  # pyarrow raises many kinds for a damaged file; all mean the same here
        reason = str(error).splitlines()[0]
        raise InputNotReady("FS4003", f"{name}: {storage.base_uri}{path} is not a Parquet file: {reason}") from error
    return tuple(Column(field.name, spark_type(field.type)) for field in schema)


def spark_type(kind: Any) -> str:
    """The Spark SQL name of an Arrow type."""
    import pyarrow as pa

    simple = {
        pa.int8(): "tinyint",
        pa.int16(): "smallint",
        pa.int32(): "int",
        pa.int64(): "bigint",
        pa.float32(): "float",
        pa.float64(): "double",
        pa.bool_(): "boolean",
        pa.string(): "string",
        pa.large_string(): "string",
        pa.binary(): "binary",
        pa.large_binary(): "binary",
        pa.date32(): "date",
    }
    if kind in simple:
        return simple[kind]
    if pa.types.is_timestamp(kind):
        return "timestamp" if kind.tz else "timestamp_ntz"
    if pa.types.is_decimal(kind):
        return f"decimal({kind.precision},{kind.scale})"
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return f"array<{spark_type(kind.value_type)}>"
    if pa.types.is_map(kind):
        return f"map<{spark_type(kind.key_type)},{spark_type(kind.item_type)}>"
    if pa.types.is_struct(kind):
        return f"struct<{','.join(f'{field.name}:{spark_type(field.type)}' for field in kind)}>"
    if pa.types.is_dictionary(kind):
        return spark_type(kind.value_type)
    return str(kind)
