"""A queue pair of type reliable connection, on either side of a channel.

::

    created (INIT) --connect--> ready (RTS) --fail--> broken (ERR) --all completions arrived, or timeout--> destroyed

**The fence.** A posted READ may write into local memory until its completion arrives, so `read` ends only after that. A
cancelled `read` waits 250 ms for the completion and then breaks the pair, which flushes all requests. If a device does not
flush, the pair is destroyed, after which no device writes into memory for it.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from typing import Any

from firesteel.rdma_shuffle.transport.verbs.device import GONE, Device, one_line
from firesteel.rdma_shuffle.transport.verbs.domain import Domain
from firesteel.rdma_shuffle.transport.verbs.settled import settled
from firesteel.rdma_shuffle.transport.verbs.unavailable import FallbackReason, TcpFallback
from firesteel.rdma_shuffle.wire.peer_messages import Endpoint

_LOG = logging.getLogger(__name__)
GRACE_S = 0.25
"""Seconds that a cancelled READ may continue before its pair is broken, which fails all other READs on it."""
DRAIN_S = 2.0
"""Seconds that a broken pair may take to flush before it is destroyed."""
RETRIES = 6
"""Retries of a packet. 7 means infinite on Soft-RoCE: a READ from a dead peer would never end."""
_TIMEOUT = 14  # 4.096 us * 2**14 = 67 ms until a packet is retried
_RNR_TIMER = 12


class QueuePair:
    """One queue pair.

    Parameters
    ----------
    domain
        A peer reaches only memory that is registered in it. Closing it destroys the pair.
    serves
        Whether the peer may read from us.
    """

    def __init__(self, device: Device, domain: Domain, *, serves: bool) -> None:
        self._device, self._domain = device, domain
        library, device_port = device.library, device.device_port
        enums = library.enums
        capacity = library.qp.QPCap(max_send_wr=device.reads + 1, max_recv_wr=1, max_send_sge=1, max_recv_sge=1)
        initial = library.qp.QPInitAttr(
            qp_type=enums.IBV_QPT_RC, scq=device.queue, rcq=device.queue, cap=capacity, sq_sig_all=1
        )
        attributes = library.qp.QPAttr(port_num=device_port.port)
        attributes.qp_access_flags = self._access = enums.IBV_ACCESS_REMOTE_READ if serves else 0
        self._qp: Any = library.qp.QP(domain.pd, initial, attributes)
        domain.pairs.add(self)
        self._completions: set[asyncio.Future[int]] = set()
        self.broken = False
        self._destroyed = False
        self.end = Endpoint(
            int(self._qp.qp_num), secrets.randbits(24), device.lid, device.mtu, device.reads, device_port.gid
        )

    def connect(self, other: Endpoint) -> None:
        """Connect to the other end (state RTS).

        Raises
        ------
        TcpFallback
            CHANNEL_BROKE: the device refuses.
        """
        if self.broken:
            raise TcpFallback(FallbackReason.CHANNEL_BROKE, "the application has ended")
        library, device_port = self._device.library, self._device.device_port
        route = library.addr.GlobalRoute(dgid=library.addr.GID(_gid_text(other.gid)), sgid_index=device_port.gid_index)
        route.hop_limit = 64
        attributes = library.qp.QPAttr(port_num=device_port.port)
        attributes.qp_access_flags = self._access
        attributes.ah_attr = library.addr.AHAttr(
            gr=route, is_global=int(device_port.ethernet), port_num=device_port.port, dlid=other.lid
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
            raise TcpFallback(
                FallbackReason.CHANNEL_BROKE, f"the queue pair cannot be connected: {one_line(error)}"
            ) from error

    async def read(self, address: int, lkey: int, length: int, remote: int, rkey: int) -> None:
        """RDMA READ `length` bytes from the peer's `remote` to our `address`. See the module for the fence.

        Raises
        ------
        TcpFallback
            CHANNEL_BROKE
        """
        if self.broken:
            raise TcpFallback(FallbackReason.CHANNEL_BROKE, "the queue pair is broken")
        library = self._device.library
        part = library.wr.SGE(address, length, lkey)

        def post(number: int) -> None:
            request = library.wr.SendWR(number, opcode=library.enums.IBV_WR_RDMA_READ, num_sge=1, sg=[part])
            request.set_wr_rdma(rkey, remote)
            self._qp.post_send(request)

        await self._device.slots.take(1)
        try:
            if self.broken:
                raise TcpFallback(FallbackReason.CHANNEL_BROKE, "the queue pair is broken")
            try:
                completion = self._device.post(post)
            except (library.error, OSError) as error:
                self.fail()
                raise TcpFallback(
                    FallbackReason.CHANNEL_BROKE, f"a READ cannot be posted: {one_line(error)}"
                ) from error
            self._completions.add(completion)
            completion.add_done_callback(self._completed)
            try:
                status = await asyncio.shield(completion)
            except asyncio.CancelledError:
                grace = asyncio.get_running_loop().call_later(GRACE_S, self.fail)
                try:
                    await settled(completion)
                finally:
                    grace.cancel()
                raise
        finally:
            self._device.slots.give(1)
        if status:
            self.fail()
            raise TcpFallback(FallbackReason.CHANNEL_BROKE, f"a READ ended with {self._device.status_name(status)}")

    def _completed(self, completion: asyncio.Future[int]) -> None:
        self._completions.discard(completion)
        if self.broken and not self._completions:
            self.destroy()

    def fail(self) -> None:
        """Break the pair, which flushes all outstanding requests. Idempotent."""
        if self.broken:
            return
        self.broken = True
        library = self._device.library
        try:
            self._qp.modify(library.qp.QPAttr(qp_state=library.enums.IBV_QPS_ERR), library.enums.IBV_QP_STATE)
        except (library.error, OSError) as error:
            _LOG.warning("a queue pair cannot be moved to ERR and is destroyed: %s", one_line(error))
            self.destroy()
        if self._completions:
            asyncio.get_running_loop().call_later(DRAIN_S, self.destroy)
        else:
            self.destroy()

    def destroy(self) -> None:
        """Destroy the pair. Nothing is written by it after this. Idempotent."""
        if self._destroyed:
            return
        self._destroyed = self.broken = True
        self._domain.pairs.discard(self)
        try:
            self._qp.close()
        except (self._device.library.error, OSError) as error:
            _LOG.warning("a queue pair was not destroyed cleanly: %s", one_line(error))
        for completion in list(self._completions):
            if not completion.done():
                completion.set_result(GONE)


def _gid_text(gid: bytes) -> str:
    return ":".join(gid[at : at + 2].hex() for at in range(0, len(gid), 2))
