"""The messages between services, as PROTOCOL.md draws them."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from firesteel.rdma_shuffle.blocks import Found, Missing, Piece, Range, checked
from firesteel.rdma_shuffle.codec import MAC_BYTES, NONCE_BYTES, Body, text, u16, u32, u64
from firesteel.rdma_shuffle.messages import (
    MAX_BLOCKS,
    MAX_NAME,
    Error,
    Message,
    Ok,
    found_bytes,
    ranges_bytes,
    read_found,
    read_ranges,
)

_PIECE = struct.Struct(">IQIIQQ")


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
        return cls(tuple(read_found(body) for _ in range(body.count(3, MAX_BLOCKS))))


@dataclass(frozen=True, slots=True)
class Read:
    kind: ClassVar[int] = 39
    handle: int
    pieces: tuple[Piece, ...]

    def body(self) -> bytes:
        each = [_PIECE.pack(*one.range, one.skip, one.length) for one in self.pieces]
        return u32(self.handle) + u32(len(self.pieces)) + b"".join(each)

    @classmethod
    def read(cls, body: Body) -> Read:
        handle = body.u32()
        data = body.raw(body.count(_PIECE.size, MAX_BLOCKS) * _PIECE.size)
        return cls(
            handle,
            tuple([Piece(checked(Range(*each[:4])), each[4], each[5]) for each in _PIECE.iter_unpack(data)]),
        )


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
        Ok,
        Error,
    )
}
"""The peer protocol: kind -> how its body is read."""
