"""The accepting side of a connection. It serves a bounded number of requests concurrently."""

from __future__ import annotations

import asyncio
import logging

from firesteel.rdma_shuffle.wire.codec import Frame
from firesteel.rdma_shuffle.wire.fault import Reason, ShuffleFault
from firesteel.rdma_shuffle.wire.frame_stream import FrameStream
from firesteel.rdma_shuffle.wire.message import Message
from firesteel.rdma_shuffle.wire.messages import Error

_LOG = logging.getLogger(__name__)
MAX_REQUESTS = 64
HANDSHAKE_S = 10.0


class ServerConnection:
    """A `Listener` that answers requests. Subclasses implement `answer` and set `authenticated`."""

    def __init__(self) -> None:
        self.authenticated = False
        self.stream: FrameStream
        self._tasks: set[asyncio.Task[None]] = set()
        self._last: asyncio.Task[None] | None = None

    # -- for subclasses ------------------------------------------------------------------------------------------

    def greeting(self) -> Message:
        """Return the first message to a new connection."""
        raise NotImplementedError

    async def answer(self, frame: Frame) -> Message | None:
        """Return the answer, or None if there is none or it was sent. Ordered work must come before the first await."""
        raise NotImplementedError

    def closed(self) -> None:
        """Clean up after the connection has ended."""

    # -- Listener ------------------------------------------------------------------------------------------------

    def connected(self, stream: FrameStream) -> None:
        self.stream = stream
        self.stream.post(self.greeting(), 0)
        asyncio.get_running_loop().call_later(HANDSHAKE_S, self._end_unauthenticated)

    def _end_unauthenticated(self) -> None:
        if not self.authenticated:
            self.stream.abort()

    def frame(self, frame: Frame) -> None:
        # Tasks start in the order in which they are created.
        task = asyncio.create_task(self._serve(frame))
        self._tasks.add(task)
        task.add_done_callback(self._served)
        if len(self._tasks) >= MAX_REQUESTS:
            self.stream.pause()

    def _served(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if len(self._tasks) < MAX_REQUESTS:
            self.stream.resume()
        if not task.cancelled() and (error := task.exception()):
            _LOG.error("a request failed because of a bug; its connection is closed", exc_info=error)
            self.stream.abort()

    async def _serve(self, frame: Frame) -> None:
        try:
            try:
                answer = await self.answer(frame)
            except ShuffleFault as fault:
                ends = fault.reason is Reason.MALFORMED or (fault.reason is Reason.REFUSED and not self.authenticated)
                await self.stream.send(Error(fault.reason, fault.detail), frame.request)
                if ends:
                    self.stream.close()
                return
            if answer is not None:
                await self.stream.send(answer, frame.request)
        except ConnectionError:
            return  # the client is gone

    def landed(self) -> None:
        """This side receives no data."""

    def broke(self, fault: ShuffleFault) -> None:
        self._last = asyncio.create_task(self._close_with(fault))

    async def _close_with(self, fault: ShuffleFault) -> None:
        try:
            await self.stream.send(Error(fault.reason, fault.detail), 0)
        except ConnectionError:
            return
        self.stream.close()

    def lost(self, error: Exception | None) -> None:
        if error:
            _LOG.debug("a connection was lost: %s", error)
        for task in list(self._tasks):
            task.cancel()
        self.closed()
