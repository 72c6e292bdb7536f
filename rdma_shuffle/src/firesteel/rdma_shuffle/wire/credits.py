"""Flow control by credits: a bound on outstanding requests and bytes, first come, first served."""

from __future__ import annotations

import asyncio
from collections import deque


class Credits:
    """Limits of outstanding requests and bytes.

    A large request waits for its turn and later ones wait behind it. Otherwise many small requests could starve it.

    Parameters
    ----------
    reads
        Maximum number of outstanding requests.
    size
        Maximum number of outstanding bytes, also of one request.
    """

    def __init__(self, reads: int, size: int) -> None:
        if reads < 1 or size < 1:
            raise ValueError(f"credits must be at least 1, not {reads} reads and {size} bytes")
        self.reads, self.size = reads, size
        self.used_reads = self.used_bytes = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def take(self, size: int) -> None:
        """Wait for the credits of one request of `size` bytes. `give` returns them."""
        if size > self.size:
            raise ValueError(f"a request of {size} bytes is larger than all credits ({self.size} bytes)")
        if not self._waiting and self._fits(size):
            self._use(size)
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((size, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give(size)  # the credits were granted just before the cancellation
            else:
                self._waiting = deque(waiter for waiter in self._waiting if waiter[1] is not turn)
                self._wake()
            raise

    def _fits(self, size: int) -> bool:
        return self.used_reads < self.reads and self.used_bytes + size <= self.size

    def _use(self, size: int) -> None:
        self.used_reads += 1
        self.used_bytes += size

    def give(self, size: int) -> None:
        """Return the credits of a request that has ended on both sides."""
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
