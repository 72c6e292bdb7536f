"""What is asked for and where it lies: ranges of map outputs, their lengths and checksums, extents."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

from firesteel.rdma_shuffle.fault import Reason, malformed

MAX_REDUCES = 1_000_000
ENTRY = struct.Struct(">QI")
"""One block of a map output: length and CRC32C."""


class Range(NamedTuple):
    """Consecutive reduces of one map output: `first` up to, and without, `end`."""

    shuffle: int
    map_id: int
    first: int
    end: int


class Piece(NamedTuple):
    """A part of a range's bytes."""

    range: Range
    skip: int
    length: int


class FileExtent(NamedTuple):
    """Bytes in a file of this node."""

    path: str
    offset: int
    length: int


class SlabExtent(NamedTuple):
    """Bytes in a slab of this node."""

    slab: int
    offset: int
    length: int


Extent = FileExtent | SlabExtent


@dataclass(frozen=True, slots=True)
class Table:
    """Length and CRC32C of consecutive blocks, kept as the wire has them: 12 bytes a block.

    A table of a thousand reduces is one object and not two thousand, and a slice of it goes into an answer as it is.
    """

    data: bytes

    def __len__(self) -> int:
        return len(self.data) // ENTRY.size

    def cut(self, first: int, end: int) -> Table:
        """The blocks from `first` up to, and without, `end`."""
        return Table(self.data[first * ENTRY.size : end * ENTRY.size])

    def lengths(self) -> list[int]:
        if len(self.data) == ENTRY.size:  # most are asked for one by one
            return [ENTRY.unpack(self.data)[0]]
        return [length for length, _ in ENTRY.iter_unpack(self.data)]

    def checksums(self) -> list[int]:
        return [crc for _, crc in ENTRY.iter_unpack(self.data)]

    def total(self) -> int:
        """Bytes of all blocks."""
        return sum(self.lengths())

    def offsets(self) -> list[int]:
        """Where each block begins, and, last, the end."""
        return list(accumulate(self.lengths(), initial=0))

    @classmethod
    def of(cls, blocks: list[tuple[int, int]]) -> Table:
        """From pairs of length and CRC32C."""
        return cls(b"".join(ENTRY.pack(*block) for block in blocks))


class Found(NamedTuple):
    """A range that is there."""

    table: Table
    extents: tuple[Extent, ...] = ()


@dataclass(frozen=True, slots=True)
class Missing:
    """A range that cannot be had, and why."""

    reason: Reason
    detail: str


def checked(asked: Range) -> Range:
    """The range, if it can be one of a map output at all."""
    if not 0 <= asked.first < asked.end <= MAX_REDUCES:
        raise malformed(f"reduces {asked.first} to {asked.end} are no range")
    return asked
