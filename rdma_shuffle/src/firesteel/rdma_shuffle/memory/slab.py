"""Shared memory of an application and the service: one file in /dev/shm that is reserved at once and never grows."""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import secrets
from pathlib import Path

from firesteel.rdma_shuffle.memory.allocator import ALIGNMENT
from firesteel.rdma_shuffle.memory.extent_pool import ExtentPool
from firesteel.rdma_shuffle.wire.fault import Reason, ShuffleFault
from firesteel.rdma_shuffle.wire.messages import SlabName

_PREFIX = "firesteel-"
_MODE = 0o600


class Slab:
    """A shared mapping and its free list.

    The pages are reserved when the file is created. Otherwise a full tmpfs would raise SIGBUS at the first write instead
    of an error. The name is random, so that clients never mistake an earlier slab for this one.

    Raises
    ------
    ShuffleFault
        NO_SPACE: the file system is full, or slabs are disabled.
    """

    def __init__(self, folder: Path, node: str, number: int, size: int) -> None:
        size -= size % mmap.PAGESIZE
        if size < ALIGNMENT:
            raise ShuffleFault(Reason.NO_SPACE, "slabs are disabled by --slab-bytes 0")
        path = folder / f"{_prefix(node)}{secrets.token_hex(8)}"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE)
        try:
            os.posix_fallocate(descriptor, 0, size)
            self._map = mmap.mmap(descriptor, size)
        except OSError as error:
            path.unlink(missing_ok=True)
            if error.errno not in {errno.ENOSPC, errno.ENOMEM, errno.EDQUOT}:
                raise
            raise ShuffleFault(
                Reason.NO_SPACE, f"a slab of {size} bytes cannot be created in {folder}: {error.strerror}"
            ) from error
        finally:
            os.close(descriptor)
        self._view = memoryview(self._map)
        self.name = SlabName(number, str(path), size)
        self.extents = ExtentPool(size)

    def view(self, offset: int, length: int) -> memoryview:
        """Return the bytes, writable."""
        return self._view[offset : offset + length]

    def whole(self) -> memoryview:
        """Return the whole slab, for its registration with a device."""
        return self._view

    def close(self) -> None:
        """Remove the file and our mapping. Mappings of clients stay readable."""
        Path(self.name.path).unlink(missing_ok=True)
        self._view.release()
        # A read that was just cancelled may still hold a view. The mapping then ends with it.
        with contextlib.suppress(BufferError):
            self._map.close()


def _prefix(node: str) -> str:
    safe = "".join(character if character.isalnum() else "-" for character in node)[:64]
    return f"{_PREFIX}{safe}-"


def sweep(folder: Path, node: str) -> int:
    """Remove the slabs that a killed service of this node left, and return their number."""
    left = [path for path in folder.glob(f"{_prefix(node)}*") if len(path.name) == len(_prefix(node)) + 16]
    for path in left:
        path.unlink(missing_ok=True)
    return len(left)
