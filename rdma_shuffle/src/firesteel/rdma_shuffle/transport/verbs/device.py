"""An open device: its context, one completion queue, and the futures of posted work requests.

Nothing polls. The queue's channel is a descriptor of the event loop: when it can be read, the queue is armed again and then
emptied, in this order, so that no completion fallbacks between the two.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from firesteel.rdma_shuffle.transport.verbs.device_port import DevicePort, choose_port
from firesteel.rdma_shuffle.transport.verbs.library import Library, load
from firesteel.rdma_shuffle.transport.verbs.unavailable import FallbackReason, VerbsUnavailable
from firesteel.rdma_shuffle.wire.credits import Credits

_LOG = logging.getLogger(__name__)
DEPTH = 1024
"""Capacity of the completion queue. No more work requests are outstanding, so that it cannot overflow."""
_BATCH = 16
_EVENT_CHANNEL = "anon_inode:[infinibandevent]"
GONE = -1
"""Status of a work request whose queue pair was destroyed before its completion."""


class Device:
    """`open` opens it. Close everything that was created on it before `close`, which is idempotent."""

    def __init__(self, library: Library, device_port: DevicePort) -> None:
        self.library, self.device_port = library, device_port
        self.context: Any = library.device.Context(name=device_port.device)
        before = _event_channels()
        self._event_channel: Any = library.cq.CompChannel(self.context)
        self._descriptor = _descriptor(self._event_channel, before)
        os.set_blocking(self._descriptor, False)
        port, limits = self.context.query_port(device_port.port), self.context.query_device()
        self.mtu: int = int(port.active_mtu)
        self.lid: int = 0 if device_port.ethernet else int(port.lid)
        self.max_message_bytes: int = int(port.max_msg_sz)
        self.reads: int = max(1, min(16, int(limits.max_qp_rd_atom), int(limits.max_qp_init_rd_atom)))
        self.max_queue_pairs: int = int(limits.max_qp)
        depth = min(DEPTH, int(limits.max_cqe))
        self.queue: Any = library.cq.CQ(self.context, depth, None, self._event_channel, 0)
        self.slots = Credits(depth, depth)
        self._numbers = itertools.count(1)
        self._posted: dict[int, asyncio.Future[int]] = {}
        self._closed = False
        self.queue.req_notify()
        asyncio.get_running_loop().add_reader(self._descriptor, self._ready)

    @classmethod
    def open(cls, name: str | None = None, gid_index: int | None = None) -> Device:
        """Open the named device, or the first usable one.

        Raises
        ------
        VerbsUnavailable
            No device can be used. The error has the reason.
        """
        device_port = choose_port(name, gid_index)
        library = load()
        try:
            return cls(library, device_port)
        except (library.error, OSError) as error:
            raise VerbsUnavailable(
                FallbackReason.NOT_OPENED,
                f"{device_port.device} cannot be opened: {one_line(error)}.",
                "Give the service's user read and write access to /dev/infiniband/uverbs*.",
            ) from error

    def post(self, post: Callable[[int], None]) -> asyncio.Future[int]:
        """Post one signalled work request by calling `post` with its number.

        Returns
        -------
        asyncio.Future[int]
            The status of its completion, or `GONE`. Until it is done, the device may write into the target.
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
        """Number of outstanding work requests."""
        return len(self._posted)

    def _ready(self) -> None:
        try:
            while True:
                self._event_channel.get_cq_event(self.queue)
                self.queue.ack_events(1)
        except self.library.error:
            pass  # EAGAIN: there are no more events
        self.queue.req_notify()
        while True:
            count, completions = self.queue.poll(_BATCH)
            for completion in completions[:count]:
                done = self._posted.get(completion.wr_id)
                if done and not done.done():
                    done.set_result(int(completion.status))
            if count < _BATCH:
                return

    def status_name(self, status: int) -> str:
        """Return the name of a completion status in the verbs headers."""
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
        for resource in (self.queue, self._event_channel, self.context):
            try:
                resource.close()
            except self.library.error as error:
                _LOG.warning("%s was not closed cleanly: %s", self.device_port.device, one_line(error))


def _event_channels() -> set[int]:
    descriptors = set()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            if entry.readlink().as_posix() == _EVENT_CHANNEL:
                descriptors.add(int(entry.name))
        except OSError:  # the descriptor of the folder itself
            continue
    return descriptors


def _descriptor(channel: Any, before: set[int]) -> int:
    """Return the descriptor of a completion channel. Older pyverbs have no `CompChannel.fd`: look into /proc."""
    descriptor = getattr(channel, "fd", None)
    if descriptor is not None:
        return int(descriptor)
    (descriptor,) = _event_channels() - before
    return descriptor


def one_line(error: Exception) -> str:
    """Return the message of a pyverbs error, which has several lines, in one line."""
    return " ".join(str(error).split())
