"""An allocator whose requests wait for freed extents, first come, first served."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque

from firesteel.rdma_shuffle.memory.allocator import Allocator


class ExtentPool(Allocator):
    """An `Allocator` for tasks of one event loop."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def allocate(self, length: int, wait_s: float) -> int | None:
        """Return the offset of `length` bytes, or None if they are not free within `wait_s` seconds."""
        offset = None if self._waiting else self.take(length)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                while offset is None:
                    await self._turn()
                    offset = self.take(length)
        return offset

    async def _turn(self) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        finally:
            if turn in self._waiting:
                self._waiting.remove(turn)

    def _insert(self, offset: int, length: int) -> None:
        super()._insert(offset, length)
        # Wake all: the first in line may need more than was freed, and then times out.
        for turn in self._waiting:
            if not turn.done():
                turn.set_result(None)
        self._waiting.clear()
