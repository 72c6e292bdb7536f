"""An opened device: its context, one completion queue, and the futures of what is posted.

Nothing polls. The queue's channel is a descriptor of the event loop: when it can be read, the queue is armed again and then
emptied, in this order, so that no completion falls between the two.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from firesteel.rdma_shuffle.flow import Credits
from firesteel.rdma_shuffle.transport.verbs.absent import VerbsAbsent, Why
from firesteel.rdma_shuffle.transport.verbs.library import Library, load
from firesteel.rdma_shuffle.transport.verbs.place import Place, choose

_LOG = logging.getLogger(__name__)
DEPTH = 1024
"""Completions that the queue can hold. No more work is posted at a time, so that it cannot run over."""
_BATCH = 16
_CHANNEL = "anon_inode:[infinibandevent]"
GONE = -1
"""Instead of a completion's status: the queue pair was destroyed first."""


class Device:
    """Opened by `open`; `close` is idempotent and comes after everything that was made on it is closed."""

    def __init__(self, library: Library, place: Place) -> None:
        self.library, self.place = library, place
        self.context: Any = library.device.Context(name=place.device)
        before = _channels()
        self._channel: Any = library.cq.CompChannel(self.context)
        self._descriptor = _descriptor(self._channel, before)
        os.set_blocking(self._descriptor, False)
        port, limits = self.context.query_port(place.port), self.context.query_device()
        self.mtu: int = int(port.active_mtu)
        self.lid: int = 0 if place.ethernet else int(port.lid)
        self.most_message: int = int(port.max_msg_sz)
        self.reads: int = max(1, min(16, int(limits.max_qp_rd_atom), int(limits.max_qp_init_rd_atom)))
        self.most_pairs: int = int(limits.max_qp)
        depth = min(DEPTH, int(limits.max_cqe))
        self.queue: Any = library.cq.CQ(self.context, depth, None, self._channel, 0)
        self.slots = Credits(depth, depth)
        self._numbers = itertools.count(1)
        self._posted: dict[int, asyncio.Future[int]] = {}
        self._closed = False
        self.queue.req_notify()
        asyncio.get_running_loop().add_reader(self._descriptor, self._ready)

    @classmethod
    def open(cls, name: str | None = None, gid_index: int | None = None) -> Device:
        """The device named, or the first that can be used.

        Raises
        ------
        VerbsAbsent
            With the reason.
        """
        place = choose(name, gid_index)
        library = load()
        try:
            return cls(library, place)
        except (library.error, OSError) as error:
            raise VerbsAbsent(
                Why.NOT_OPENED,
                f"{place.device} cannot be opened: {one_line(error)}",
                "the service's user must read and write /dev/infiniband/uverbs*",
            ) from error

    def post(self, post: Callable[[int], None]) -> asyncio.Future[int]:
        """Post one signalled work request, by `post(its number)`.

        Returns
        -------
        asyncio.Future[int]
            The status of its completion, or `GONE`. Until it is done, the device may write where the request says.
        """
        number = next(self._numbers)
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._posted[number] = done
        try:
            post(number)
        except BaseException:
            del self._posted[number]
            raise
        done.add_done_callback(lambda _: self._posted.pop(number, None))
        return done

    @property
    def posted(self) -> int:
        """Work requests that are not completed."""
        return len(self._posted)

    def _ready(self) -> None:
        try:
            while True:
                self._channel.get_cq_event(self.queue)
                self.queue.ack_events(1)
        except self.library.error:
            pass  # EAGAIN: no event is left
        self.queue.req_notify()
        while True:
            count, found = self.queue.poll(_BATCH)
            for each in found[:count]:
                done = self._posted.get(each.wr_id)
                if done and not done.done():
                    done.set_result(int(each.status))
            if count < _BATCH:
                return

    def status_name(self, status: int) -> str:
        """As the headers of verbs call it."""
        names = vars(self.library.enums).items()
        return next(
            (name for name, value in names if name.startswith("IBV_WC_") and value == status), f"status {status}"
        )

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        asyncio.get_running_loop().remove_reader(self._descriptor)
        for done in list(self._posted.values()):
            if not done.done():
                done.set_result(GONE)
        for each in (self.queue, self._channel, self.context):
            try:
                each.close()
            except self.library.error as error:
                _LOG.warning("%s was not closed cleanly: %s", self.place.device, one_line(error))


def _channels() -> set[int]:
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            if entry.readlink().as_posix() == _CHANNEL:
                found.add(int(entry.name))
        except OSError:  # the folder's own descriptor
            continue
    return found


def _descriptor(channel: Any, before: set[int]) -> int:
    """The channel's descriptor. Releases of pyverbs before `CompChannel.fd` do not tell it; the kernel does."""
    told = getattr(channel, "fd", None)
    if told is not None:
        return int(told)
    (found,) = _channels() - before
    return found


def one_line(error: Exception) -> str:
    """An error of pyverbs, whose texts have several lines."""
    return " ".join(str(error).split())
