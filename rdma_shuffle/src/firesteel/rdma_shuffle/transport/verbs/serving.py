"""The owner's side: lanes that peers asked for, and what stands in the staging areas for them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from firesteel.rdma_shuffle.blocks import Piece
from firesteel.rdma_shuffle.fault import Reason, ShuffleFault, malformed
from firesteel.rdma_shuffle.peer_messages import Connect, Connected, Staged
from firesteel.rdma_shuffle.transport.base import Store
from firesteel.rdma_shuffle.transport.verbs.absent import FallDown
from firesteel.rdma_shuffle.transport.verbs.copying import copy
from firesteel.rdma_shuffle.transport.verbs.device import Device, one_line
from firesteel.rdma_shuffle.transport.verbs.domain import Domain, Staging
from firesteel.rdma_shuffle.transport.verbs.pair import Pair


@dataclass(eq=False, slots=True)
class Lane:
    """One accepted lane. `leases`: offset and length of what stands for it, by number."""

    number: int
    application: str
    owner: object
    pair: Pair
    staging: Staging
    leases: dict[int, tuple[int, int]] = field(default_factory=dict)
    bytes: int = 0
    closed: bool = False

    def must_live(self) -> None:
        """It may have ended while something was copied for it."""
        if self.closed:
            raise ShuffleFault(Reason.UNREACHABLE, "the lane has ended")


class Serving:
    """All accepted lanes. `owner` is the connection of the peer protocol that asked for a lane, and ends with it.

    Parameters
    ----------
    lane_bytes
        What one lane may have staged at a time.
    stage_wait_s
        How long a STAGE waits for others' room.
    room
        Called before a lane or a staging area is made: raises `ShuffleFault` NO_SPACE when a limit is reached.
    """

    def __init__(
        self,
        device: Device,
        store: Store,
        domain: Callable[[str], Domain],
        *,
        stage_bytes: int,
        lane_bytes: int,
        stage_wait_s: float,
        room: Callable[[int], None],
    ) -> None:
        self._device, self._store, self._domain, self._room = device, store, domain, room
        self._stage_bytes, self._lane_bytes, self._wait_s = stage_bytes, min(lane_bytes, stage_bytes), stage_wait_s
        self._lanes: dict[object, dict[int, Lane]] = {}
        self._numbers = itertools.count(1)
        self.staged_bytes = 0

    def __len__(self) -> int:
        return sum(map(len, self._lanes.values()))

    def connect(self, owner: object, application: str, message: Connect) -> Connected:
        """Make a lane for a peer that has attached to the application.

        Raises
        ------
        ShuffleFault
            NO_SPACE: by TCP, then.
        """
        try:
            domain = self._domain(application)
            self._room(0 if domain.staging else self._stage_bytes)
            staging = domain.stage(self._stage_bytes)
            pair = Pair(self._device, domain, serves=True)
        except FallDown as down:
            raise ShuffleFault(Reason.NO_SPACE, down.detail) from down
        except (self._device.library.error, OSError) as error:
            raise ShuffleFault(Reason.NO_SPACE, f"no queue pair can be made: {one_line(error)}") from error
        try:
            pair.connect(message.end)
        except FallDown as down:
            pair.destroy()
            raise ShuffleFault(Reason.NO_SPACE, down.detail) from down
        lane = Lane(next(self._numbers) & 0xFFFFFFFF, application, owner, pair, staging)
        self._lanes.setdefault(owner, {})[lane.number] = lane
        return Connected(lane.number, self._lane_bytes, pair.end)

    def _lane(self, owner: object, number: int) -> Lane:
        lane = self._lanes.get(owner, {}).get(number)
        if lane is None:
            raise ShuffleFault(Reason.REFUSED, "a lane that this connection does not have")
        return lane

    async def stage(self, owner: object, number: int, pieces: Sequence[Piece]) -> Staged:
        """Put pieces where the peer can read them.

        Raises
        ------
        ShuffleFault
            NOT_HERE, CORRUPT, MALFORMED, or NO_SPACE.
        """
        lane = self._lane(owner, number)
        size = sum(each.length for each in pieces)
        if not size or lane.bytes + size > self._lane_bytes:
            raise malformed(f"{size} bytes to stage, where {self._lane_bytes - lane.bytes} are allowed")
        lane.bytes += size
        try:
            found = [self._store.piece(lane.application, each) for each in pieces]
            offset = await lane.staging.take(size, self._wait_s)
        except BaseException:
            lane.bytes -= size
            raise
        try:
            lane.must_live()
            view = lane.staging.view(offset, size)
            try:
                await copy([each for each in found if each], view)
            finally:
                view.release()
            lane.must_live()
        except BaseException:
            lane.bytes -= size
            lane.staging.give(offset)
            raise
        lease = next(self._numbers) & 0xFFFFFFFF
        lane.leases[lease] = (offset, size)
        self.staged_bytes += size
        return Staged(lease, lane.staging.base + offset, lane.staging.rkey)

    def unstage(self, owner: object, number: int, lease: int) -> None:
        """The peer has read it. What is not known any more is ignored: the lane may have ended meanwhile."""
        lane = self._lanes.get(owner, {}).get(number)
        if lane and lease in lane.leases:
            self._give(lane, lease)

    def _give(self, lane: Lane, lease: int) -> None:
        offset, size = lane.leases.pop(lease)
        lane.bytes -= size
        self.staged_bytes -= size
        lane.staging.give(offset)

    def part(self, owner: object, number: int) -> None:
        """The peer gives a lane up."""
        lanes = self._lanes.get(owner, {})
        if number in lanes:
            self._close(lanes.pop(number))
        if not lanes:
            self._lanes.pop(owner, None)

    def lost(self, owner: object) -> None:
        """The peer's connection has ended, and its lanes with it."""
        for lane in self._lanes.pop(owner, {}).values():
            self._close(lane)

    def forget(self, application: str) -> None:
        """The application is over."""
        for owner, lanes in list(self._lanes.items()):
            for lane in [each for each in lanes.values() if each.application == application]:
                self.part(owner, lane.number)

    def _close(self, lane: Lane) -> None:
        """First the queue pair, then what could be read by it."""
        lane.closed = True
        lane.pair.destroy()
        for lease in list(lane.leases):
            self._give(lane, lease)
