"""The protection domain of one application on a device, and the memory that is registered in it.

The queue pair of a peer is in the domain of the application for which the peer has authenticated. So no key, guessed or
kept, reaches the memory of another application. The slab is registered for local writes by our own READs, without remote
access. The staging area is registered for remote reads only.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import logging
import mmap
from typing import Any, Protocol

from firesteel.rdma_shuffle.memory.extent_pool import ExtentPool
from firesteel.rdma_shuffle.transport.verbs.device import Device, one_line
from firesteel.rdma_shuffle.transport.verbs.unavailable import FallbackReason, TcpFallback
from firesteel.rdma_shuffle.wire.fault import Reason, ShuffleFault

_LOG = logging.getLogger(__name__)


def address_of(view: memoryview) -> int:
    """Return the address of a writable view."""
    return ctypes.addressof(ctypes.c_char.from_buffer(view))


class RegisteredSlab:
    """The registered slab of an application."""

    def __init__(self, device: Device, domain: Any, whole: memoryview) -> None:
        self.base, self.size = address_of(whole), len(whole)
        self.region = _registered(device, domain, self.base, self.size, device.library.enums.IBV_ACCESS_LOCAL_WRITE)
        self.lkey = int(self.region.lkey)

    def holds(self, address: int, length: int) -> bool:
        return self.base <= address and address + length <= self.base + self.size


class Staging:
    """Anonymous shared memory into which map outputs are copied for peers. Extents are allocated first come, first served."""

    def __init__(self, device: Device, domain: Any, size: int) -> None:
        self._map = mmap.mmap(
            -1, size
        )  # shared: the kernel may replace the pages of a private mapping while the device uses them
        self._view = memoryview(self._map)
        self.base = address_of(self._view)
        self.extents = ExtentPool(size)
        try:
            self.region = _registered(device, domain, self.base, size, device.library.enums.IBV_ACCESS_REMOTE_READ)
        except TcpFallback:
            self.release()
            raise
        self.rkey = int(self.region.rkey)

    async def take(self, size: int, wait_s: float) -> int:
        """Allocate `size` bytes and return their offset.

        Raises
        ------
        ShuffleFault
            NO_SPACE: other readers held too much of it for `wait_s`.
        """
        offset = await self.extents.allocate(size, wait_s)
        if offset is None:
            raise ShuffleFault(
                Reason.NO_SPACE, f"{size} of {self.extents.size} bytes for staging were not free within {wait_s:g} s"
            )
        return offset

    def view(self, offset: int, length: int) -> memoryview:
        return self._view[offset : offset + length]

    def release(self) -> None:
        """Close our mapping. A copy that is still running keeps the memory until its end."""
        self._view.release()
        with contextlib.suppress(BufferError):
            self._map.close()


class Destroyable(Protocol):
    """A queue pair, as its domain sees it."""

    def destroy(self) -> None: ...


class Domain:
    """The protection domain of one application. Memory is registered on demand. `pairs` are the queue pairs in it."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self.pd: Any = device.library.pd.PD(device.context)
        self._slab: RegisteredSlab | None = None
        self.staging: Staging | None = None
        self.pairs: set[Destroyable] = set()

    def registered_slab(self, whole: memoryview | None) -> RegisteredSlab:
        """Return the slab `whole`, registered.

        Raises
        ------
        TcpFallback
            OUTSIDE_SLAB without a slab, NO_MEMORY if it cannot be pinned.
        """
        if whole is None or not len(whole):
            raise TcpFallback(FallbackReason.OUTSIDE_SLAB, "the application has no slab")
        if self._slab is None:
            self._slab = RegisteredSlab(self._device, self.pd, whole)
        return self._slab

    def stage(self, size: int) -> Staging:
        """Return the staging area, which the first call creates with `size` bytes."""
        if self.staging is None:
            self.staging = Staging(self._device, self.pd, size)
        return self.staging

    @property
    def registrations(self) -> int:
        return (self._slab is not None) + (self.staging is not None)

    def close(self) -> None:
        """Close queue pairs first, then registrations, then memory. Idempotent."""
        for pair in list(self.pairs):
            pair.destroy()
        slab, self._slab = self._slab, None
        staging, self.staging = self.staging, None
        for part in (slab, staging):
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
        code = getattr(error, "error_code", None)
        hint = "; raise the memlock limit (ulimit -l, LimitMEMLOCK=)" if code in {errno.ENOMEM, errno.EAGAIN} else ""
        raise TcpFallback(
            FallbackReason.NO_MEMORY, f"{size} bytes cannot be registered: {one_line(error)}{hint}"
        ) from error


def _close(device: Device, resource: Any) -> None:
    try:
        resource.close()
    except (device.library.error, OSError) as error:
        _LOG.warning("a resource of %s was not closed cleanly: %s", device.device_port.device, one_line(error))
