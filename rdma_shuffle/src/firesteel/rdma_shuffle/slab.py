"""Memory that an application's processes share with the service: one file below /dev/shm, reserved whole, never grown."""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import secrets
from pathlib import Path

from firesteel.rdma_shuffle.allocator import ALIGNMENT, Allocator
from firesteel.rdma_shuffle.fault import Reason, ShuffleFault
from firesteel.rdma_shuffle.messages import SlabName

_PREFIX = "firesteel-"
_MODE = 0o600


class Slab:
    """A shared mapping and its free list.

    The pages are reserved when the file is made: a tmpfs that is full would otherwise show as SIGBUS at the first write
    and not as an error. The name is random, so that a mapping of an earlier life is never taken for this one.

    Raises
    ------
    ShuffleFault
        NO_SPACE: the file system has no room for it.
    """

    def __init__(self, folder: Path, node: str, number: int, size: int) -> None:
        size -= size % mmap.PAGESIZE
        if size < ALIGNMENT:
            raise ShuffleFault(Reason.NO_SPACE, "slabs are switched off")
        path = folder / f"{_prefix(node)}{secrets.token_hex(8)}"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE)
        try:
            os.posix_fallocate(descriptor, 0, size)
            self._map = mmap.mmap(descriptor, size)
        except OSError as error:
            path.unlink(missing_ok=True)
            if error.errno not in {errno.ENOSPC, errno.ENOMEM, errno.EDQUOT}:
                raise
            raise ShuffleFault(Reason.NO_SPACE, f"a slab of {size} bytes in {folder}: {error.strerror}") from error
        finally:
            os.close(descriptor)
        self._view = memoryview(self._map)
        self.name = SlabName(number, str(path), size)
        self.extents = Allocator(size)

    def view(self, offset: int, length: int) -> memoryview:
        """The bytes themselves, writable."""
        return self._view[offset : offset + length]

    def whole(self) -> memoryview:
        """All of it, for whoever registers memory once."""
        return self._view

    def close(self) -> None:
        """Remove the name and our mapping. Mappings of others stay readable until they end."""
        Path(self.name.path).unlink(missing_ok=True)
        self._view.release()
        # A read that was cancelled this instant may still hold a view; the mapping then ends with it.
        with contextlib.suppress(BufferError):
            self._map.close()


def _prefix(node: str) -> str:
    safe = "".join(each if each.isalnum() else "-" for each in node)[:64]
    return f"{_PREFIX}{safe}-"


def sweep(folder: Path, node: str) -> int:
    """Remove the names of slabs that a killed service of this node left; returns how many."""
    left = [each for each in folder.glob(f"{_prefix(node)}*") if len(each.name) == len(_prefix(node)) + 16]
    for each in left:
        each.unlink(missing_ok=True)
    return len(left)
