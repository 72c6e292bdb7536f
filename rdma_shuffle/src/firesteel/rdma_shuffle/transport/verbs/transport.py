"""The verbs transport: RDMA channels where they are possible, TCP for everything else.

Requests and notices use the authenticated peer connections of `tcp`. Only the bytes of blocks are read by RDMA READ. If that
is not possible, a read uses TCP over the same connection. The reason is counted each time and logged once per peer. A peer
whose channel broke, or that has none, is read by TCP for a while.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence

from firesteel.rdma_shuffle.transport.base import Notice, Store
from firesteel.rdma_shuffle.transport.tcp import TcpTransport
from firesteel.rdma_shuffle.transport.tcp_link import TcpLink
from firesteel.rdma_shuffle.transport.verbs.channel_server import ChannelServer
from firesteel.rdma_shuffle.transport.verbs.device import Device, one_line
from firesteel.rdma_shuffle.transport.verbs.domain import Domain, address_of
from firesteel.rdma_shuffle.transport.verbs.limits import VerbsLimits
from firesteel.rdma_shuffle.transport.verbs.read_channel import ReadChannel
from firesteel.rdma_shuffle.transport.verbs.unavailable import FallbackReason, TcpFallback
from firesteel.rdma_shuffle.wire.blocks import Found, Missing, Piece, Range
from firesteel.rdma_shuffle.wire.fault import Reason, ShuffleFault

_LOG = logging.getLogger(__name__)
_PAUSE_REASONS = frozenset({FallbackReason.PEER_HAS_NONE, FallbackReason.CHANNEL_BROKE})


class VerbsTransport:
    """A `Transport` on top of a `TcpTransport`. It also serves channels to peers. `open` finds the device.

    `pinnable` returns the bytes that may still be pinned. It is called before a staging area is created.
    """

    name = "verbs"

    def __init__(self, tcp: TcpTransport, store: Store, device: Device, limits: VerbsLimits) -> None:
        self._tcp, self._store, self.device, self.limits = tcp, store, device, limits
        self._max_channels = min(limits.channels, device.max_queue_pairs)
        self._domains: dict[str, Domain] = {}
        self._channels: OrderedDict[tuple[TcpLink, str], ReadChannel] = OrderedDict()
        self._connecting: dict[tuple[TcpLink, str], asyncio.Lock] = {}
        self._paused: dict[str, tuple[float, TcpFallback]] = {}
        self._logged: set[tuple[str, FallbackReason]] = set()
        self.fallbacks: Counter[str] = Counter()
        self.reads = self.bytes = 0
        self.pinnable: Callable[[], int] = lambda: 1 << 62
        self.serving = ChannelServer(
            device,
            store,
            self._domain,
            stage_bytes=limits.stage_bytes,
            channel_bytes=limits.channel_bytes,
            stage_wait_s=limits.stage_wait_s,
            check_limits=self._check_limits,
        )
        tcp.channels = self.serving
        self._closed = False

    @classmethod
    def open(cls, tcp: TcpTransport, store: Store, limits: VerbsLimits) -> VerbsTransport:
        """Open the device of the limits, or the first usable one.

        Raises
        ------
        VerbsUnavailable
            No device can be used. `tcp` stays unchanged.
        """
        return cls(tcp, store, Device.open(limits.device, limits.gid_index), limits)

    # -- Transport -----------------------------------------------------------------------------------------------

    async def locate(self, owner: str, application: str, ranges: Sequence[Range]) -> tuple[Found | Missing, ...]:
        return await self._tcp.locate(owner, application, ranges)

    async def notify(self, owner: str, application: str, notice: Notice) -> None:
        await self._tcp.notify(owner, application, notice)

    async def read(self, owner: str, application: str, pieces: Sequence[Piece], into: memoryview) -> None:
        link = await self._tcp.link(owner)
        secret = self._store.secret(application)
        if into:
            try:
                await self._by_channel(link, owner, application, secret, pieces, into)
            except TcpFallback as fallback:
                if not link.alive:
                    raise ShuffleFault(
                        Reason.UNREACHABLE, f"the service of {owner} was lost during a read"
                    ) from fallback
                self._count_fallback(owner, fallback)
            else:
                return
        await link.read(application, secret, pieces, into)

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        for channel in self._channels.values():
            channel.destroy()
        self._channels.clear()
        await self._tcp.close()
        for application in list(self._domains):
            self.forget(application)
        self.device.close()

    # -- channels ---------------------------------------------------------------------------------------------------

    async def _by_channel(
        self, link: TcpLink, owner: str, application: str, secret: bytes, pieces: Sequence[Piece], into: memoryview
    ) -> None:
        until, fallback = self._paused.get(owner, (0.0, None))
        if fallback:
            if asyncio.get_running_loop().time() < until:
                raise fallback
            del self._paused[owner]
        domain = self._domain(application)
        slab = domain.registered_slab(self._store.slab_view(application))
        if not slab.holds(address_of(into), len(into)):
            raise TcpFallback(FallbackReason.OUTSIDE_SLAB, "the blocks go into a file")
        try:
            channel = await self._channel(link, application, secret)
            await channel.read(pieces, into, slab.lkey)
        except TcpFallback as error:
            if self._domains.get(application) is not domain:
                self._store.secret(application)  # raises if the application has ended
            elif error.reason in _PAUSE_REASONS and link.alive:
                self._paused[owner] = (asyncio.get_running_loop().time() + self.limits.rest_s, error)
            raise
        self.reads += 1
        self.bytes += len(into)

    async def _channel(self, link: TcpLink, application: str, secret: bytes) -> ReadChannel:
        key = (link, application)
        async with self._connecting.setdefault(key, asyncio.Lock()):
            channel = self._channels.pop(key, None)
            if channel and not channel.alive:
                channel.close()
                channel = None
            if channel is None:
                self._evict_idle()
                domain = self._domain(application)
                channel = await ReadChannel.open(
                    self.device, domain, link, application, secret, lambda: self._drop(key)
                )
                if self._closed or not channel.alive or not link.alive or self._store.secret(application) != secret:
                    channel.destroy()
                    raise TcpFallback(FallbackReason.CHANNEL_BROKE, "the connection or the application has ended")
            self._channels[key] = channel  # the most recently used is last
            return channel

    def _drop(self, key: tuple[TcpLink, str]) -> None:
        self._channels.pop(key, None)
        self._connecting.pop(key, None)

    def _evict_idle(self) -> None:
        if self.channel_count < self._max_channels:
            return
        for key, channel in self._channels.items():
            if channel.idle:
                channel.close()
                self._drop(key)
                return
        raise TcpFallback(FallbackReason.CHANNEL_BROKE, f"all {self._max_channels} channels are busy")

    def _check_limits(self, pin: int) -> None:
        """Raise NO_SPACE if a peer may not have one more channel and `pin` bytes of staging area for it."""
        if self.channel_count >= self._max_channels:
            raise ShuffleFault(Reason.NO_SPACE, f"the limit of {self._max_channels} channels is reached")
        if pin > self.pinnable():
            raise ShuffleFault(Reason.NO_SPACE, "the limit of pinned bytes leaves no memory for staging")

    @property
    def channel_count(self) -> int:
        """Number of queue pairs, including those for peers."""
        return len(self._channels) + len(self.serving)

    @property
    def staging_bytes(self) -> int:
        """Bytes that are pinned for staging, used or not."""
        return sum(domain.staging.extents.size for domain in self._domains.values() if domain.staging)

    def gauges(self) -> dict[str, float]:
        """Return the usage of resources and their limits."""
        return {
            "verbs_reads": self.reads,
            "verbs_bytes": self.bytes,
            "channels": self.channel_count,
            "channels_limit": self._max_channels,
            "channel_requests": self.device.posted,
            "registrations": sum(domain.registrations for domain in self._domains.values()),
            "staging_bytes": self.staging_bytes,
            "staged_bytes": self.serving.staged_bytes,
        }

    def about(self) -> dict[str, object]:
        """Return the device, its address and the fallbacks, for the status."""
        device_port = self.device.device_port
        return {
            "device": device_port.device,
            "port": device_port.port,
            "gid_index": device_port.gid_index,
            "gid": device_port.gid.hex(":", 2),
            "mtu": 128 << self.device.mtu,
            "fallbacks": dict(self.fallbacks),
        }

    def _domain(self, application: str) -> Domain:
        domain = self._domains.get(application)
        if domain is None:
            self._store.secret(application)  # raises UNKNOWN_APPLICATION if it has ended
            try:
                domain = self._domains[application] = Domain(self.device)
            except (self.device.library.error, OSError) as error:
                raise TcpFallback(
                    FallbackReason.NO_MEMORY, f"a protection domain cannot be created: {one_line(error)}"
                ) from error
        return domain

    def forget(self, application: str) -> None:
        """Close the queue pairs and registrations of an application, before its memory is freed."""
        for key in [key for key in self._channels if key[1] == application]:
            self._channels[key].destroy()
            self._drop(key)
        self.serving.forget(application)
        domain = self._domains.pop(application, None)
        if domain:
            domain.close()

    def _count_fallback(self, owner: str, fallback: TcpFallback) -> None:
        self.fallbacks[fallback.reason] += 1
        if (owner, fallback.reason) not in self._logged:
            self._logged.add((owner, fallback.reason))
            _LOG.warning("blocks of %s are read by TCP (%s): %s", owner, fallback.reason, fallback.detail)
