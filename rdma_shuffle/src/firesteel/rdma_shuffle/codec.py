"""Numbers, texts and frames as PROTOCOL.md draws them. Every byte of a peer goes through `Body`, and nothing else raises.

::

    u32 length | u8 type | u32 request | body          length counts what follows it
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

from firesteel.rdma_shuffle.fault import malformed

VERSION = 1
MAX_FRAME = 16 << 20
MAX_FRAME_UNPROVED = 4096
HEAD = 5
NONCE_BYTES = 32
MAC_BYTES = 32
MAX_TEXT = 0xFFFF

_FRAME = struct.Struct(">IBI")


class Frame(NamedTuple):
    """One frame, its body not yet read."""

    kind: int
    request: int
    body: bytes


def frame(kind: int, request: int, body: bytes, tag: bytes = b"") -> bytes:
    """A frame's bytes.

    Raises
    ------
    ShuffleFault
        The frame is over the limit; nothing of it may be sent.
    """
    length = HEAD + len(body) + len(tag)
    if length > MAX_FRAME:
        raise malformed(f"a frame of {length} bytes is over the limit")
    return _FRAME.pack(length, kind, request) + body + tag


class Body:
    """A frame's body, read in order. What is too short, too long or out of range is one error: MALFORMED."""

    __slots__ = ("_at", "_bytes")

    def __init__(self, data: bytes) -> None:
        self._bytes = data
        self._at = 0

    def raw(self, count: int) -> bytes:
        """The next `count` bytes."""
        end = self._at + count
        if end > len(self._bytes):
            raise malformed("the body is cut")
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

    def text(self, most: int = MAX_TEXT) -> str:
        """A `str` of at most `most` bytes."""
        count = self.u16()
        if count > most:
            raise malformed(f"a text of {count} bytes where {most} are allowed")
        try:
            return self.raw(count).decode()
        except UnicodeDecodeError:
            raise malformed("a text is not UTF-8") from None

    def count(self, item_bytes: int, most: int, *, short: bool = False) -> int:
        """How many items follow; refused before any is read if the rest of the body cannot hold them.

        Parameters
        ----------
        item_bytes
            The least that one item takes.
        most
            How many the protocol allows.
        short
            Whether the count is a u16 and not a u32.
        """
        count = self.u16() if short else self.u32()
        if count > most or count * item_bytes > self.left:
            raise malformed(f"{count} items cannot follow")
        return count

    @property
    def left(self) -> int:
        """How many bytes are not read yet."""
        return len(self._bytes) - self._at

    def peek(self) -> bytes:
        """All that is left, which stays to be read."""
        return self._bytes[self._at :]

    def rest(self) -> bytes:
        """All that is left."""
        return self.raw(self.left)

    def end(self) -> None:
        """Nothing is left."""
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
    """A `str`; one that is too long is refused and not cut."""
    data = value.encode()
    if len(data) > MAX_TEXT:
        raise malformed(f"a text of {len(data)} bytes does not fit a frame")
    return u16(len(data)) + data


def detail(value: str) -> bytes:
    """A `str` for people: cut to what any frame can hold."""
    return text(value.encode()[:1024].decode(errors="ignore"))


def texts(values: Sequence[str]) -> bytes:
    """`u16 n, n x str`."""
    if len(values) > MAX_TEXT:
        raise malformed(f"{len(values)} texts do not fit a frame")
    return u16(len(values)) + b"".join(map(text, values))
