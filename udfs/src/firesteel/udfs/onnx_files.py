"""Find the files that an ONNX model reads besides its own, without the package `onnx`.

ONNX Runtime opens the external data of a tensor before it can be asked for it, and older versions follow `../`.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_MAX_DEPTH = 100  # protobuf's own limit

_MESSAGES: dict[str, dict[int, str]] = {
    "Model": {7: "Graph", 20: "Training", 25: "Function"},
    "Training": {1: "Graph", 2: "Graph"},
    "Function": {7: "Node", 11: "Attribute"},
    "Graph": {1: "Node", 5: "Tensor", 15: "SparseTensor"},
    "Node": {5: "Attribute"},
    "Attribute": {5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 22: "SparseTensor", 23: "SparseTensor"},
    "SparseTensor": {1: "Tensor", 2: "Tensor"},
    "Tensor": {13: "Entry"},
}
"""Field numbers of onnx.proto that lead to a tensor's external data."""


def external_files(path: Path) -> frozenset[str]:
    """Return the locations of all external data in an ONNX file.

    Raises
    ------
    ValueError
        The file is not valid protobuf.
    """
    if path.stat().st_size == 0:
        raise ValueError("it is empty")
    with path.open("rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return frozenset(_locations(data, 0, len(data), "Model", 0))


def _locations(data: Any, start: int, stop: int, message: str, depth: int) -> Iterator[str]:
    if depth > _MAX_DEPTH:
        raise ValueError("its messages are nested too deeply")
    if message == "Entry":
        fields = {number: bytes(data[begin:end]) for number, begin, end in _fields(data, start, stop)}
        if fields.get(1) == b"location":
            yield fields.get(2, b"").decode()
        return
    for number, begin, end in _fields(data, start, stop):
        if inner := _MESSAGES[message].get(number):
            yield from _locations(data, begin, end, inner, depth + 1)


def _fields(data: Any, position: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """Yield number, start and end of each length-delimited field of a message."""
    while position < stop:
        tag, position = _varint(data, position, stop)
        kind = tag & 7
        if tag >> 32:  # parsers that cut it to 32 bits would see another field
            raise ValueError("it has an invalid tag")
        if kind == 0:
            _, position = _varint(data, position, stop)
        elif kind in (1, 5):
            position += 8 if kind == 1 else 4
        elif kind == 2:
            size, position = _varint(data, position, stop)
            if position + size > stop:
                raise ValueError("it is truncated")
            yield tag >> 3, position, position + size
            position += size
        else:
            raise ValueError(f"it has a field of type {kind}")
    if position != stop:
        raise ValueError("it is truncated")


def _varint(data: Any, position: int, stop: int) -> tuple[int, int]:
    value = shift = 0
    while position < stop and shift < 70:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    raise ValueError("it is truncated")
