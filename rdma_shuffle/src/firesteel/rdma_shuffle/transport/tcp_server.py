"""The accepting side of the peer protocol: who comes is checked, then served from the store."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from firesteel.rdma_shuffle import proof
from firesteel.rdma_shuffle.blocks import Piece
from firesteel.rdma_shuffle.codec import MAX_FRAME, VERSION, Frame
from firesteel.rdma_shuffle.conversation import Conversation
from firesteel.rdma_shuffle.fault import Reason, ShuffleFault, malformed
from firesteel.rdma_shuffle.messages import Message, Ok, decode
from firesteel.rdma_shuffle.peer_messages import (
    PEER,
    Attach,
    Attached,
    Connect,
    Connected,
    Data,
    Ended,
    Forget,
    Greet,
    Locate,
    Located,
    Part,
    Prove,
    Proved,
    Read,
    Renew,
    Stage,
    Staged,
    Unstage,
)
from firesteel.rdma_shuffle.transport.base import Forgotten, Over, Renewed, Store

MOST_HANDLES = 4096
_LOG = logging.getLogger(__name__)


class Lanes(Protocol):
    """Ways around the connection for the bytes of blocks. `owner` is the connection that asks."""

    def connect(self, owner: object, application: str, message: Connect) -> Connected: ...

    async def stage(self, owner: object, number: int, pieces: Sequence[Piece]) -> Staged: ...

    def unstage(self, owner: object, number: int, lease: int) -> None: ...

    def part(self, owner: object, number: int) -> None: ...

    def lost(self, owner: object) -> None:
        """The connection has ended."""
        ...


class PeerConversation(Conversation):
    """One peer's connection.

    Parameters
    ----------
    names
        What this node may be called; the first is its own name.
    credits
        READs and bytes that the peer may have outstanding.
    ended
        Called at the end with this.
    lanes
        What peers may read from by other means than this connection; None: nothing.
    """

    def __init__(
        self,
        store: Store,
        cluster: bytes,
        names: tuple[str, ...],
        credits: tuple[int, int],  # noqa: A002 - the term of the protocol
        ended: Callable[[PeerConversation], None],
        lanes: Lanes | None = None,
    ) -> None:
        super().__init__()
        self._store, self._cluster, self._names, self._credits, self._over = store, cluster, names, credits, ended
        self._lanes = lanes
        self._nonce = proof.nonce()
        self._nonces = (b"", b"")
        self._handles: dict[int, str] = {}
        self._numbers = itertools.count(1)
        self._reads = self._bytes = 0
        self.peer = ""

    def greeting(self) -> Message:
        return Greet(VERSION, self._nonce)

    def over(self) -> None:
        if self._lanes:
            self._lanes.lost(self)
        self._over(self)

    async def answer(self, frame: Frame) -> Message | None:
        message = decode(frame.kind, frame.body, PEER)
        if not self.proved:
            if not isinstance(message, Prove):
                raise malformed(f"a frame of type {frame.kind} before PROVE")
            await self._prove(message, frame.request)
            return None
        match message:
            case Attach():
                return self._attach(message)
            case Locate():
                application = self._application(message.handle)
                return Located(tuple(self._store.locate(application, each) for each in message.ranges))
            case Read():
                await self._read(message, frame.request)
                return None
            case Connect():
                return self._laned().connect(self, self._application(message.handle), message)
            case Stage():
                return await self._laned().stage(self, message.lane, message.pieces)
            case Unstage() | Part():
                self._give_up(message)
                return None
            case Renew():
                self._store.notice(self._application(message.handle), Renewed())
            case Forget():
                self._store.notice(self._application(message.handle), Forgotten(message.shuffle))
            case Ended():
                self._store.notice(self._application(message.handle), Over())
            case _:
                raise malformed(f"a frame of type {frame.kind} from a peer that dials")
        return Ok()

    def _laned(self) -> Lanes:
        if self._lanes is None:
            raise ShuffleFault(Reason.NO_SPACE, f"{self._names[0]} has no lanes to give")
        return self._lanes

    def _give_up(self, message: Unstage | Part) -> None:
        """What is not known is ignored: nobody waits for an answer."""
        if self._lanes and isinstance(message, Unstage):
            self._lanes.unstage(self, message.lane, message.lease)
        elif self._lanes:
            self._lanes.part(self, message.lane)

    async def _prove(self, message: Prove, request: int) -> None:
        wanted = proof.dials(self._cluster, self._nonce, message.nonce, message.node, message.wanted)
        if not proof.same(wanted, message.mac):
            raise ShuffleFault(Reason.REFUSED, "the peer does not know the cluster's secret")
        if message.wanted not in self._names:
            raise ShuffleFault(Reason.REFUSED, f"this is {self._names[0]} and not the node that is wanted")
        reads, size = self._credits
        mac = proof.answers(self._cluster, self._nonce, message.nonce, message.node, self._names[0], reads, size)
        self.peer, self.proved = message.node, True
        self._nonces = (self._nonce, message.nonce)
        # What comes next is tagged; PROVED itself is not, and has left before the seal is set.
        self.stream.post(Proved(self._names[0], reads, size, mac), request)
        self.stream.limit = MAX_FRAME
        self.stream.seal = proof.Seal(self._cluster, *self._nonces, dialled=False)
        await self.stream.drained()

    def _attach(self, message: Attach) -> Attached:
        wanted = proof.attach(self._store.secret(message.application), *self._nonces, message.application)
        if not proof.same(wanted, message.mac):
            raise ShuffleFault(Reason.REFUSED, "the peer does not know the application's secret")
        if len(self._handles) >= MOST_HANDLES:
            raise ShuffleFault(Reason.NO_SPACE, f"{MOST_HANDLES} applications are attached to this connection")
        handle = next(self._numbers)
        self._handles[handle] = message.application
        return Attached(handle)

    def _application(self, handle: int) -> str:
        if handle not in self._handles:
            raise ShuffleFault(Reason.REFUSED, "a handle that this connection was not given")
        return self._handles[handle]

    async def _read(self, message: Read, request: int) -> None:
        application = self._application(message.handle)
        size = sum(each.length for each in message.pieces)
        reads, most = self._credits
        if self._reads >= reads or self._bytes + size > most:
            raise malformed("more is outstanding than the credits allow")
        self._reads += 1
        self._bytes += size
        try:
            found = [self._store.piece(application, each) for each in message.pieces]
            parts = [each for each in found if each]
            try:
                await self.stream.send_files(Data(size), request, parts)
            except ConnectionError:
                raise
            except (OSError, ShuffleFault) as error:
                # DATA has been announced: the peer can only be told by the end of the connection.
                _LOG.warning("a read of %s for %s ended: %s", application, self.peer, error)
                self.stream.abort()
                raise ConnectionAbortedError(str(error)) from error
        finally:
            self._reads -= 1
            self._bytes -= size
