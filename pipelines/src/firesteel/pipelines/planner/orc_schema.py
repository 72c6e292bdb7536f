"""The schema of ORC files, without a JVM. Column types are those of Spark's reader."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from firesteel.conf.types import ARROW
from firesteel.pipelines.plan.model import Column
from firesteel.pipelines.planner.file_schema import FileSchema
from firesteel.pipelines.sql.select import UNKNOWN

_CATALYST = b"spark.sql.catalyst.type"
"""Attribute of an ORC column in which Spark writes its own type."""
_FROM_ARROW = {arrow: name for name, arrow in ARROW.items() if name not in {"timestamp", "timestamp_ntz"}}
_NAMELESS = "without a name (an old version of Hive wrote the file), so that its place would decide its values"
"""Spark reads the columns of a file by their places if all their names start with `_col`."""


def orc_schema(schema: Any) -> FileSchema:
    """Return the schema of an ORC file from its Arrow schema."""
    columns = []
    nameless = all(name.startswith("_col") for name in schema.names)
    for field in schema:
        reasons = [_NAMELESS] if nameless else []
        columns.append((Column(field.name, _type_of(field, reasons)), reasons))
    return FileSchema.of(columns)


def _type_of(field: Any, reasons: list[str]) -> str:
    """Return Spark's name of a column's type. Spark reads a timestamp as an instant, and writes a timestamp_ntz as an integer."""
    import pyarrow as pa

    kind = field.type
    attributes: Mapping[bytes, bytes] = field.metadata or {}
    if pa.types.is_int64(kind) and attributes.get(_CATALYST) == b"timestamp_ntz":
        return "timestamp_ntz"
    if pa.types.is_timestamp(kind):
        return "timestamp"
    if pa.types.is_decimal(kind):
        return f"decimal({kind.precision},{kind.scale})"
    if pa.types.is_map(kind):
        return f"map<{_type_of(kind.key_field, reasons)},{_type_of(kind.item_field, reasons)}>"
    if pa.types.is_list(kind):
        return f"array<{_type_of(kind.value_field, reasons)}>"
    if pa.types.is_struct(kind):
        return f"struct<{','.join(f'{part.name}:{_type_of(part, reasons)}' for part in kind)}>"
    name = _FROM_ARROW.get(str(kind).partition("[")[0] if pa.types.is_date(kind) else _alias(kind))
    if name is None:
        reasons.append("a union" if pa.types.is_union(kind) else f"of the ORC type {kind}")
    return name or UNKNOWN


def _alias(kind: Any) -> str:
    """Return the name of an Arrow type as `pyarrow.type_for_alias` takes it."""
    return {"float": "float32", "double": "float64"}.get(str(kind), str(kind))
