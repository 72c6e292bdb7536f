"""The owner's side of channels: it connects peers and stages pieces for them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from firesteel.rdma_shuffle.transport.base import Store
from firesteel.rdma_shuffle.transport.verbs.copying import copy
from firesteel.rdma_shuffle.transport.verbs.device import Device, one_line
from firesteel.rdma_shuffle.transport.verbs.domain import Domain, Staging
from firesteel.rdma_shuffle.transport.verbs.queue_pair import QueuePair
from firesteel.rdma_shuffle.transport.verbs.unavailable import TcpFallback
from firesteel.rdma_shuffle.wire.blocks import Piece
from firesteel.rdma_shuffle.wire.fault import Reason, ShuffleFault, malformed
from firesteel.rdma_shuffle.wire.peer_messages import Connect, Connected, Staged


@dataclass(eq=False, slots=True)
class ServedChannel:
    """One accepted channel. `leases` are the offset and length of staged extents by number."""

    number: int
    application: str
    owner: object
    pair: QueuePair
    staging: Staging
    leases: dict[int, tuple[int, int]] = field(default_factory=dict)
    bytes: int = 0
    closed: bool = False

    def check_open(self) -> None:
        """Raise if the channel has been closed, e.g. during a copy for it."""
        if self.closed:
            raise ShuffleFault(Reason.UNREACHABLE, "the channel is closed")


class ChannelServer:
    """All accepted channels. `owner` is the peer connection that requested a channel. Its channels end with it.

    Parameters
    ----------
    channel_bytes
        Bytes that one channel may have staged.
    stage_wait_s
        Seconds that a STAGE waits for free memory.
    check_limits
        Called with the bytes to pin before a channel is created. Raises `ShuffleFault` NO_SPACE at a limit.
    """

    def __init__(
        self,
        device: Device,
        store: Store,
        domain: Callable[[str], Domain],
        *,
        stage_bytes: int,
        channel_bytes: int,
        stage_wait_s: float,
        check_limits: Callable[[int], None],
    ) -> None:
        self._device, self._store, self._domain, self._check_limits = device, store, domain, check_limits
        self._stage_bytes, self._channel_bytes, self._wait_s = (
            stage_bytes,
            min(channel_bytes, stage_bytes),
            stage_wait_s,
        )
        self._channels: dict[object, dict[int, ServedChannel]] = {}
        self._numbers = itertools.count(1)
        self.staged_bytes = 0

    def __len__(self) -> int:
        return sum(map(len, self._channels.values()))

    def connect(self, owner: object, application: str, message: Connect) -> Connected:
        """Create a channel for a peer that is attached to the application.

        Raises
        ------
        ShuffleFault
            NO_SPACE: the peer must use TCP.
        """
        try:
            domain = self._domain(application)
            self._check_limits(0 if domain.staging else self._stage_bytes)
            staging = domain.stage(self._stage_bytes)
            pair = QueuePair(self._device, domain, serves=True)
        except TcpFallback as fallback:
            raise ShuffleFault(Reason.NO_SPACE, fallback.detail) from fallback
        except (self._device.library.error, OSError) as error:
            raise ShuffleFault(Reason.NO_SPACE, f"a queue pair cannot be created: {one_line(error)}") from error
        try:
            pair.connect(message.end)
        except TcpFallback as fallback:
            pair.destroy()
            raise ShuffleFault(Reason.NO_SPACE, fallback.detail) from fallback
        channel = ServedChannel(next(self._numbers) & 0xFFFFFFFF, application, owner, pair, staging)
        self._channels.setdefault(owner, {})[channel.number] = channel
        return Connected(channel.number, self._channel_bytes, pair.end)

    def _channel(self, owner: object, number: int) -> ServedChannel:
        channel = self._channels.get(owner, {}).get(number)
        if channel is None:
            raise ShuffleFault(Reason.REFUSED, "a channel is unknown on this connection")
        return channel

    async def stage(self, owner: object, number: int, pieces: Sequence[Piece]) -> Staged:
        """Copy pieces into the staging area.

        Raises
        ------
        ShuffleFault
            NOT_HERE, CORRUPT, MALFORMED or NO_SPACE.
        """
        channel = self._channel(owner, number)
        size = sum(piece.length for piece in pieces)
        if not size or channel.bytes + size > self._channel_bytes:
            raise malformed(f"a STAGE has {size} bytes; expected 1 to {self._channel_bytes - channel.bytes}")
        channel.bytes += size
        try:
            extents = [self._store.piece(channel.application, piece) for piece in pieces]
            offset = await channel.staging.take(size, self._wait_s)
        except BaseException:
            channel.bytes -= size
            raise
        try:
            channel.check_open()
            view = channel.staging.view(offset, size)
            try:
                await copy([extent for extent in extents if extent], view)
            finally:
                view.release()
            channel.check_open()
        except BaseException:
            channel.bytes -= size
            channel.staging.extents.give(offset)
            raise
        lease = next(self._numbers) & 0xFFFFFFFF
        channel.leases[lease] = (offset, size)
        self.staged_bytes += size
        return Staged(lease, channel.staging.base + offset, channel.staging.rkey)

    def unstage(self, owner: object, number: int, lease: int) -> None:
        """Free an extent that the peer has read. An unknown one is ignored: the channel may have ended meanwhile."""
        channel = self._channels.get(owner, {}).get(number)
        if channel and lease in channel.leases:
            self._give(channel, lease)

    def _give(self, channel: ServedChannel, lease: int) -> None:
        offset, size = channel.leases.pop(lease)
        channel.bytes -= size
        self.staged_bytes -= size
        channel.staging.extents.give(offset)

    def disconnect(self, owner: object, number: int) -> None:
        """Close a channel for its peer."""
        channels = self._channels.get(owner, {})
        if number in channels:
            self._close(channels.pop(number))
        if not channels:
            self._channels.pop(owner, None)

    def lost(self, owner: object) -> None:
        """Close the channels of a connection that has ended."""
        for channel in self._channels.pop(owner, {}).values():
            self._close(channel)

    def forget(self, application: str) -> None:
        """Close the channels of an application that has ended."""
        for owner, channels in list(self._channels.items()):
            for channel in [served for served in channels.values() if served.application == application]:
                self.disconnect(owner, channel.number)

    def _close(self, channel: ServedChannel) -> None:
        """Destroy the queue pair first, then free the extents that it could read."""
        channel.closed = True
        channel.pair.destroy()
        for lease in list(channel.leases):
            self._give(channel, lease)
