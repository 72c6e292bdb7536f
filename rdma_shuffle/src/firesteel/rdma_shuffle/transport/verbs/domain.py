"""What one application has on the device: a protection domain, and the memory in it.

A peer's queue pair lies in the domain of the application whose secret the peer has proved, so that no key, guessed or kept,
reaches the memory of another. The slab is registered for our own READs to land in and cannot be reached from outside; the
staging area can be read from outside and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import logging
import mmap
from collections import deque
from typing import Any, Protocol

from firesteel.rdma_shuffle.allocator import Allocator
from firesteel.rdma_shuffle.fault import Reason, ShuffleFault
from firesteel.rdma_shuffle.transport.verbs.absent import FallDown, Why
from firesteel.rdma_shuffle.transport.verbs.device import Device, one_line

_LOG = logging.getLogger(__name__)


def address_of(view: memoryview) -> int:
    """Where a writable view begins in memory."""
    return ctypes.addressof(ctypes.c_char.from_buffer(view))


class Landing:
    """The application's slab, registered whole, once."""

    def __init__(self, device: Device, domain: Any, whole: memoryview) -> None:
        self.base, self.size = address_of(whole), len(whole)
        self.region = _registered(device, domain, self.base, self.size, device.library.enums.IBV_ACCESS_LOCAL_WRITE)
        self.lkey = int(self.region.lkey)

    def holds(self, address: int, length: int) -> bool:
        return self.base <= address and address + length <= self.base + self.size


class Staging:
    """Where map outputs stand for peers to read: anonymous shared memory, given out as extents, first come first served."""

    def __init__(self, device: Device, domain: Any, size: int) -> None:
        self._map = mmap.mmap(-1, size)  # shared: a private mapping's pages may be copied away from under the device
        self._view = memoryview(self._map)
        self.base = address_of(self._view)
        self.extents = Allocator(size)
        self._waiting: deque[asyncio.Future[None]] = deque()
        try:
            self.region = _registered(device, domain, self.base, size, device.library.enums.IBV_ACCESS_REMOTE_READ)
        except FallDown:
            self.release()
            raise
        self.rkey = int(self.region.rkey)

    async def take(self, size: int, wait_s: float) -> int:
        """The offset of `size` bytes.

        Raises
        ------
        ShuffleFault
            NO_SPACE: others hold too much of it for too long.
        """
        offset = None if self._waiting else self.extents.take(size)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                while offset is None:
                    await self._turn()
                    offset = self.extents.take(size)
        if offset is None:
            raise ShuffleFault(Reason.NO_SPACE, f"no {size} bytes of {self.extents.size} for staging are free")
        return offset

    async def _turn(self) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        finally:
            if turn in self._waiting:
                self._waiting.remove(turn)

    def give(self, offset: int) -> None:
        """No peer reads it any more."""
        self.extents.give(offset)
        for turn in self._waiting:
            if not turn.done():
                turn.set_result(None)
        self._waiting.clear()

    def view(self, offset: int, length: int) -> memoryview:
        return self._view[offset : offset + length]

    def release(self) -> None:
        """Our mapping ends. What is still being copied into it keeps it until then."""
        self._view.release()
        with contextlib.suppress(BufferError):
            self._map.close()


class Destroyed(Protocol):
    """A queue pair, as its domain sees it."""

    def destroy(self) -> None: ...


class Domain:
    """One application's. Both parts are made when first needed; `pairs` are the queue pairs that lie in it."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self.pd: Any = device.library.pd.PD(device.context)
        self._landing: Landing | None = None
        self.staging: Staging | None = None
        self.pairs: set[Destroyed] = set()

    def landing(self, whole: memoryview | None) -> Landing:
        """The slab `whole`, registered.

        Raises
        ------
        FallDown
            OUTSIDE_SLAB without a slab, NO_MEMORY when it cannot be pinned.
        """
        if whole is None or not len(whole):
            raise FallDown(Why.OUTSIDE_SLAB, "the application has no slab")
        if self._landing is None:
            self._landing = Landing(self._device, self.pd, whole)
        return self._landing

    def stage(self, size: int) -> Staging:
        """The staging area, of `size` bytes when it is made now."""
        if self.staging is None:
            self.staging = Staging(self._device, self.pd, size)
        return self.staging

    @property
    def registrations(self) -> int:
        return (self._landing is not None) + (self.staging is not None)

    def close(self) -> None:
        """Queue pairs first, then registrations, then memory. Idempotent."""
        for pair in list(self.pairs):
            pair.destroy()
        landing, self._landing = self._landing, None
        staging, self.staging = self.staging, None
        for part in (landing, staging):
            if part:
                _close(self._device, part.region)
        if staging:
            staging.release()
        _close(self._device, self.pd)


def _registered(device: Device, domain: Any, address: int, size: int, access: int) -> Any:
    library = device.library
    try:
        return library.mr.MR(domain, size, access, address=address)
    except (library.error, OSError) as error:
        number = getattr(error, "error_code", None)
        limit = "; raise the memlock limit (ulimit -l, LimitMEMLOCK=)" if number in {errno.ENOMEM, errno.EAGAIN} else ""
        raise FallDown(Why.NO_MEMORY, f"{size} bytes cannot be registered: {one_line(error)}{limit}") from error


def _close(device: Device, made: Any) -> None:
    try:
        made.close()
    except (device.library.error, OSError) as error:
        _LOG.warning("something on %s was not closed cleanly: %s", device.place.device, one_line(error))
