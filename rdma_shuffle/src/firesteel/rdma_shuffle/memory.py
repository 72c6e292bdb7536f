"""Where fetched bytes go: into the application's slab, or, when it is full for too long or too small, into a spool file."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import mmap
import os
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from firesteel.rdma_shuffle.blocks import Extent, FileExtent, SlabExtent
from firesteel.rdma_shuffle.fault import Reason, ShuffleFault
from firesteel.rdma_shuffle.slab import Slab

_MODE = 0o600


@dataclass(slots=True)
class Room:
    """Bytes that are ours until `free` or `fence`; exactly one of the two is called, once."""

    view: memoryview
    size: int
    slab: Slab | None
    offset: int
    path: Path | None
    _memory: Memory
    _map: mmap.mmap | None = None

    def extent(self, skip: int, length: int) -> Extent:
        """A part of it, as a client is told."""
        if self.slab is None:
            return FileExtent(str(self.path), skip, length)
        return SlabExtent(self.slab.name.slab, self.offset + skip, length)

    def filled(self) -> None:
        """All bytes are there: our own view of them is needed no more."""
        self.view.release()
        mapped, self._map = self._map, None
        if mapped is not None:
            # A read that was cancelled has parts of the view in its frames; the mapping then ends with them.
            with contextlib.suppress(BufferError):
                mapped.close()

    def free(self) -> None:
        """Nobody reads it and nobody can write into it any more."""
        self._memory.free(self)

    def fence(self, writer: asyncio.Task[None]) -> None:
        """Nobody reads it, but `writer` was only told to stop: free it when it has."""
        self._memory.fence(self, writer)


class Memory:
    """The slab and the spool of one application.

    Parameters
    ----------
    slab
        None: everything is spooled.
    spool
        The folder for files.
    wait_s
        How long a request waits for others to release before it is spooled.
    spool_limit
        Bytes of files at once.
    """

    def __init__(self, slab: Slab | None, spool: Path, *, wait_s: float, spool_limit: int) -> None:
        self.slab, self._spool, self._wait_s, self._limit = slab, spool, wait_s, spool_limit
        self.spooled_bytes = self.spooled_ever = 0
        self._names = itertools.count(1)
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def chunk_bytes(self) -> int:
        """The most that is worth asking of the slab at once: a quarter leaves room for others."""
        return self.slab.extents.size // 4 if self.slab else 0

    async def room(self, size: int) -> Room:
        """Find a place for `size` bytes.

        Raises
        ------
        ShuffleFault
            NO_SPACE: neither the slab nor the disk has room.
        """
        if self.slab and size <= self.slab.extents.size:
            room = await self._slab_room(self.slab, size)
            if room:
                return room
        return self._spool_room(size)

    async def _slab_room(self, slab: Slab, size: int) -> Room | None:
        offset = None if self._waiting else slab.extents.take(size)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._wait_s):
                while offset is None:
                    await self._turn()
                    offset = slab.extents.take(size)
        if offset is None:
            return None
        return Room(slab.view(offset, size), size, slab, offset, None, self)

    async def _turn(self) -> None:
        """Wait until something was freed, first come first served."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        finally:
            if turn in self._waiting:
                self._waiting.remove(turn)

    def _wake(self) -> None:
        # All look again: the one that is first in line may need more than was freed, and then gives up by its time.
        for turn in self._waiting:
            if not turn.done():
                turn.set_result(None)
        self._waiting.clear()

    def _spool_room(self, size: int) -> Room:
        if self.spooled_bytes + size > self._limit:
            raise ShuffleFault(Reason.NO_SPACE, f"{size} bytes fit neither the slab nor the spool limit {self._limit}")
        path = self._spool / str(next(self._names))
        descriptor = -1
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE)
            os.posix_fallocate(descriptor, 0, size)
            mapped = mmap.mmap(descriptor, size)
        except OSError as error:
            path.unlink(missing_ok=True)
            raise ShuffleFault(Reason.NO_SPACE, f"{size} bytes in the spool folder: {error.strerror}") from error
        finally:
            if descriptor >= 0:
                os.close(descriptor)
        self.spooled_bytes += size
        self.spooled_ever += size
        return Room(memoryview(mapped), size, None, 0, path, self, mapped)

    def free(self, room: Room) -> None:
        """Called by `Room.free`."""
        room.filled()
        if room.path is not None:
            room.path.unlink(missing_ok=True)
            self.spooled_bytes -= room.size
        elif room.slab is self.slab and self.slab:
            self.slab.extents.give(room.offset)
            self._wake()

    def fence(self, room: Room, writer: asyncio.Task[None]) -> None:
        """Called by `Room.fence`."""
        slab = self.slab if room.slab is self.slab else None
        if slab:
            slab.extents.fence(room.offset)

        def stopped(_: object) -> None:
            if not slab:
                self.free(room)
                return
            room.filled()
            if slab is self.slab:
                slab.extents.lift(room.offset)
                self._wake()

        writer.add_done_callback(stopped)

    def close(self) -> None:
        """The slab's name goes; rooms that are still held are void."""
        slab, self.slab = self.slab, None
        if slab:
            slab.close()
        self._wake()
