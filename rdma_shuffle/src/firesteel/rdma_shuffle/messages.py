"""The messages of PROTOCOL.md as values: each knows its kind and its bytes. `decode` is the only way back."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from firesteel.rdma_shuffle.blocks import (
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
from firesteel.rdma_shuffle.codec import (
    MAC_BYTES,
    MAX_FRAME,
    NONCE_BYTES,
    Body,
    detail,
    text,
    texts,
    u8,
    u16,
    u32,
    u64,
)
from firesteel.rdma_shuffle.fault import Reason, malformed

MAX_BLOCKS = 32_768
MAX_ANSWERED_REDUCES = 524_288
MAX_MILLISECONDS = 600_000
MAX_NAME = 200
SECRET_BYTES = 32

_RANGE = struct.Struct(">IQII")
_FOUND = struct.Struct(">BI")
_FOUND_ONE = struct.Struct(f">BI{ENTRY.size}s")
_SLAB_EXTENT = struct.Struct(">BIQQ")


class Message(Protocol):
    """A message that can be sent."""

    kind: ClassVar[int]

    def body(self) -> bytes:
        """The bytes behind the frame's head."""
        ...


@dataclass(frozen=True, slots=True)
class Challenge:
    kind: ClassVar[int] = 1
    version: int
    nonce: bytes

    def body(self) -> bytes:
        return u16(self.version) + self.nonce

    @classmethod
    def read(cls, body: Body) -> Challenge:
        return cls(body.u16(), body.raw(NONCE_BYTES))


@dataclass(frozen=True, slots=True, repr=False)
class Claim:
    kind: ClassVar[int] = 2
    application: str
    secret: bytes

    def body(self) -> bytes:
        return text(self.application) + self.secret

    @classmethod
    def read(cls, body: Body) -> Claim:
        return cls(body.text(MAX_NAME), body.raw(SECRET_BYTES))


@dataclass(frozen=True, slots=True)
class Hello:
    kind: ClassVar[int] = 3
    application: str
    holder: str
    nonce: bytes
    mac: bytes

    def body(self) -> bytes:
        return text(self.application) + text(self.holder) + self.nonce + self.mac

    @classmethod
    def read(cls, body: Body) -> Hello:
        return cls(body.text(MAX_NAME), body.text(MAX_NAME), body.raw(NONCE_BYTES), body.raw(MAC_BYTES))


@dataclass(frozen=True, slots=True)
class SlabName:
    """A slab that an application may map."""

    slab: int
    path: str
    size: int


@dataclass(frozen=True, slots=True)
class Welcome:
    kind: ClassVar[int] = 4
    mac: bytes
    node: str
    lease_s: int
    folders: tuple[str, ...]
    slabs: tuple[SlabName, ...]

    def body(self) -> bytes:
        slabs = b"".join(u32(each.slab) + text(each.path) + u64(each.size) for each in self.slabs)
        return self.mac + text(self.node) + u32(self.lease_s) + texts(self.folders) + u16(len(self.slabs)) + slabs

    @classmethod
    def read(cls, body: Body) -> Welcome:
        mac, node, lease_s = body.raw(MAC_BYTES), body.text(), body.u32()
        folders = read_texts(body)
        count = body.count(14, 0xFFFF, short=True)
        return cls(
            mac, node, lease_s, folders, tuple(SlabName(body.u32(), body.text(), body.u64()) for _ in range(count))
        )


@dataclass(frozen=True, slots=True)
class Register:
    kind: ClassVar[int] = 5
    shuffle: int
    map_id: int
    data: str
    index: str
    table: Table

    def body(self) -> bytes:
        head = u32(self.shuffle) + u64(self.map_id) + text(self.data) + text(self.index)
        return head + u32(len(self.table)) + self.table.data

    @classmethod
    def read(cls, body: Body) -> Register:
        shuffle, map_id, data, index = body.u32(), body.u64(), body.text(), body.text()
        return cls(shuffle, map_id, data, index, read_table(body, body.count(ENTRY.size, MAX_REDUCES)))


@dataclass(frozen=True, slots=True)
class Fetch:
    kind: ClassVar[int] = 6
    owner: str
    milliseconds: int
    ranges: tuple[Range, ...]

    def body(self) -> bytes:
        return text(self.owner) + u32(self.milliseconds) + ranges_bytes(self.ranges)

    @classmethod
    def read(cls, body: Body) -> Fetch:
        owner, milliseconds = body.text(), body.u32()
        if not 0 < milliseconds <= MAX_MILLISECONDS:
            raise malformed(f"{milliseconds} ms to fetch")
        return cls(owner, milliseconds, read_ranges(body))


@dataclass(frozen=True, slots=True)
class Blocks:
    kind: ClassVar[int] = 7
    lease: int
    found: tuple[Found | Missing, ...]

    def body(self) -> bytes:
        parts = [u64(self.lease), u32(len(self.found))]
        for each in self.found:
            parts.append(found_bytes(each))
            if isinstance(each, Found):
                parts.append(u16(len(each.extents)))
                parts += [_extent_bytes(extent) for extent in each.extents]
        return b"".join(parts)

    @classmethod
    def read(cls, body: Body) -> Blocks:
        lease = body.u64()
        return cls(lease, tuple(cls._found(body) for _ in range(body.count(3, MAX_BLOCKS))))

    @staticmethod
    def _found(body: Body) -> Found | Missing:
        found = read_found(body)
        if isinstance(found, Missing):
            return found
        return Found(found.table, tuple(_read_extent(body) for _ in range(body.count(19, 0xFFFF, short=True))))


@dataclass(frozen=True, slots=True)
class Release:
    kind: ClassVar[int] = 8
    lease: int

    def body(self) -> bytes:
        return u64(self.lease)

    @classmethod
    def read(cls, body: Body) -> Release:
        return cls(body.u64())


@dataclass(frozen=True, slots=True)
class Remove:
    kind: ClassVar[int] = 9
    shuffle: int
    owners: tuple[str, ...] = ()

    def body(self) -> bytes:
        return u32(self.shuffle) + texts(self.owners)

    @classmethod
    def read(cls, body: Body) -> Remove:
        return cls(body.u32(), read_texts(body))


@dataclass(frozen=True, slots=True)
class End:
    kind: ClassVar[int] = 10
    owners: tuple[str, ...] = ()

    def body(self) -> bytes:
        return texts(self.owners)

    @classmethod
    def read(cls, body: Body) -> End:
        return cls(read_texts(body))


@dataclass(frozen=True, slots=True)
class Ping:
    kind: ClassVar[int] = 11
    owners: tuple[str, ...] = ()

    def body(self) -> bytes:
        return texts(self.owners)

    @classmethod
    def read(cls, body: Body) -> Ping:
        return cls(read_texts(body))


@dataclass(frozen=True, slots=True)
class Ok:
    kind: ClassVar[int] = 12

    def body(self) -> bytes:
        return b""

    @classmethod
    def read(cls, _body: Body) -> Ok:
        return cls()


@dataclass(frozen=True, slots=True)
class Error:
    kind: ClassVar[int] = 13
    reason: Reason
    detail: str

    def body(self) -> bytes:
        return u8(self.reason) + detail(self.detail)

    @classmethod
    def read(cls, body: Body) -> Error:
        return cls(Reason.of(body.u8()), body.text())


@dataclass(frozen=True, slots=True)
class Status:
    kind: ClassVar[int] = 14

    def body(self) -> bytes:
        return b""

    @classmethod
    def read(cls, _body: Body) -> Status:
        return cls()


@dataclass(frozen=True, slots=True)
class StatusIs:
    kind: ClassVar[int] = 15
    json: str

    def body(self) -> bytes:
        return self.json.encode()

    @classmethod
    def read(cls, body: Body) -> StatusIs:
        try:
            return cls(body.rest().decode())
        except UnicodeDecodeError:
            raise malformed("the status is not UTF-8") from None


@dataclass(frozen=True, slots=True)
class Told:
    kind: ClassVar[int] = 16
    untold: tuple[tuple[str, Reason], ...] = ()

    def body(self) -> bytes:
        return u16(len(self.untold)) + b"".join(text(owner) + u8(reason) for owner, reason in self.untold)

    @classmethod
    def read(cls, body: Body) -> Told:
        count = body.count(3, 0xFFFF, short=True)
        return cls(tuple((body.text(), Reason.of(body.u8())) for _ in range(count)))


def ranges_bytes(ranges: Sequence[Range]) -> bytes:
    """`u32 n, n x (u32 shuffle | u64 map | u32 first | u32 end)`."""
    return u32(len(ranges)) + b"".join([_RANGE.pack(*each) for each in ranges])


def read_ranges(body: Body) -> tuple[Range, ...]:
    """Ranges whose answer fits a frame."""
    data = body.raw(body.count(_RANGE.size, MAX_BLOCKS) * _RANGE.size)
    ranges = tuple([checked(Range(*each)) for each in _RANGE.iter_unpack(data)])
    if sum([each.end - each.first for each in ranges]) > MAX_ANSWERED_REDUCES:
        raise malformed(f"more than {MAX_ANSWERED_REDUCES} reduces are asked for at once")
    return ranges


def read_table(body: Body, count: int) -> Table:
    return Table(body.raw(count * ENTRY.size))


def read_texts(body: Body) -> tuple[str, ...]:
    return tuple(body.text() for _ in range(body.count(2, 0xFFFF, short=True)))


def found_bytes(found: Found | Missing) -> bytes:
    """Lengths and checksums, or a reason: what BLOCKS and LOCATED share."""
    if isinstance(found, Missing):
        return u8(found.reason) + detail(found.detail)
    return _FOUND.pack(0, len(found.table)) + found.table.data


def read_found(body: Body) -> Found | Missing:
    reason = body.u8()
    if reason:
        return Missing(Reason.of(reason), body.text())
    return Found(read_table(body, body.count(ENTRY.size, MAX_ANSWERED_REDUCES)))


def read_all_found(body: Body) -> tuple[Found | Missing, ...]:
    """`u32 n, n x found`, up to the end of the body.

    A reducer mostly asks for one block of each map, and all are there: then all have one length, and are read in one step.
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
    raise malformed(f"an extent of kind {kind}")


CLIENT: dict[int, Callable[[Body], Message]] = {
    each.kind: each.read
    for each in (
        Challenge,
        Claim,
        Hello,
        Welcome,
        Register,
        Fetch,
        Blocks,
        Release,
        Remove,
        End,
        Ping,
        Ok,
        Error,
        Status,
        StatusIs,
        Told,
    )
}
"""The client protocol: kind -> how its body is read."""


def decode(kind: int, data: bytes, messages: dict[int, Callable[[Body], Message]] = CLIENT) -> Message:
    """The message of a frame.

    Raises
    ------
    ShuffleFault
        MALFORMED, and nothing else, whatever the bytes are.
    """
    if kind not in messages:
        raise malformed(f"a frame of type {kind}")
    if len(data) > MAX_FRAME:
        raise malformed(f"a body of {len(data)} bytes")
    body = Body(data)
    message = messages[kind](body)
    body.end()
    return message
