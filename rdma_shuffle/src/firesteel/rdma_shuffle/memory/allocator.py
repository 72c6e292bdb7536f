"""A first-fit allocator of offsets. It joins adjacent free extents at once and touches no memory.

An extent is FREE, LENT, or FENCED: released while a late write may still reach it. A fenced extent is not allocated until
its fence is lifted.
"""

from __future__ import annotations

from bisect import bisect_left, insort

ALIGNMENT = 64
"""The bytes of a cache line. Two extents never share one."""


class Allocator:
    """The free, lent and fenced extents of `size` bytes."""

    def __init__(self, size: int) -> None:
        self.size = size - size % ALIGNMENT
        self._free: list[tuple[int, int]] = [(0, self.size)] if self.size else []
        self._lent: dict[int, int] = {}
        self._fenced: dict[int, int] = {}

    @property
    def lent_bytes(self) -> int:
        return sum(self._lent.values())

    @property
    def fenced_bytes(self) -> int:
        return sum(self._fenced.values())

    def take(self, length: int) -> int | None:
        """Allocate `length` bytes and return their offset, or None if no free extent is large enough."""
        if length <= 0:
            raise ValueError(f"an extent must have at least 1 byte, not {length}")
        wanted = -(-length // ALIGNMENT) * ALIGNMENT
        for index, (offset, gap) in enumerate(self._free):
            if gap >= wanted:
                if gap == wanted:
                    del self._free[index]
                else:
                    self._free[index] = (offset + wanted, gap - wanted)
                self._lent[offset] = wanted
                return offset
        return None

    def give(self, offset: int) -> None:
        """Free a lent extent."""
        self._insert(offset, self._lent.pop(offset))

    def fence(self, offset: int) -> None:
        """Release a lent extent that a late write may still reach."""
        self._fenced[offset] = self._lent.pop(offset)

    def lift(self, offset: int) -> None:
        """Free a fenced extent: no write can reach it any more."""
        self._insert(offset, self._fenced.pop(offset))

    def _insert(self, offset: int, length: int) -> None:
        at = bisect_left(self._free, (offset, 0))
        if at < len(self._free) and self._free[at][0] == offset + length:
            length += self._free.pop(at)[1]
        if at and sum(self._free[at - 1]) == offset:
            before, gap = self._free.pop(at - 1)
            offset, length = before, gap + length
        insort(self._free, (offset, length))
