"""Memory for fetched blocks: the application's slab, or a spool file if the slab is too small or full for too long."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import mmap
import os
from dataclasses import dataclass
from pathlib import Path

from firesteel.rdma_shuffle.memory.slab import Slab
from firesteel.rdma_shuffle.wire.blocks import Extent, FileExtent, SlabExtent
from firesteel.rdma_shuffle.wire.fault import Reason, ShuffleFault

_MODE = 0o600


@dataclass(slots=True)
class Allocation:
    """Allocated bytes. The owner calls either `free` or `fence`, once."""

    view: memoryview
    size: int
    slab: Slab | None
    offset: int
    path: Path | None
    _memory: ApplicationMemory
    _map: mmap.mmap | None = None

    def extent(self, skip: int, length: int) -> Extent:
        """Return the extent of a part, for the client."""
        if self.slab is None:
            return FileExtent(str(self.path), skip, length)
        return SlabExtent(self.slab.name.slab, self.offset + skip, length)

    def filled(self) -> None:
        """Release our own view: all bytes have arrived."""
        self.view.release()
        mapped, self._map = self._map, None
        if mapped is not None:
            # A cancelled read may still hold parts of the view. The mapping then ends with them.
            with contextlib.suppress(BufferError):
                mapped.close()

    def free(self) -> None:
        """Free the bytes. No reader and no writer may use them any more."""
        self._memory.free(self)

    def fence(self, writer: asyncio.Task[None]) -> None:
        """Free the bytes when `writer`, which was cancelled, has stopped. No reader may use them any more."""
        self._memory.fence(self, writer)


class ApplicationMemory:
    """The slab and the spool of one application.

    Parameters
    ----------
    slab
        The slab, or None to use spool files only.
    spool
        The folder for spool files.
    wait_s
        Seconds that an allocation waits for the slab before it uses a spool file.
    spool_limit
        Maximum bytes of spool files.
    """

    def __init__(self, slab: Slab | None, spool: Path, *, wait_s: float, spool_limit: int) -> None:
        self.slab, self._spool, self._wait_s, self._limit = slab, spool, wait_s, spool_limit
        self.spooled_bytes = 0
        self._names = itertools.count(1)

    @property
    def chunk_bytes(self) -> int:
        """The largest useful allocation: a quarter of the slab, so that others fit as well."""
        return self.slab.extents.size // 4 if self.slab else 0

    async def allocate(self, size: int) -> Allocation:
        """Allocate `size` bytes.

        Raises
        ------
        ShuffleFault
            NO_SPACE: neither the slab nor the spool folder has space.
        """
        if self.slab and size <= self.slab.extents.size:
            allocation = await self._allocate_in_slab(self.slab, size)
            if allocation:
                return allocation
        return self._allocate_in_spool(size)

    async def _allocate_in_slab(self, slab: Slab, size: int) -> Allocation | None:
        offset = await slab.extents.allocate(size, self._wait_s)
        if offset is None:
            return None
        return Allocation(slab.view(offset, size), size, slab, offset, None, self)

    def _allocate_in_spool(self, size: int) -> Allocation:
        if self.spooled_bytes + size > self._limit:
            raise ShuffleFault(
                Reason.NO_SPACE, f"{size} bytes fit neither the slab nor the spool limit of {self._limit} bytes"
            )
        path = self._spool / str(next(self._names))
        descriptor = -1
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE)
            os.posix_fallocate(descriptor, 0, size)
            mapped = mmap.mmap(descriptor, size)
        except OSError as error:
            path.unlink(missing_ok=True)
            raise ShuffleFault(
                Reason.NO_SPACE, f"{size} bytes cannot be reserved in the spool folder: {error.strerror}"
            ) from error
        finally:
            if descriptor >= 0:
                os.close(descriptor)
        self.spooled_bytes += size
        return Allocation(memoryview(mapped), size, None, 0, path, self, mapped)

    def free(self, allocation: Allocation) -> None:
        """Called by `Allocation.free`."""
        allocation.filled()
        if allocation.path is not None:
            allocation.path.unlink(missing_ok=True)
            self.spooled_bytes -= allocation.size
        elif allocation.slab is self.slab and self.slab:
            self.slab.extents.give(allocation.offset)

    def fence(self, allocation: Allocation, writer: asyncio.Task[None]) -> None:
        """Called by `Allocation.fence`."""
        slab = self.slab if allocation.slab is self.slab else None
        if slab:
            slab.extents.fence(allocation.offset)

        def stopped(_: object) -> None:
            if not slab:
                self.free(allocation)
                return
            allocation.filled()
            if slab is self.slab:
                slab.extents.lift(allocation.offset)

        writer.add_done_callback(stopped)

    def close(self) -> None:
        """Remove the slab. Allocations that are still held become invalid."""
        slab, self.slab = self.slab, None
        if slab:
            slab.close()
