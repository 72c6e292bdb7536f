"""Which parts of a slab are free: offsets only, no memory. First fit, neighbours joined at once.

An extent is FREE, LENT, or FENCED: given back while something may still write into it. What is fenced is not given out
until its fence is lifted.
"""

from __future__ import annotations

from bisect import bisect_left, insort

ALIGNMENT = 64
"""A cache line: no two extents share one."""


class Allocator:
    """The free list of `size` bytes."""

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

    @property
    def free_bytes(self) -> int:
        return sum(length for _, length in self._free)

    @property
    def largest(self) -> int:
        """Bytes of the largest extent that could be given out now."""
        return max((length for _, length in self._free), default=0)

    def take(self, length: int) -> int | None:
        """The offset of `length` bytes that nobody else has; None when no gap is large enough."""
        if length <= 0:
            raise ValueError(f"an extent of {length} bytes")
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
        """A lent extent is given back, but a late write may still land in it."""
        self._fenced[offset] = self._lent.pop(offset)

    def lift(self, offset: int) -> None:
        """No write can land any more: a fenced extent is free."""
        self._insert(offset, self._fenced.pop(offset))

    def _insert(self, offset: int, length: int) -> None:
        at = bisect_left(self._free, (offset, 0))
        if at < len(self._free) and self._free[at][0] == offset + length:
            length += self._free.pop(at)[1]
        if at and sum(self._free[at - 1]) == offset:
            before, gap = self._free.pop(at - 1)
            offset, length = before, gap + length
        insort(self._free, (offset, length))
