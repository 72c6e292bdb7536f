"""The transport: lanes where there can be some, TCP for everything else, and why.

Requests and notices go over the peer connections of `tcp`, whose proofs and tags are those of the lanes as well. Only the bytes
of blocks go by RDMA READ. What cannot is read by TCP, over the same connection; the reason is counted each time, and logged the
first time for each peer. A peer whose lane broke, or that has none, is left in peace for a while.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence

from firesteel.rdma_shuffle.blocks import Found, Missing, Piece, Range
from firesteel.rdma_shuffle.fault import Reason, ShuffleFault
from firesteel.rdma_shuffle.transport.base import Notice, Store
from firesteel.rdma_shuffle.transport.tcp import TcpTransport
from firesteel.rdma_shuffle.transport.tcp_link import TcpLink
from firesteel.rdma_shuffle.transport.verbs.absent import FallDown, Why
from firesteel.rdma_shuffle.transport.verbs.device import Device, one_line
from firesteel.rdma_shuffle.transport.verbs.domain import Domain, address_of
from firesteel.rdma_shuffle.transport.verbs.lane import ReadLane
from firesteel.rdma_shuffle.transport.verbs.limits import VerbsLimits
from firesteel.rdma_shuffle.transport.verbs.serving import Serving

_LOG = logging.getLogger(__name__)
_RESTS = frozenset({Why.PEER_HAS_NONE, Why.LANE_BROKE})


class VerbsTransport:
    """A `Transport` over a `TcpTransport`, whose lanes it serves as well. `open` finds the device.

    `pinnable` says how many bytes more may be pinned; it is asked before a staging area is made.
    """

    name = "verbs"

    def __init__(self, tcp: TcpTransport, store: Store, device: Device, limits: VerbsLimits) -> None:
        self._tcp, self._store, self.device, self.limits = tcp, store, device, limits
        self._most_lanes = min(limits.lanes, device.most_pairs)
        self._domains: dict[str, Domain] = {}
        self._lanes: OrderedDict[tuple[TcpLink, str], ReadLane] = OrderedDict()
        self._connecting: dict[tuple[TcpLink, str], asyncio.Lock] = {}
        self._resting: dict[str, tuple[float, FallDown]] = {}
        self._told: set[tuple[str, Why]] = set()
        self.falls: Counter[str] = Counter()
        self.reads = self.bytes = 0
        self.pinnable: Callable[[], int] = lambda: 1 << 62
        self.serving = Serving(
            device,
            store,
            self._domain,
            stage_bytes=limits.stage_bytes,
            lane_bytes=limits.lane_bytes,
            stage_wait_s=limits.stage_wait_s,
            room=self._room,
        )
        tcp.lanes = self.serving
        self._closed = False

    @classmethod
    def open(cls, tcp: TcpTransport, store: Store, limits: VerbsLimits) -> VerbsTransport:
        """On the device that the limits name, or the first usable one.

        Raises
        ------
        VerbsAbsent
            With the reason; `tcp` stays as it is.
        """
        return cls(tcp, store, Device.open(limits.device, limits.gid_index), limits)

    # -- Transport -----------------------------------------------------------------------------------------------

    async def locate(self, owner: str, application: str, ranges: Sequence[Range]) -> tuple[Found | Missing, ...]:
        return await self._tcp.locate(owner, application, ranges)

    async def tell(self, owner: str, application: str, notice: Notice) -> None:
        await self._tcp.tell(owner, application, notice)

    async def read(self, owner: str, application: str, pieces: Sequence[Piece], into: memoryview) -> None:
        link = await self._tcp.link(owner)
        secret = self._store.secret(application)
        if into:
            try:
                await self._by_lane(link, owner, application, secret, pieces, into)
            except FallDown as down:
                if not link.alive:
                    raise ShuffleFault(Reason.UNREACHABLE, f"the service of {owner} was lost in mid-read") from down
                self._fell(owner, down)
            else:
                return
        await link.read(application, secret, pieces, into)

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        for lane in self._lanes.values():
            lane.destroy()
        self._lanes.clear()
        await self._tcp.close()
        for application in list(self._domains):
            self.forget(application)
        self.device.close()

    # -- lanes ---------------------------------------------------------------------------------------------------

    async def _by_lane(
        self, link: TcpLink, owner: str, application: str, secret: bytes, pieces: Sequence[Piece], into: memoryview
    ) -> None:
        until, down = self._resting.get(owner, (0.0, None))
        if down:
            if asyncio.get_running_loop().time() < until:
                raise down
            del self._resting[owner]
        domain = self._domain(application)
        landing = domain.landing(self._store.landing(application))
        if not landing.holds(address_of(into), len(into)):
            raise FallDown(Why.OUTSIDE_SLAB, "the bytes go into a file")
        try:
            lane = await self._lane(link, application, secret)
            await lane.read(pieces, into, landing.lkey)
        except FallDown as fell:
            if self._domains.get(application) is not domain:
                self._store.secret(application)  # the application, and not the lane, has ended
            elif fell.why in _RESTS and link.alive:
                self._resting[owner] = (asyncio.get_running_loop().time() + self.limits.rest_s, fell)
            raise
        self.reads += 1
        self.bytes += len(into)

    async def _lane(self, link: TcpLink, application: str, secret: bytes) -> ReadLane:
        key = (link, application)
        async with self._connecting.setdefault(key, asyncio.Lock()):
            lane = self._lanes.pop(key, None)
            if lane and not lane.alive:
                lane.close()
                lane = None
            if lane is None:
                self._make_room()
                domain = self._domain(application)
                lane = await ReadLane.open(self.device, domain, link, application, secret, lambda: self._drop(key))
                if self._closed or not lane.alive or not link.alive or self._store.secret(application) != secret:
                    lane.destroy()
                    raise FallDown(Why.LANE_BROKE, "the connection, or the application, has ended")
            self._lanes[key] = lane  # newest last
            return lane

    def _drop(self, key: tuple[TcpLink, str]) -> None:
        self._lanes.pop(key, None)
        self._connecting.pop(key, None)

    def _make_room(self) -> None:
        if self.lane_count < self._most_lanes:
            return
        for key, lane in self._lanes.items():
            if lane.idle:
                lane.close()
                self._drop(key)
                return
        raise FallDown(Why.LANE_BROKE, f"all {self._most_lanes} lanes are busy")

    def _room(self, pin: int) -> None:
        """Whether a peer may have one more lane, and a staging area of `pin` bytes for it."""
        if self.lane_count >= self._most_lanes:
            raise ShuffleFault(Reason.NO_SPACE, f"there are {self._most_lanes} lanes, the most that are allowed")
        if pin > self.pinnable():
            raise ShuffleFault(Reason.NO_SPACE, "the limit of pinned bytes leaves no room for staging")

    @property
    def lane_count(self) -> int:
        """Queue pairs, of both sides."""
        return len(self._lanes) + len(self.serving)

    @property
    def staging_bytes(self) -> int:
        """Pinned for staging, used or not."""
        return sum(each.staging.extents.size for each in self._domains.values() if each.staging)

    def gauges(self) -> dict[str, float]:
        """What is in use, and beside it what is allowed."""
        return {
            "verbs_reads": self.reads,
            "verbs_bytes": self.bytes,
            "lanes": self.lane_count,
            "lanes_limit": self._most_lanes,
            "lane_requests": self.device.posted,
            "registrations": sum(each.registrations for each in self._domains.values()),
            "staging_bytes": self.staging_bytes,
            "staged_bytes": self.serving.staged_bytes,
        }

    def about(self) -> dict[str, object]:
        """For the status."""
        place = self.device.place
        return {
            "device": place.device,
            "port": place.port,
            "gid_index": place.gid_index,
            "gid": place.gid.hex(":", 2),
            "mtu": 128 << self.device.mtu,
            "falls": dict(self.falls),
        }

    def _domain(self, application: str) -> Domain:
        domain = self._domains.get(application)
        if domain is None:
            self._store.secret(application)  # UNKNOWN_APPLICATION for one that is over
            try:
                domain = self._domains[application] = Domain(self.device)
            except (self.device.library.error, OSError) as error:
                raise FallDown(Why.NO_MEMORY, f"no protection domain can be made: {one_line(error)}") from error
        return domain

    def forget(self, application: str) -> None:
        """The application is over: its queue pairs and registrations go before its memory does."""
        for key in [each for each in self._lanes if each[1] == application]:
            self._lanes[key].destroy()
            self._drop(key)
        self.serving.forget(application)
        domain = self._domains.pop(application, None)
        if domain:
            domain.close()

    def _fell(self, owner: str, down: FallDown) -> None:
        self.falls[down.why] += 1
        if (owner, down.why) not in self._told:
            self._told.add((owner, down.why))
            _LOG.warning("blocks of %s come by TCP (%s): %s", owner, down.why, down.detail)
