"""A queue pair of reliable connection, on either side of a lane.

::

    made (INIT) --connect--> ready (RTS) --fail--> broken (ERR) --all completions are there, or time is up--> destroyed

**The fence.** What was posted may write into local memory until its completion is there. So `read` ends, however it ends, only
after that. If it was cancelled, the completion gets a moment; then the pair is broken, which flushes everything; and if a
device does not even flush, the pair is destroyed, after which no device touches memory for it.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from typing import Any

from firesteel.rdma_shuffle.peer_messages import Endpoint
from firesteel.rdma_shuffle.settled import settled
from firesteel.rdma_shuffle.transport.verbs.absent import FallDown, Why
from firesteel.rdma_shuffle.transport.verbs.device import GONE, Device, one_line
from firesteel.rdma_shuffle.transport.verbs.domain import Domain

_LOG = logging.getLogger(__name__)
GRACE_S = 0.25
"""How long a READ that was given up may go on before its pair is broken: breaking it costs the others on it."""
DRAIN_S = 2.0
"""How long a broken pair may take to flush before it is destroyed."""
RETRIES = 6
"""Of a packet. 7 means for ever on Soft-RoCE: a READ from a dead peer would never end."""
_TIMEOUT = 14  # 4.096 us * 2**14 = 67 ms until a packet is sent again
_RNR_TIMER = 12


class Pair:
    """One queue pair.

    Parameters
    ----------
    domain
        A peer reaches what is registered in it, and nothing else. Its end destroys the pair.
    serves
        Whether the peer may read from us by it.
    """

    def __init__(self, device: Device, domain: Domain, *, serves: bool) -> None:
        self._device, self._domain = device, domain
        library, place = device.library, device.place
        enums = library.enums
        capacity = library.qp.QPCap(max_send_wr=device.reads + 1, max_recv_wr=1, max_send_sge=1, max_recv_sge=1)
        initial = library.qp.QPInitAttr(
            qp_type=enums.IBV_QPT_RC, scq=device.queue, rcq=device.queue, cap=capacity, sq_sig_all=1
        )
        attributes = library.qp.QPAttr(port_num=place.port)
        attributes.qp_access_flags = self._access = enums.IBV_ACCESS_REMOTE_READ if serves else 0
        self._qp: Any = library.qp.QP(domain.pd, initial, attributes)
        domain.pairs.add(self)
        self._flights: set[asyncio.Future[int]] = set()
        self.broken = False
        self._destroyed = False
        self.end = Endpoint(int(self._qp.qp_num), secrets.randbits(24), device.lid, device.mtu, device.reads, place.gid)

    def connect(self, other: Endpoint) -> None:
        """Go to RTS towards the other end.

        Raises
        ------
        FallDown
            LANE_BROKE: the device refuses it.
        """
        if self.broken:
            raise FallDown(Why.LANE_BROKE, "the application has ended")
        library, place = self._device.library, self._device.place
        route = library.addr.GlobalRoute(dgid=library.addr.GID(_gid_text(other.gid)), sgid_index=place.gid_index)
        route.hop_limit = 64
        attributes = library.qp.QPAttr(port_num=place.port)
        attributes.qp_access_flags = self._access
        attributes.ah_attr = library.addr.AHAttr(
            gr=route, is_global=int(place.ethernet), port_num=place.port, dlid=other.lid
        )
        attributes.path_mtu = min(other.mtu, self.end.mtu)
        attributes.dest_qp_num = other.number
        attributes.rq_psn, attributes.sq_psn = other.psn, self.end.psn
        attributes.max_rd_atomic = attributes.max_dest_rd_atomic = min(other.reads, self.end.reads)
        attributes.min_rnr_timer, attributes.timeout = _RNR_TIMER, _TIMEOUT
        attributes.retry_cnt = attributes.rnr_retry = RETRIES
        try:
            self._qp.to_rts(attributes)
        except (self._device.library.error, OSError) as error:
            raise FallDown(Why.LANE_BROKE, f"the queue pair does not connect: {one_line(error)}") from error

    async def read(self, address: int, lkey: int, length: int, remote: int, rkey: int) -> None:
        """RDMA READ `length` bytes from the peer's `remote` to our `address`. See the module for what holds at its end.

        Raises
        ------
        FallDown
            LANE_BROKE
        """
        if self.broken:
            raise FallDown(Why.LANE_BROKE, "the queue pair is broken")
        library = self._device.library
        part = library.wr.SGE(address, length, lkey)

        def post(number: int) -> None:
            request = library.wr.SendWR(number, opcode=library.enums.IBV_WR_RDMA_READ, num_sge=1, sg=[part])
            request.set_wr_rdma(rkey, remote)
            self._qp.post_send(request)

        await self._device.slots.take(1)
        try:
            if self.broken:
                raise FallDown(Why.LANE_BROKE, "the queue pair is broken")
            try:
                flight = self._device.post(post)
            except (library.error, OSError) as error:
                self.fail()
                raise FallDown(Why.LANE_BROKE, f"a READ cannot be posted: {one_line(error)}") from error
            self._flights.add(flight)
            flight.add_done_callback(self._landed)
            try:
                status = await asyncio.shield(flight)
            except asyncio.CancelledError:
                patience = asyncio.get_running_loop().call_later(GRACE_S, self.fail)
                try:
                    await settled(flight)
                finally:
                    patience.cancel()
                raise
        finally:
            self._device.slots.give(1)
        if status:
            self.fail()
            raise FallDown(Why.LANE_BROKE, f"a READ ended with {self._device.status_name(status)}")

    def _landed(self, flight: asyncio.Future[int]) -> None:
        self._flights.discard(flight)
        if self.broken and not self._flights:
            self.destroy()

    def fail(self) -> None:
        """Break it: whatever is on its way is flushed. Idempotent."""
        if self.broken:
            return
        self.broken = True
        library = self._device.library
        try:
            self._qp.modify(library.qp.QPAttr(qp_state=library.enums.IBV_QPS_ERR), library.enums.IBV_QP_STATE)
        except (library.error, OSError) as error:
            _LOG.warning("a queue pair cannot be broken, and is destroyed: %s", one_line(error))
            self.destroy()
        if self._flights:
            asyncio.get_running_loop().call_later(DRAIN_S, self.destroy)
        else:
            self.destroy()

    def destroy(self) -> None:
        """Nothing lands by it after this. Idempotent."""
        if self._destroyed:
            return
        self._destroyed = self.broken = True
        self._domain.pairs.discard(self)
        try:
            self._qp.close()
        except (self._device.library.error, OSError) as error:
            _LOG.warning("a queue pair was not destroyed cleanly: %s", one_line(error))
        for flight in list(self._flights):
            if not flight.done():
                flight.set_result(GONE)


def _gid_text(gid: bytes) -> str:
    return ":".join(gid[at : at + 2].hex() for at in range(0, len(gid), 2))
