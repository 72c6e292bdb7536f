"""Ranges of map outputs, the lengths and checksums of their blocks, and the extents that hold the bytes."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

from firesteel.rdma_shuffle.wire.fault import Reason, malformed

MAX_REDUCES = 1_000_000
ENTRY = struct.Struct(">QI")
"""One block of a map output: length and CRC32C."""


class Range(NamedTuple):
    """Consecutive reduces of one map output, from `first` to `end` (exclusive)."""

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
    """Length and CRC32C of consecutive blocks in their wire format, 12 bytes per block.

    The table of a thousand reduces is one object instead of two thousand, and a slice of it is part of an answer.
    """

    data: bytes

    def __len__(self) -> int:
        return len(self.data) // ENTRY.size

    def cut(self, first: int, end: int) -> Table:
        """Return the blocks from `first` to `end` (exclusive)."""
        return Table(self.data[first * ENTRY.size : end * ENTRY.size])

    def lengths(self) -> list[int]:
        if len(self.data) == ENTRY.size:  # most requests are for one block
            return [ENTRY.unpack(self.data)[0]]
        if not self.data.lstrip(b"\0"):
            return [0] * len(self)
        return [length for length, _ in ENTRY.iter_unpack(self.data)]

    def checksums(self) -> list[int]:
        return [crc for _, crc in ENTRY.iter_unpack(self.data)]

    def total(self) -> int:
        """Return the bytes of all blocks."""
        return sum(self.lengths())

    def offsets(self) -> list[int]:
        """Return the offset of each block, and the end of the last one."""
        return list(accumulate(self.lengths(), initial=0))

    @classmethod
    def of(cls, blocks: list[tuple[int, int]]) -> Table:
        """Build a table from pairs of length and CRC32C."""
        return cls(b"".join(ENTRY.pack(*block) for block in blocks))


class Found(NamedTuple):
    """A range that is available."""

    table: Table
    extents: tuple[Extent, ...] = ()


@dataclass(frozen=True, slots=True)
class Missing:
    """A range that is not available, and the reason."""

    reason: Reason
    detail: str


def checked(block_range: Range) -> Range:
    """Return the range. Raises MALFORMED if no map output can have it."""
    if not 0 <= block_range.first < block_range.end <= MAX_REDUCES:
        raise malformed(
            f"reduces {block_range.first} to {block_range.end} are not a range of at most {MAX_REDUCES} reduces"
        )
    return block_range
