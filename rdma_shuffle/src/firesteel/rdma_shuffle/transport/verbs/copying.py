"""Copies extents of files into memory: from the page cache directly, from the disk in a thread."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from itertools import groupby

from firesteel.rdma_shuffle.transport.verbs.settled import settled
from firesteel.rdma_shuffle.wire.blocks import FileExtent
from firesteel.rdma_shuffle.wire.fault import Reason, ShuffleFault
from firesteel.rdma_shuffle.wire.frame_stream import joined, open_for_reading


async def copy(extents: Sequence[FileExtent], into: memoryview) -> None:
    """Copy the extents into `into`, one after the other. Nothing is written after this ends, also if it is cancelled.

    Raises
    ------
    ShuffleFault
        CORRUPT if a file is shorter than its record, NOT_HERE if it is gone.
    """
    at = 0
    loop = asyncio.get_running_loop()
    for path, parts in groupby(joined(extents), key=lambda extent: extent.path):
        try:
            file = open_for_reading(path)
            try:
                for part in parts:
                    view = into[at : at + part.length]
                    done = _cached(file, view, part.offset)
                    if done < part.length:
                        # The event loop must not wait for the disk.
                        work = loop.run_in_executor(None, _wait, file, view[done:], part.offset + done)
                        await settled(work)
                        work.result()
                    at += part.length
            finally:
                os.close(file)
        except OSError as error:
            raise ShuffleFault(Reason.NOT_HERE, f"a map output cannot be read: {error.strerror}") from error


def _cached(descriptor: int, view: memoryview, offset: int) -> int:
    """Copy the leading bytes that are in the page cache, and return their number."""
    try:
        return os.preadv(descriptor, [view], offset, os.RWF_NOWAIT)
    except OSError:  # EAGAIN: nothing is cached; EOPNOTSUPP: the file system cannot tell
        return 0


def _wait(descriptor: int, view: memoryview, offset: int) -> None:
    while view:
        count = os.preadv(descriptor, [view], offset)
        if not count:
            raise ShuffleFault(Reason.CORRUPT, "a map output's file is shorter than its record")
        view, offset = view[count:], offset + count
