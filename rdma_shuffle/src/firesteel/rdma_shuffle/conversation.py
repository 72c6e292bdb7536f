"""The accepting side of a connection: a bounded number of requests at a time, each answered by its number."""

from __future__ import annotations

import asyncio
import logging

from firesteel.rdma_shuffle.codec import Frame
from firesteel.rdma_shuffle.fault import Reason, ShuffleFault
from firesteel.rdma_shuffle.messages import Error, Message
from firesteel.rdma_shuffle.stream import FrameStream

_LOG = logging.getLogger(__name__)
MOST_REQUESTS = 64
HANDSHAKE_S = 10.0


class Conversation:
    """A `Listener` that answers. Subclasses say how, by `answer`, and set `proved` when the other side is known."""

    def __init__(self) -> None:
        self.proved = False
        self.stream: FrameStream
        self._tasks: set[asyncio.Task[None]] = set()
        self._last: asyncio.Task[None] | None = None

    # -- for subclasses ------------------------------------------------------------------------------------------

    def greeting(self) -> Message:
        """What is said on accept."""
        raise NotImplementedError

    async def answer(self, frame: Frame) -> Message | None:
        """The answer to a request; None if it has none, or has been sent. What must keep its order comes before any await."""
        raise NotImplementedError

    def over(self) -> None:
        """The connection has ended."""

    # -- Listener ------------------------------------------------------------------------------------------------

    def connected(self, stream: FrameStream) -> None:
        self.stream = stream
        self.stream.post(self.greeting(), 0)
        asyncio.get_running_loop().call_later(HANDSHAKE_S, self._must_be_proved)

    def _must_be_proved(self) -> None:
        if not self.proved:
            self.stream.abort()

    def frame(self, frame: Frame) -> None:
        # Tasks start in the order in which they are made.
        task = asyncio.create_task(self._serve(frame))
        self._tasks.add(task)
        task.add_done_callback(self._served)
        if len(self._tasks) >= MOST_REQUESTS:
            self.stream.pause()

    def _served(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if len(self._tasks) < MOST_REQUESTS:
            self.stream.resume()
        if not task.cancelled() and (error := task.exception()):
            _LOG.error("a request failed by a fault of ours; its connection ends", exc_info=error)
            self.stream.abort()

    async def _serve(self, frame: Frame) -> None:
        try:
            try:
                answer = await self.answer(frame)
            except ShuffleFault as fault:
                ends = fault.reason is Reason.MALFORMED or (fault.reason is Reason.REFUSED and not self.proved)
                await self.stream.send(Error(fault.reason, fault.detail), frame.request)
                if ends:
                    self.stream.close()
                return
            if answer is not None:
                await self.stream.send(answer, frame.request)
        except ConnectionError:
            return  # nobody listens any more

    def landed(self) -> None:
        """Nothing lands on this side."""

    def broke(self, fault: ShuffleFault) -> None:
        self._last = asyncio.create_task(self._part(fault))

    async def _part(self, fault: ShuffleFault) -> None:
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
        self.over()
