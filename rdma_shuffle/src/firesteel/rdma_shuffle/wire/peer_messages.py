"""The peer messages of PROTOCOL.md, between services."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Annotated, Self

from firesteel.rdma_shuffle.wire.blocks import Found, Missing, Piece, Range, checked
from firesteel.rdma_shuffle.wire.codec import Body, u32
from firesteel.rdma_shuffle.wire.fault import malformed
from firesteel.rdma_shuffle.wire.message import U8, U16, U32, U64, Field, Mac, Message, Name, Nonce, Text, message
from firesteel.rdma_shuffle.wire.messages import MAX_BLOCKS, Error, Ok, Ranges, found_bytes, read_all_found

GID_BYTES = 16
_PIECE = struct.Struct(">IQIIQQ")
_MAX_24 = (1 << 24) - 1

PEER: dict[int, type[Message]] = {Ok.kind: Ok, Error.kind: Error}
"""The messages of the peer protocol, by kind."""


def _pieces_bytes(pieces: tuple[Piece, ...]) -> bytes:
    return u32(len(pieces)) + b"".join([_PIECE.pack(*piece.range, piece.skip, piece.length) for piece in pieces])


def _read_pieces(body: Body) -> tuple[Piece, ...]:
    data = body.raw(body.count(_PIECE.size, MAX_BLOCKS) * _PIECE.size)
    return tuple([Piece(checked(Range(*fields[:4])), fields[4], fields[5]) for fields in _PIECE.iter_unpack(data)])


Pieces = Annotated[tuple[Piece, ...], Field(_pieces_bytes, _read_pieces)]
_Located = Annotated[
    tuple[Found | Missing, ...],
    Field(lambda results: u32(len(results)) + b"".join(map(found_bytes, results)), read_all_found),
]
_Gid = Annotated[bytes, Field(bytes, lambda body: body.raw(GID_BYTES))]


@message(32, PEER)
class Greet(Message):
    version: U16
    nonce: Nonce


@message(33, PEER)
class Authenticate(Message):
    node: Text
    wanted: Text
    nonce: Nonce
    mac: Mac


@message(34, PEER)
class Authenticated(Message):
    node: Text
    reads: U32
    size: U64
    mac: Mac


@message(35, PEER)
class Attach(Message):
    application: Name
    mac: Mac


@message(36, PEER)
class Attached(Message):
    handle: U32


@message(37, PEER)
class Locate(Message):
    handle: U32
    ranges: Ranges


@message(38, PEER)
class Located(Message):
    results: _Located


@message(39, PEER)
class Read(Message):
    handle: U32
    pieces: Pieces


@message(40, PEER)
class Data(Message):
    size: U64


@message(41, PEER)
class Renew(Message):
    handle: U32


@message(42, PEER)
class Forget(Message):
    handle: U32
    shuffle: U32


@message(43, PEER)
class Ended(Message):
    handle: U32


@dataclass(frozen=True, slots=True)
class Endpoint(Message):
    """One end of a channel, with all that the other end needs to connect its queue pair. It is a part of messages.

    Parameters
    ----------
    number, psn
        Numbers of the queue pair and of its first packet, 24 bits each.
    lid, gid
        Addresses of its port. `lid` is 0 on Ethernet.
    mtu
        MTU of the port in the encoding of verbs: 1 for 256 bytes, 5 for 4096.
    reads
        Maximum number of concurrent READs that it can issue or serve.
    """

    number: U32
    psn: U32
    lid: U16
    mtu: U8
    reads: U8
    gid: _Gid

    @classmethod
    def read(cls, body: Body) -> Self:
        """Read an endpoint. Raises MALFORMED for numbers that no queue pair can have."""
        end = super(Endpoint, cls).read(body)
        if max(end.number, end.psn) > _MAX_24 or not 1 <= end.mtu <= 5 or not end.reads:
            raise malformed("an endpoint has numbers that no queue pair can have")
        return end


End = Annotated[Endpoint, Field(Endpoint.body, Endpoint.read)]


@message(44, PEER)
class Connect(Message):
    handle: U32
    end: End


@message(45, PEER)
class Connected(Message):
    channel: U32
    size: U64
    end: End


@message(46, PEER)
class Stage(Message):
    channel: U32
    pieces: Pieces


@message(47, PEER)
class Staged(Message):
    lease: U32
    address: U64
    rkey: U32


@message(48, PEER)
class Unstage(Message):
    channel: U32
    lease: U32


@message(49, PEER)
class Disconnect(Message):
    channel: U32
