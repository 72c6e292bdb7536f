"""Numbers, strings and frames of PROTOCOL.md. `Body` reads untrusted bytes and raises nothing but MALFORMED.

::

    u32 length | u8 type | u32 request | body          length counts the bytes that follow it
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

from firesteel.rdma_shuffle.wire.fault import malformed

VERSION = 1
MAX_FRAME = 16 << 20
MAX_FRAME_UNAUTHENTICATED = 4096
HEAD = 5
NONCE_BYTES = 32
MAC_BYTES = 32
MAX_TEXT = 0xFFFF

_FRAME = struct.Struct(">IBI")


class Frame(NamedTuple):
    """One frame with an unparsed body."""

    kind: int
    request: int
    body: bytes


def frame(kind: int, request: int, body: bytes, tag: bytes = b"") -> bytes:
    """Return the bytes of a frame.

    Raises
    ------
    ShuffleFault
        MALFORMED: the frame is above the limit.
    """
    length = HEAD + len(body) + len(tag)
    if length > MAX_FRAME:
        raise malformed(f"a frame has {length} bytes, more than the limit of {MAX_FRAME}")
    return _FRAME.pack(length, kind, request) + body + tag


class Body:
    """A reader of a frame's body. It raises MALFORMED if the body is too short, too long or out of range."""

    __slots__ = ("_at", "_bytes")

    def __init__(self, data: bytes) -> None:
        self._bytes = data
        self._at = 0

    def raw(self, count: int) -> bytes:
        """Return the next `count` bytes."""
        end = self._at + count
        if end > len(self._bytes):
            raise malformed("the body is truncated")
        piece = self._bytes[self._at : end]
        self._at = end
        return piece

    def u8(self) -> int:
        return self.raw(1)[0]

    def u16(self) -> int:
        return int.from_bytes(self.raw(2), "big")

    def u32(self) -> int:
        return int.from_bytes(self.raw(4), "big")

    def u64(self) -> int:
        return int.from_bytes(self.raw(8), "big")

    def text(self, limit: int = MAX_TEXT) -> str:
        """Return a string of at most `limit` bytes."""
        count = self.u16()
        if count > limit:
            raise malformed(f"a string has {count} bytes, more than the limit of {limit}")
        data = self.raw(count)
        if b"\0" in data:  # it ends a path or a host name for the operating system
            raise malformed("a string contains a NUL byte")
        try:
            return data.decode()
        except UnicodeDecodeError:
            raise malformed("a string is not UTF-8") from None

    def count(self, item_bytes: int, limit: int, *, short: bool = False) -> int:
        """Return the number of items that follow. Raises before any is read if the rest of the body is too short for them.

        Parameters
        ----------
        item_bytes
            The minimum size of an item.
        limit
            The maximum number of items.
        short
            Whether the count is a u16 instead of a u32.
        """
        count = self.u16() if short else self.u32()
        if count > limit or count * item_bytes > self.left:
            raise malformed(f"{count} items are announced, more than the body can hold")
        return count

    @property
    def left(self) -> int:
        """Bytes that are not read yet."""
        return len(self._bytes) - self._at

    def peek(self) -> bytes:
        """Return the unread bytes without reading them."""
        return self._bytes[self._at :]

    def rest(self) -> bytes:
        """Return the unread bytes."""
        return self.raw(self.left)

    def end(self) -> None:
        """Raise MALFORMED if bytes are left."""
        if self.left:
            raise malformed("the body is too long")


def u8(value: int) -> bytes:
    return value.to_bytes(1, "big")


def u16(value: int) -> bytes:
    return value.to_bytes(2, "big")


def u32(value: int) -> bytes:
    return value.to_bytes(4, "big")


def u64(value: int) -> bytes:
    return value.to_bytes(8, "big")


def text(value: str) -> bytes:
    """Encode a string. Raises if it is too long."""
    data = value.encode()
    if len(data) > MAX_TEXT:
        raise malformed(f"a string of {len(data)} bytes does not fit a frame")
    return u16(len(data)) + data


def detail(value: str) -> bytes:
    """Encode a message for people, truncated to 1,024 bytes."""
    return text(value.encode()[:1024].decode(errors="ignore"))


def texts(values: Sequence[str]) -> bytes:
    """`u16 n, n x str`."""
    if len(values) > MAX_TEXT:
        raise malformed(f"{len(values)} strings do not fit a frame")
    return u16(len(values)) + b"".join(map(text, values))
