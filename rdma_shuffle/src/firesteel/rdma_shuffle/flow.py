"""Credits: how many requests and bytes may be on their way. First come, first served."""

from __future__ import annotations

import asyncio
from collections import deque


class Credits:
    """Bounds on what is outstanding.

    A large request waits until enough is free and no later one overtakes it: else many small ones could starve it.

    Parameters
    ----------
    reads
        Requests at once.
    size
        Bytes at once; no single request may be larger.
    """

    def __init__(self, reads: int, size: int) -> None:
        if reads < 1 or size < 1:
            raise ValueError(f"credits of {reads} reads and {size} bytes allow nothing")
        self.reads, self.size = reads, size
        self.used_reads = self.used_bytes = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def take(self, size: int) -> None:
        """Wait for credits for one request of `size` bytes; `give` returns them."""
        if size > self.size:
            raise ValueError(f"{size} bytes are more than all credits, {self.size}")
        if not self._waiting and self._fits(size):
            self._use(size)
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((size, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give(size)  # our turn came and the cancellation with it
            else:
                self._waiting = deque(each for each in self._waiting if each[1] is not turn)
                self._wake()
            raise

    def _fits(self, size: int) -> bool:
        return self.used_reads < self.reads and self.used_bytes + size <= self.size

    def _use(self, size: int) -> None:
        self.used_reads += 1
        self.used_bytes += size

    def give(self, size: int) -> None:
        """The request of `size` bytes is over on both sides."""
        self.used_reads -= 1
        self.used_bytes -= size
        self._wake()

    def _wake(self) -> None:
        while self._waiting:
            size, turn = self._waiting[0]
            if turn.done():
                self._waiting.popleft()
                continue
            if not self._fits(size):
                return
            self._waiting.popleft()
            self._use(size)
            turn.set_result(None)
