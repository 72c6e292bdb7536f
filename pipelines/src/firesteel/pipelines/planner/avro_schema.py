"""The schema of Avro files, from their headers and without a JVM. Column types are those of Spark's reader (spark-avro)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from firesteel.conf.types import VOID
from firesteel.pipelines.plan.model import Column
from firesteel.pipelines.planner.file_schema import MAX_PRECISION, FileSchema
from firesteel.pipelines.sql.select import UNKNOWN

if TYPE_CHECKING:
    from firesteel.pipelines.storage.ranges import RangeReader

_MAGIC = b"Obj\x01"
_FIRST, _MOST = 64 << 10, 64 << 20
"""Bytes of a file's start that are read first, and at most."""
_PRIMITIVE = {
    "null": VOID,
    "boolean": "boolean",
    "int": "int",
    "long": "bigint",
    "float": "float",
    "double": "double",
    "bytes": "binary",
    "string": "string",
    "fixed": "binary",
    "enum": "string",
}
_LOGICAL = {
    ("int", "date"): "date",
    ("long", "timestamp-millis"): "timestamp",
    ("long", "timestamp-micros"): "timestamp",
    ("long", "local-timestamp-millis"): "timestamp_ntz",
    ("long", "local-timestamp-micros"): "timestamp_ntz",
}
_UNREADABLE = {
    "timestamp-nanos": "a timestamp in nanoseconds",
    "local-timestamp-nanos": "a timestamp in nanoseconds",
    "time-millis": "a time of day",
    "time-micros": "a time of day",
}
_MERGED = {frozenset({"int", "bigint"}): "bigint", frozenset({"float", "double"}): "double"}
"""Unions that Spark reads as one type."""


def avro_header(file: RangeReader) -> tuple[str, str]:
    """Return the schema (JSON) and the codec in the header of an Avro file. Raise ValueError, with a phrase, for another file."""
    data, size = file.read(_FIRST), _FIRST
    while True:
        try:
            meta = _metadata(data)
        except IndexError:
            if len(data) < size or size >= _MOST:
                raise ValueError("the header is not complete") from None
            data, size = data + file.read(3 * size), 4 * size
        else:
            break
    if "avro.schema" not in meta:
        raise ValueError("the header has no schema")
    return meta["avro.schema"], meta.get("avro.codec", "null")


def avro_schema(text: str) -> FileSchema:
    """Return the schema of an Avro file. Raise ValueError, with a phrase, if its rows are no records."""
    record = json.loads(text)
    if not isinstance(record, dict) or record.get("type") != "record":
        raise ValueError("its rows are not records")
    types = _Types(record)
    columns = []
    for field in record["fields"]:
        reasons: list[str] = []
        columns.append((Column(field["name"], types.of(field["type"], types.space(record, ""), reasons)), reasons))
    return FileSchema.of(columns)


def _metadata(data: bytes) -> dict[str, str]:
    """Return the metadata of a file's header. Raise IndexError if the data ends within it."""
    if data[:4] != _MAGIC:
        raise ValueError("it does not start with Avro's magic bytes")
    meta: dict[str, str] = {}
    place = 4
    while True:
        count, place = _long(data, place)
        if count == 0:
            return meta
        if count < 0:
            _, place = _long(data, place)  # the size of the block in bytes
        for _ in range(abs(count)):
            key, place = _bytes(data, place)
            value, place = _bytes(data, place)
            meta[key.decode(errors="replace")] = value.decode(errors="replace")


def _bytes(data: bytes, place: int) -> tuple[bytes, int]:
    length, place = _long(data, place)
    if length < 0:
        raise ValueError("the header is damaged")
    if place + length > len(data):
        raise IndexError
    return data[place : place + length], place + length


def _long(data: bytes, place: int) -> tuple[int, int]:
    """Return the integer in variable-length zig-zag coding at a place, and the place after it."""
    value = shift = 0
    while True:
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return (value >> 1) ^ -(value & 1), place
        if shift > 63:
            raise ValueError("the header is damaged")


class _Types:
    """The types of one schema, with its named types. `record` is the type of the rows."""

    def __init__(self, record: Mapping[str, Any]) -> None:
        self._named: dict[str, Any] = {}
        self._inside = [self.name(record, "")]

    @staticmethod
    def space(node: Mapping[str, Any], space: str) -> str:
        """Return the namespace of the names within a named type."""
        name = str(node.get("name", ""))
        return name.rpartition(".")[0] if "." in name else str(node.get("namespace", space))

    def name(self, node: Mapping[str, Any], space: str) -> str:
        """Register a named type, and return its full name."""
        inner = self.space(node, space)
        full = f"{inner}.{str(node['name']).rpartition('.')[2]}".lstrip(".")
        self._named[full] = (node, space)
        return full

    def of(self, node: Any, space: str, reasons: list[str]) -> str:
        """Return Spark's name of a type."""
        if isinstance(node, list):
            return self._union(node, space, reasons)
        if isinstance(node, str):
            if node in _PRIMITIVE:
                return _PRIMITIVE[node]
            full = node if "." in node or f"{space}.{node}" not in self._named else f"{space}.{node}"
            if full not in self._named:
                raise ValueError(f"its schema names the unknown type {node}")
            if full in self._inside:
                reasons.append("a recursive record")
                return UNKNOWN
            named, outer = self._named[full]
            return self.of(named, outer, reasons)
        kind, logical = node["type"], node.get("logicalType", "")
        if not isinstance(kind, str) or kind not in {*_PRIMITIVE, "record", "array", "map"}:
            return self.of(kind, space, reasons)
        if kind in ("record", "enum", "fixed"):
            full = self.name(node, space)
            if kind == "record":
                return self._record(node, full, space, reasons)
        if kind == "array":
            return f"array<{self.of(node['items'], space, reasons)}>"
        if kind == "map":
            return f"map<string,{self.of(node['values'], space, reasons)}>"
        if logical == "decimal" and kind in ("bytes", "fixed"):
            return self._decimal(node, reasons)
        if logical in _UNREADABLE and kind in ("int", "long"):
            reasons.append(_UNREADABLE[logical])
            return UNKNOWN
        return _LOGICAL.get((kind, logical), _PRIMITIVE[kind])

    def _record(self, node: Mapping[str, Any], full: str, space: str, reasons: list[str]) -> str:
        self._inside.append(full)
        inner = self.space(node, space)
        fields = [f"{field['name']}:{self.of(field['type'], inner, reasons)}" for field in node["fields"]]
        self._inside.pop()
        return f"struct<{','.join(fields)}>"

    def _union(self, node: list[Any], space: str, reasons: list[str]) -> str:
        kinds = [self.of(branch, space, reasons) for branch in node if branch != "null"]
        if len(kinds) == 1:
            return kinds[0]
        if not kinds:
            return VOID
        merged = _MERGED.get(frozenset(kinds)) if len(kinds) == 2 else None
        return merged or f"struct<{','.join(f'member{number}:{kind}' for number, kind in enumerate(kinds))}>"

    @staticmethod
    def _decimal(node: Mapping[str, Any], reasons: list[str]) -> str:
        if node["precision"] > MAX_PRECISION:
            reasons.append(f"a decimal of {node['precision']} digits")
            return UNKNOWN
        return f"decimal({node['precision']},{node.get('scale', 0)})"
