"""Parts of files into memory: from the page cache at once, from the disk in a thread."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from itertools import groupby

from firesteel.rdma_shuffle.blocks import FileExtent
from firesteel.rdma_shuffle.fault import Reason, ShuffleFault
from firesteel.rdma_shuffle.settled import settled
from firesteel.rdma_shuffle.stream import joined, opened


async def copy(extents: Sequence[FileExtent], into: memoryview) -> None:
    """Put the extents one behind the other. When it has ended, also by cancellation, nothing more is written into `into`.

    Raises
    ------
    ShuffleFault
        CORRUPT: a file is shorter than its record; NOT_HERE: it is gone.
    """
    at = 0
    loop = asyncio.get_running_loop()
    for path, parts in groupby(joined(extents), key=lambda each: each.path):
        try:
            file = opened(path)
            try:
                for part in parts:
                    view = into[at : at + part.length]
                    done = _cached(file, view, part.offset)
                    if done < part.length:
                        # The event loop must not wait for a disk.
                        work = loop.run_in_executor(None, _wait, file, view[done:], part.offset + done)
                        await settled(work)
                        work.result()
                    at += part.length
            finally:
                os.close(file)
        except OSError as error:
            raise ShuffleFault(Reason.NOT_HERE, f"a map output cannot be read: {error.strerror}") from error


def _cached(descriptor: int, view: memoryview, offset: int) -> int:
    """Bytes that were in the page cache, from the first."""
    try:
        return os.preadv(descriptor, [view], offset, os.RWF_NOWAIT)
    except OSError:  # EAGAIN: nothing is; EOPNOTSUPP: this file system does not tell
        return 0


def _wait(descriptor: int, view: memoryview, offset: int) -> None:
    while view:
        count = os.preadv(descriptor, [view], offset)
        if not count:
            raise ShuffleFault(Reason.CORRUPT, "a map output's file is shorter than its record")
        view, offset = view[count:], offset + count
