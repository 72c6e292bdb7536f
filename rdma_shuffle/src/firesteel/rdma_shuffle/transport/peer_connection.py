"""The accepting side of the peer protocol: it authenticates a peer and serves it from the store."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from firesteel.rdma_shuffle.transport.base import ApplicationEnded, LeaseRenewed, ShuffleRemoved, Store
from firesteel.rdma_shuffle.wire import authentication
from firesteel.rdma_shuffle.wire.blocks import Piece
from firesteel.rdma_shuffle.wire.codec import MAX_FRAME, VERSION, Frame
from firesteel.rdma_shuffle.wire.fault import Reason, ShuffleFault, malformed
from firesteel.rdma_shuffle.wire.message import Message
from firesteel.rdma_shuffle.wire.messages import Ok, decode
from firesteel.rdma_shuffle.wire.peer_messages import (
    PEER,
    Attach,
    Attached,
    Authenticate,
    Authenticated,
    Connect,
    Connected,
    Data,
    Disconnect,
    Ended,
    Forget,
    Greet,
    Locate,
    Located,
    Read,
    Renew,
    Stage,
    Staged,
    Unstage,
)
from firesteel.rdma_shuffle.wire.server_connection import ServerConnection

MAX_HANDLES = 4096
_LOG = logging.getLogger(__name__)


class Channels(Protocol):
    """Channels that carry the bytes of blocks outside of the connection. `owner` is the requesting connection."""

    def connect(self, owner: object, application: str, message: Connect) -> Connected: ...

    async def stage(self, owner: object, number: int, pieces: Sequence[Piece]) -> Staged: ...

    def unstage(self, owner: object, number: int, lease: int) -> None: ...

    def disconnect(self, owner: object, number: int) -> None: ...

    def lost(self, owner: object) -> None:
        """Close the channels of a connection that has ended."""
        ...


class PeerConnection(ServerConnection):
    """The connection of one peer.

    Parameters
    ----------
    names
        The names of this node. The first is its main name.
    credits
        Maximum number of outstanding READs of the peer, and of their bytes.
    ended
        Called with this connection when it ends.
    channels
        The channels for peers, or None without them.
    """

    def __init__(
        self,
        store: Store,
        cluster: bytes,
        names: tuple[str, ...],
        credits: tuple[int, int],  # noqa: A002 - the term of the protocol
        ended: Callable[[PeerConnection], None],
        channels: Channels | None = None,
    ) -> None:
        super().__init__()
        self._store, self._cluster, self._names, self._credits, self._on_closed = store, cluster, names, credits, ended
        self._channels = channels
        self._nonce = authentication.nonce()
        self._nonces = (b"", b"")
        self._handles: dict[int, str] = {}
        self._numbers = itertools.count(1)
        self._reads = self._bytes = 0
        self.peer = ""

    def greeting(self) -> Message:
        return Greet(VERSION, self._nonce)

    def closed(self) -> None:
        if self._channels:
            self._channels.lost(self)
        self._on_closed(self)

    async def answer(self, frame: Frame) -> Message | None:
        message = decode(frame.kind, frame.body, PEER)
        if not self.authenticated:
            if not isinstance(message, Authenticate):
                raise malformed(f"a frame of type {frame.kind} is not allowed before AUTHENTICATE")
            await self._authenticate(message, frame.request)
            return None
        match message:
            case Attach():
                return self._attach(message)
            case Locate():
                application = self._application(message.handle)
                return Located(tuple(self._store.locate(application, block_range) for block_range in message.ranges))
            case Read():
                await self._read(message, frame.request)
                return None
            case Connect():
                return self._channels_or_refuse().connect(self, self._application(message.handle), message)
            case Stage():
                return await self._channels_or_refuse().stage(self, message.channel, message.pieces)
            case Unstage() | Disconnect():
                self._release(message)
                return None
            case Renew():
                self._store.notice(self._application(message.handle), LeaseRenewed())
            case Forget():
                self._store.notice(self._application(message.handle), ShuffleRemoved(message.shuffle))
            case Ended():
                self._store.notice(self._application(message.handle), ApplicationEnded())
            case _:
                raise malformed(f"a frame of type {frame.kind} is not allowed from the dialling peer")
        return Ok()

    def _channels_or_refuse(self) -> Channels:
        if self._channels is None:
            raise ShuffleFault(Reason.NO_SPACE, f"the service of {self._names[0]} has no RDMA channels")
        return self._channels

    def _release(self, message: Unstage | Disconnect) -> None:
        """Release a lease or a channel. Unknown ones are ignored: the messages have no answer."""
        if self._channels and isinstance(message, Unstage):
            self._channels.unstage(self, message.channel, message.lease)
        elif self._channels:
            self._channels.disconnect(self, message.channel)

    async def _authenticate(self, message: Authenticate, request: int) -> None:
        expected = authentication.dial_mac(self._cluster, self._nonce, message.nonce, message.node, message.wanted)
        if not authentication.matches(expected, message.mac):
            raise ShuffleFault(Reason.REFUSED, "the peer does not know the cluster secret")
        if message.wanted not in self._names:
            raise ShuffleFault(Reason.REFUSED, f"this is node {self._names[0]}, not {message.wanted}")
        reads, size = self._credits
        mac = authentication.accept_mac(
            self._cluster, self._nonce, message.nonce, message.node, self._names[0], reads, size
        )
        self.peer, self.authenticated = message.node, True
        self._nonces = (self._nonce, message.nonce)
        # AUTHENTICATED has no tag and is written before the seal is set. All later frames have one.
        self.stream.post(Authenticated(self._names[0], reads, size, mac), request)
        self.stream.limit = MAX_FRAME
        self.stream.seal = authentication.Seal(self._cluster, *self._nonces, dialled=False)
        await self.stream.drained()

    def _attach(self, message: Attach) -> Attached:
        expected = authentication.attach_mac(
            self._store.secret(message.application), *self._nonces, message.application
        )
        if not authentication.matches(expected, message.mac):
            raise ShuffleFault(Reason.REFUSED, "the peer does not know the application's secret")
        if len(self._handles) >= MAX_HANDLES:
            raise ShuffleFault(Reason.NO_SPACE, f"the limit of {MAX_HANDLES} applications on a connection is reached")
        handle = next(self._numbers)
        self._handles[handle] = message.application
        return Attached(handle)

    def _application(self, handle: int) -> str:
        if handle not in self._handles:
            raise ShuffleFault(Reason.REFUSED, "a handle is unknown on this connection")
        return self._handles[handle]

    async def _read(self, message: Read, request: int) -> None:
        application = self._application(message.handle)
        size = sum(piece.length for piece in message.pieces)
        max_reads, max_bytes = self._credits
        if self._reads >= max_reads or self._bytes + size > max_bytes:
            raise malformed(f"the READ exceeds the credits of {max_reads} reads and {max_bytes} bytes")
        self._reads += 1
        self._bytes += size
        try:
            extents = [self._store.piece(application, piece) for piece in message.pieces]
            try:
                await self.stream.send_files(Data(size), request, [extent for extent in extents if extent])
            except ConnectionError:
                raise
            except (OSError, ShuffleFault) as error:
                # DATA was sent already. Only the end of the connection can report the error.
                _LOG.warning("a read of application %s for peer %s failed: %s", application, self.peer, error)
                self.stream.abort()
                raise ConnectionAbortedError(str(error)) from error
        finally:
            self._reads -= 1
            self._bytes -= size
