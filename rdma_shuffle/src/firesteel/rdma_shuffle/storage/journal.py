"""An append-only file of records that survives a kill at any byte. A truncated or damaged end is ignored.

::

    record   u32 length of body | u32 CRC-32 of body | body
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

_HEAD = struct.Struct(">II")
_MODE = 0o600


class Journal:
    """Appends to one file. A failed append leaves the file as it was.

    A record survives a kill of the process, but not of the machine: unwritten pages of the map outputs would be lost as
    well. Recovery drops an output that does not match its record.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, _MODE)
        self.size = os.fstat(self._file).st_size

    def append(self, body: bytes) -> None:
        """Write one record.

        Raises
        ------
        OSError
            The record cannot be written, e.g. because the disk is full. No part of it stays.
        """
        record = _HEAD.pack(len(body), zlib.crc32(body)) + body
        written = 0
        try:
            while written < len(record):  # a full disk accepts a part first and fails at the next write
                written += os.write(self._file, record[written:])
        except OSError:
            os.ftruncate(self._file, self.size)
            raise
        self.size += len(record)

    def rewrite(self, bodies: Iterable[bytes]) -> None:
        """Replace all records atomically."""
        fresh = self.path.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        other = Journal(fresh)
        try:
            for body in bodies:
                other.append(body)
            fresh.rename(self.path)
        except OSError:
            other.close()
            fresh.unlink(missing_ok=True)
            raise
        os.close(self._file)
        self._file, self.size, other._file = other._file, other.size, -1

    def close(self) -> None:
        """Close the file. Idempotent."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def records(path: Path) -> Iterator[bytes]:
    """Yield the records of a file in order, up to the first truncated or damaged one."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return
    at = 0
    while at + _HEAD.size <= len(data):
        length, crc = _HEAD.unpack_from(data, at)
        body = data[at + _HEAD.size : at + _HEAD.size + length]
        if len(body) != length or zlib.crc32(body) != crc:
            return
        yield body
        at += _HEAD.size + length
