"""The messages between services, as PROTOCOL.md draws them."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from firesteel.rdma_shuffle.blocks import Found, Missing, Piece, Range, checked
from firesteel.rdma_shuffle.codec import MAC_BYTES, NONCE_BYTES, Body, text, u8, u16, u32, u64
from firesteel.rdma_shuffle.fault import malformed
from firesteel.rdma_shuffle.messages import (
    MAX_BLOCKS,
    MAX_NAME,
    Error,
    Message,
    Ok,
    found_bytes,
    ranges_bytes,
    read_all_found,
    read_ranges,
)

GID_BYTES = 16
_PIECE = struct.Struct(">IQIIQQ")
_MOST_24 = (1 << 24) - 1


def pieces_bytes(pieces: tuple[Piece, ...]) -> bytes:
    """`u32 n, n x piece`."""
    each = [_PIECE.pack(*one.range, one.skip, one.length) for one in pieces]
    return u32(len(pieces)) + b"".join(each)


def read_pieces(body: Body) -> tuple[Piece, ...]:
    """What `pieces_bytes` wrote."""
    data = body.raw(body.count(_PIECE.size, MAX_BLOCKS) * _PIECE.size)
    return tuple([Piece(checked(Range(*each[:4])), each[4], each[5]) for each in _PIECE.iter_unpack(data)])


@dataclass(frozen=True, slots=True)
class Greet:
    kind: ClassVar[int] = 32
    version: int
    nonce: bytes

    def body(self) -> bytes:
        return u16(self.version) + self.nonce

    @classmethod
    def read(cls, body: Body) -> Greet:
        return cls(body.u16(), body.raw(NONCE_BYTES))


@dataclass(frozen=True, slots=True)
class Prove:
    kind: ClassVar[int] = 33
    node: str
    wanted: str
    nonce: bytes
    mac: bytes

    def body(self) -> bytes:
        return text(self.node) + text(self.wanted) + self.nonce + self.mac

    @classmethod
    def read(cls, body: Body) -> Prove:
        return cls(body.text(), body.text(), body.raw(NONCE_BYTES), body.raw(MAC_BYTES))


@dataclass(frozen=True, slots=True)
class Proved:
    kind: ClassVar[int] = 34
    node: str
    reads: int
    size: int
    mac: bytes

    def body(self) -> bytes:
        return text(self.node) + u32(self.reads) + u64(self.size) + self.mac

    @classmethod
    def read(cls, body: Body) -> Proved:
        return cls(body.text(), body.u32(), body.u64(), body.raw(MAC_BYTES))


@dataclass(frozen=True, slots=True)
class Attach:
    kind: ClassVar[int] = 35
    application: str
    mac: bytes

    def body(self) -> bytes:
        return text(self.application) + self.mac

    @classmethod
    def read(cls, body: Body) -> Attach:
        return cls(body.text(MAX_NAME), body.raw(MAC_BYTES))


@dataclass(frozen=True, slots=True)
class Attached:
    kind: ClassVar[int] = 36
    handle: int

    def body(self) -> bytes:
        return u32(self.handle)

    @classmethod
    def read(cls, body: Body) -> Attached:
        return cls(body.u32())


@dataclass(frozen=True, slots=True)
class Locate:
    kind: ClassVar[int] = 37
    handle: int
    ranges: tuple[Range, ...]

    def body(self) -> bytes:
        return u32(self.handle) + ranges_bytes(self.ranges)

    @classmethod
    def read(cls, body: Body) -> Locate:
        return cls(body.u32(), read_ranges(body))


@dataclass(frozen=True, slots=True)
class Located:
    kind: ClassVar[int] = 38
    found: tuple[Found | Missing, ...]

    def body(self) -> bytes:
        return u32(len(self.found)) + b"".join(map(found_bytes, self.found))

    @classmethod
    def read(cls, body: Body) -> Located:
        return cls(read_all_found(body))


@dataclass(frozen=True, slots=True)
class Read:
    kind: ClassVar[int] = 39
    handle: int
    pieces: tuple[Piece, ...]

    def body(self) -> bytes:
        return u32(self.handle) + pieces_bytes(self.pieces)

    @classmethod
    def read(cls, body: Body) -> Read:
        return cls(body.u32(), read_pieces(body))


@dataclass(frozen=True, slots=True)
class Data:
    kind: ClassVar[int] = 40
    size: int

    def body(self) -> bytes:
        return u64(self.size)

    @classmethod
    def read(cls, body: Body) -> Data:
        return cls(body.u64())


@dataclass(frozen=True, slots=True)
class Renew:
    kind: ClassVar[int] = 41
    handle: int

    def body(self) -> bytes:
        return u32(self.handle)

    @classmethod
    def read(cls, body: Body) -> Renew:
        return cls(body.u32())


@dataclass(frozen=True, slots=True)
class Forget:
    kind: ClassVar[int] = 42
    handle: int
    shuffle: int

    def body(self) -> bytes:
        return u32(self.handle) + u32(self.shuffle)

    @classmethod
    def read(cls, body: Body) -> Forget:
        return cls(body.u32(), body.u32())


@dataclass(frozen=True, slots=True)
class Ended:
    kind: ClassVar[int] = 43
    handle: int

    def body(self) -> bytes:
        return u32(self.handle)

    @classmethod
    def read(cls, body: Body) -> Ended:
        return cls(body.u32())


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One end of a lane: all that the other needs to connect its queue pair to this one.

    Parameters
    ----------
    number, psn
        Of the queue pair, and of its first packet; 24 bits.
    lid, gid
        Where its port is. `lid` is 0 on Ethernet.
    mtu
        The port's, as verbs count: 1 for 256 bytes, 5 for 4096.
    reads
        READs that it can have, or serve, at a time.
    """

    number: int
    psn: int
    lid: int
    mtu: int
    reads: int
    gid: bytes

    def body(self) -> bytes:
        return u32(self.number) + u32(self.psn) + u16(self.lid) + u8(self.mtu) + u8(self.reads) + self.gid

    @classmethod
    def read(cls, body: Body) -> Endpoint:
        end = cls(body.u32(), body.u32(), body.u16(), body.u8(), body.u8(), body.raw(GID_BYTES))
        if max(end.number, end.psn) > _MOST_24 or not 1 <= end.mtu <= 5 or not end.reads:
            raise malformed("no queue pair has such numbers")
        return end


@dataclass(frozen=True, slots=True)
class Connect:
    kind: ClassVar[int] = 44
    handle: int
    end: Endpoint

    def body(self) -> bytes:
        return u32(self.handle) + self.end.body()

    @classmethod
    def read(cls, body: Body) -> Connect:
        return cls(body.u32(), Endpoint.read(body))


@dataclass(frozen=True, slots=True)
class Connected:
    kind: ClassVar[int] = 45
    lane: int
    size: int
    end: Endpoint

    def body(self) -> bytes:
        return u32(self.lane) + u64(self.size) + self.end.body()

    @classmethod
    def read(cls, body: Body) -> Connected:
        return cls(body.u32(), body.u64(), Endpoint.read(body))


@dataclass(frozen=True, slots=True)
class Stage:
    kind: ClassVar[int] = 46
    lane: int
    pieces: tuple[Piece, ...]

    def body(self) -> bytes:
        return u32(self.lane) + pieces_bytes(self.pieces)

    @classmethod
    def read(cls, body: Body) -> Stage:
        return cls(body.u32(), read_pieces(body))


@dataclass(frozen=True, slots=True)
class Staged:
    kind: ClassVar[int] = 47
    lease: int
    address: int
    rkey: int

    def body(self) -> bytes:
        return u32(self.lease) + u64(self.address) + u32(self.rkey)

    @classmethod
    def read(cls, body: Body) -> Staged:
        return cls(body.u32(), body.u64(), body.u32())


@dataclass(frozen=True, slots=True)
class Unstage:
    kind: ClassVar[int] = 48
    lane: int
    lease: int

    def body(self) -> bytes:
        return u32(self.lane) + u32(self.lease)

    @classmethod
    def read(cls, body: Body) -> Unstage:
        return cls(body.u32(), body.u32())


@dataclass(frozen=True, slots=True)
class Part:
    kind: ClassVar[int] = 49
    lane: int

    def body(self) -> bytes:
        return u32(self.lane)

    @classmethod
    def read(cls, body: Body) -> Part:
        return cls(body.u32())


PEER: dict[int, Callable[[Body], Message]] = {
    each.kind: each.read
    for each in (
        Greet,
        Prove,
        Proved,
        Attach,
        Attached,
        Locate,
        Located,
        Read,
        Data,
        Renew,
        Forget,
        Ended,
        Connect,
        Connected,
        Stage,
        Staged,
        Unstage,
        Part,
        Ok,
        Error,
    )
}
"""The peer protocol: kind -> how its body is read."""
