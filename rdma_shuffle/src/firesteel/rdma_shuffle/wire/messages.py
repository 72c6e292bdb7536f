"""The client messages of PROTOCOL.md, and the parts that peer messages share with them."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from firesteel.rdma_shuffle.wire.blocks import (
    ENTRY,
    MAX_REDUCES,
    Extent,
    FileExtent,
    Found,
    Missing,
    Range,
    SlabExtent,
    Table,
    checked,
)
from firesteel.rdma_shuffle.wire.codec import MAX_FRAME, Body, detail, text, u8, u16, u32, u64
from firesteel.rdma_shuffle.wire.fault import Reason, malformed
from firesteel.rdma_shuffle.wire.message import (
    U16,
    U32,
    U64,
    Field,
    Mac,
    Message,
    Name,
    Nonce,
    Secret,
    Text,
    Texts,
    message,
)

MAX_BLOCKS = 32_768
MAX_ANSWERED_REDUCES = 524_288
MAX_MILLISECONDS = 600_000

_RANGE = struct.Struct(">IQII")
_FOUND = struct.Struct(">BI")
_FOUND_ONE = struct.Struct(f">BI{ENTRY.size}s")
_SLAB_EXTENT = struct.Struct(">BIQQ")

CLIENT: dict[int, type[Message]] = {}
"""The messages of the client protocol, by kind."""


def ranges_bytes(ranges: Sequence[Range]) -> bytes:
    """`u32 n, n x (u32 shuffle | u64 map | u32 first | u32 end)`."""
    return u32(len(ranges)) + b"".join([_RANGE.pack(*block_range) for block_range in ranges])


def read_ranges(body: Body) -> tuple[Range, ...]:
    """Read ranges whose answer fits a frame."""
    data = body.raw(body.count(_RANGE.size, MAX_BLOCKS) * _RANGE.size)
    ranges = tuple([checked(Range(*fields)) for fields in _RANGE.iter_unpack(data)])
    if sum([block_range.end - block_range.first for block_range in ranges]) > MAX_ANSWERED_REDUCES:
        raise malformed(f"a request is for more than {MAX_ANSWERED_REDUCES} reduces")
    return ranges


def found_bytes(result: Found | Missing) -> bytes:
    """Encode the part that BLOCKS and LOCATED share: lengths and checksums, or a reason."""
    if isinstance(result, Missing):
        return u8(result.reason) + detail(result.detail)
    return _FOUND.pack(0, len(result.table)) + result.table.data


def read_found(body: Body) -> Found | Missing:
    reason = body.u8()
    if reason:
        return Missing(Reason.of(reason), body.text())
    return Found(_table(body, MAX_ANSWERED_REDUCES))


def read_all_found(body: Body) -> tuple[Found | Missing, ...]:
    """`u32 n, n x found`, up to the end of the body.

    A reducer mostly requests one block of each map, and all are available. All then have the same length and are parsed in
    one step.
    """
    count = body.count(3, MAX_BLOCKS)
    if body.left == count * _FOUND_ONE.size:
        data = body.peek()
        ones = [
            Found(Table(entry)) for reason, blocks, entry in _FOUND_ONE.iter_unpack(data) if blocks == 1 and not reason
        ]
        if len(ones) == count:
            body.rest()
            return tuple(ones)
    return tuple([read_found(body) for _ in range(count)])


def _extent_bytes(extent: Extent) -> bytes:
    if isinstance(extent, FileExtent):
        return u8(0) + text(extent.path) + u64(extent.offset) + u64(extent.length)
    return _SLAB_EXTENT.pack(1, extent.slab, extent.offset, extent.length)


def _read_extent(body: Body) -> Extent:
    kind = body.u8()
    if kind == 0:
        return FileExtent(body.text(), body.u64(), body.u64())
    if kind == 1:
        return SlabExtent(body.u32(), body.u64(), body.u64())
    raise malformed(f"an extent has the unknown kind {kind}")


def _table(body: Body, limit: int) -> Table:
    return Table(body.raw(body.count(ENTRY.size, limit) * ENTRY.size))


def _results_bytes(results: Sequence[Found | Missing]) -> bytes:
    parts = [u32(len(results))]
    for result in results:
        parts.append(found_bytes(result))
        if isinstance(result, Found):
            parts.append(u16(len(result.extents)))
            parts += [_extent_bytes(extent) for extent in result.extents]
    return b"".join(parts)


def _read_result(body: Body) -> Found | Missing:
    result = read_found(body)
    if isinstance(result, Missing):
        return result
    return Found(result.table, tuple(_read_extent(body) for _ in range(body.count(19, 0xFFFF, short=True))))


def _read_milliseconds(body: Body) -> int:
    milliseconds = body.u32()
    if not 0 < milliseconds <= MAX_MILLISECONDS:
        raise malformed(f"the time to fetch is {milliseconds} ms; expected 1 to {MAX_MILLISECONDS}")
    return milliseconds


def _read_json(body: Body) -> str:
    try:
        return body.rest().decode()
    except UnicodeDecodeError:
        raise malformed("the status is not UTF-8") from None


@dataclass(frozen=True, slots=True)
class SlabName:
    """A slab that an application may map."""

    slab: int
    path: str
    size: int


Ranges = Annotated[tuple[Range, ...], Field(ranges_bytes, read_ranges)]
_TableField = Annotated[
    Table, Field(lambda table: u32(len(table)) + table.data, lambda body: _table(body, MAX_REDUCES))
]
_Slabs = Annotated[
    tuple[SlabName, ...],
    Field(
        lambda slabs: u16(len(slabs)) + b"".join(u32(slab.slab) + text(slab.path) + u64(slab.size) for slab in slabs),
        lambda body: tuple(
            SlabName(body.u32(), body.text(), body.u64()) for _ in range(body.count(14, 0xFFFF, short=True))
        ),
    ),
]
_Results = Annotated[
    tuple[Found | Missing, ...],
    Field(_results_bytes, lambda body: tuple(_read_result(body) for _ in range(body.count(3, MAX_BLOCKS)))),
]
_Failed = Annotated[
    tuple[tuple[str, Reason], ...],
    Field(
        lambda failed: u16(len(failed)) + b"".join(text(owner) + u8(reason) for owner, reason in failed),
        lambda body: tuple((body.text(), Reason.of(body.u8())) for _ in range(body.count(3, 0xFFFF, short=True))),
    ),
]
_Milliseconds = Annotated[int, Field(u32, _read_milliseconds)]
_Json = Annotated[str, Field(str.encode, _read_json)]
_Reason = Annotated[Reason, Field(u8, lambda body: Reason.of(body.u8()))]
_Detail = Annotated[str, Field(detail, Body.text)]


@message(1, CLIENT)
class Challenge(Message):
    version: U16
    nonce: Nonce


@message(2, CLIENT, repr=False)
class Claim(Message):
    application: Name
    secret: Secret


@message(3, CLIENT)
class Hello(Message):
    application: Name
    process: Name
    nonce: Nonce
    mac: Mac


@message(4, CLIENT)
class Welcome(Message):
    mac: Mac
    node: Text
    lease_s: U32
    folders: Texts
    slabs: _Slabs


@message(5, CLIENT)
class Register(Message):
    shuffle: U32
    map_id: U64
    data: Text
    index: Text
    table: _TableField


@message(6, CLIENT)
class Fetch(Message):
    owner: Text
    milliseconds: _Milliseconds
    ranges: Ranges


@message(7, CLIENT)
class Blocks(Message):
    lease: U64
    results: _Results


@message(8, CLIENT)
class Release(Message):
    lease: U64


@message(9, CLIENT)
class Remove(Message):
    shuffle: U32
    owners: Texts = ()


@message(10, CLIENT)
class End(Message):
    owners: Texts = ()


@message(11, CLIENT)
class Ping(Message):
    owners: Texts = ()


@message(12, CLIENT)
class Ok(Message):
    pass


@message(13, CLIENT)
class Error(Message):
    reason: _Reason
    detail: _Detail


@message(14, CLIENT)
class Status(Message):
    pass


@message(15, CLIENT)
class StatusIs(Message):
    json: _Json


@message(16, CLIENT)
class Notified(Message):
    failed: _Failed = ()


def decode(kind: int, data: bytes, protocol: dict[int, type[Message]] = CLIENT) -> Message:
    """Parse the message of a frame.

    Raises
    ------
    ShuffleFault
        MALFORMED for any invalid bytes, and no other reason.
    """
    if kind not in protocol:
        raise malformed(f"a frame has the unknown type {kind}")
    if len(data) > MAX_FRAME:
        raise malformed(f"a body has {len(data)} bytes, more than {MAX_FRAME}")
    body = Body(data)
    parsed = protocol[kind].read(body)
    body.end()
    return parsed
