"""A connection as a stream of frames. It splits bytes into frames, checks limits and tags, and receives data in place.

The kernel writes the bytes after a DATA frame directly into their target memory. Receiving them and changing the target
both happen on the event loop, so a cancelled read writes nothing after its cancellation.
"""

from __future__ import annotations

import asyncio
import os
import struct
from collections.abc import Sequence
from itertools import groupby
from typing import Protocol

from firesteel.rdma_shuffle.wire.authentication import TAG_BYTES, Seal
from firesteel.rdma_shuffle.wire.blocks import FileExtent
from firesteel.rdma_shuffle.wire.codec import HEAD, MAX_FRAME_UNAUTHENTICATED, Frame, frame
from firesteel.rdma_shuffle.wire.fault import Reason, ShuffleFault, malformed
from firesteel.rdma_shuffle.wire.message import Message

_CHUNK = 1 << 16
_SMALL = 4 + MAX_FRAME_UNAUTHENTICATED
_SCRATCH = 1 << 18
_LOAD = 1 << 20
_CLOSE_S = 5.0
_LENGTH = struct.Struct(">I")
_HEAD = struct.Struct(">BI")


class Listener(Protocol):
    """The receiver of the events of a stream. Its methods must not block."""

    def connected(self, stream: FrameStream) -> None: ...

    def frame(self, frame: Frame) -> None:
        """Handle a frame. A `ShuffleFault` from here ends the connection."""
        ...

    def landed(self) -> None:
        """Handle the arrival of the last byte after a DATA frame."""
        ...

    def broke(self, fault: ShuffleFault) -> None:
        """Handle invalid or refused input. Nothing more is read."""
        ...

    def lost(self, error: Exception | None) -> None:
        """Handle the end of the connection."""
        ...


class FrameStream(asyncio.BufferedProtocol):
    """One side of a connection."""

    def __init__(self, listener: Listener) -> None:
        self.limit = MAX_FRAME_UNAUTHENTICATED
        self.seal: Seal | None = None
        self.received = 0
        self.sent = 0
        self._listener = listener
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray(_SMALL)
        self._start = self._end = 0
        self._wanted = 0
        self._sink: memoryview | None = None
        self._sink_left = 0
        self._paused = False
        self._closed = False
        self._writing = asyncio.Lock()
        self._writable = asyncio.Event()
        self._writable.set()

    # -- asyncio's side ------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._listener.connected(self)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's signature
        if self._sink_left:
            if self._sink is not None:
                return self._sink[len(self._sink) - self._sink_left :]
            return memoryview(bytearray(min(self._sink_left, _SCRATCH)))
        held = self._end - self._start
        chunk = _CHUNK if self.limit > MAX_FRAME_UNAUTHENTICATED else _SMALL
        if not held and len(self._buffer) == chunk:
            self._start = self._end = 0
        if self._start or self._wanted > len(self._buffer):
            # The buffer grows with the received bytes, not with the length that a frame claims.
            size = max(chunk, min(self._wanted, 2 * held + _CHUNK))
            self._buffer = bytearray(self._buffer[self._start : self._end]).ljust(size, b"\0")
            self._start, self._end = 0, held
        return memoryview(self._buffer)[self._end :]

    def buffer_updated(self, nbytes: int) -> None:
        self.received += nbytes
        if self._sink_left:
            self._land(nbytes)
        else:
            self._end += nbytes
        self._read_on()

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed = True
        self._sink = None
        self._writable.set()
        self._listener.lost(exc)

    # -- reading -------------------------------------------------------------------------------------------------

    def _read_on(self) -> None:
        try:
            while not self._closed and not self._paused:
                if self._sink_left:
                    held = min(self._sink_left, self._end - self._start)
                    if not held:
                        return
                    if self._sink is not None:
                        at = len(self._sink) - self._sink_left
                        self._sink[at : at + held] = memoryview(self._buffer)[self._start : self._start + held]
                    self._start += held
                    self._land(held)
                    continue
                frame = self._next()
                if frame is None:
                    return
                self._listener.frame(frame)
        except ShuffleFault as fault:
            self._paused = True
            if self._transport and not self._closed:
                self._transport.pause_reading()
            self._listener.broke(fault)

    def _next(self) -> Frame | None:
        held = self._end - self._start
        if held < _LENGTH.size:
            self._wanted = 0
            return None
        (length,) = _LENGTH.unpack_from(self._buffer, self._start)
        tag_bytes = TAG_BYTES if self.seal else 0
        if not HEAD + tag_bytes <= length <= self.limit:
            raise malformed(f"a frame has {length} bytes; expected {HEAD + tag_bytes} to {self.limit}")
        if held < _LENGTH.size + length:
            self._wanted = _LENGTH.size + length
            return None
        self._wanted = 0
        at = self._start + _LENGTH.size
        end = at + length
        self._start = end
        kind, request = _HEAD.unpack_from(self._buffer, at)
        body = bytes(self._buffer[at + HEAD : end - tag_bytes])
        if self.seal:
            self.seal.check(kind, request, body, bytes(self._buffer[end - tag_bytes : end]))
        return Frame(kind, request, body)

    def _land(self, count: int) -> None:
        self._sink_left -= count
        if not self._sink_left:
            self._sink = None
            self._listener.landed()

    def land(self, view: memoryview | None, count: int) -> None:
        """Receive the next `count` bytes, which are not frames, into `view`, or drop them."""
        if view is not None and len(view) != count:
            raise ValueError(f"the view has {len(view)} bytes; expected {count}")
        self._sink, self._sink_left = view, count
        if not count:
            self._listener.landed()

    def discard(self) -> None:
        """Drop the rest of the data instead of writing it into the view."""
        self._sink = None

    def pause(self) -> None:
        """Stop reading until `resume`."""
        if not self._paused and not self._closed and self._transport:
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._paused and not self._closed and self._transport:
            self._paused = False
            self._transport.resume_reading()
            self._read_on()

    # -- writing -------------------------------------------------------------------------------------------------

    async def send(self, message: Message, request: int) -> None:
        """Send a frame. Return when the connection accepts more.

        Raises
        ------
        ConnectionError
            The connection is lost.
        """
        async with self._writing:
            self.post(message, request)
            await self.drained()

    async def send_files(self, message: Message, request: int, extents: Sequence[FileExtent]) -> None:
        """Send a frame and then parts of files. Small parts are gathered; sendfile sends large ones without a copy."""
        async with self._writing:
            self.post(message, request)
            gathered = bytearray()
            for path, parts in groupby(joined(extents), key=lambda extent: extent.path):
                file = open_for_reading(path)
                try:
                    for part in parts:
                        if part.length < _CHUNK:
                            gathered += _exactly(file, part.offset, part.length)
                        if part.length >= _CHUNK or len(gathered) >= _SCRATCH:
                            self._put(gathered)
                            gathered = bytearray()
                            await self.drained()
                        if part.length >= _CHUNK:
                            await self._send_file(file, part.offset, part.length)
                finally:
                    os.close(file)
            self._put(gathered)
            await self.drained()

    async def _send_file(self, file: int, offset: int, length: int) -> None:
        loop = asyncio.get_running_loop()
        if self._transport is None or self._closed:
            raise ConnectionResetError("the connection is lost")
        if not _in_memory(file, offset, length):
            # sendfile would block the event loop on the disk.
            await loop.run_in_executor(None, _load, file, offset, length)
        with os.fdopen(file, "rb", buffering=0, closefd=False) as source:
            sent = await loop.sendfile(self._transport, source, offset, length, fallback=False)
        self.sent += sent
        if sent != length:
            raise _shorter()

    def post(self, message: Message, request: int) -> None:
        """Write a frame at once. Only for connections that send no files. Call `drained` after it."""
        body = message.body()
        tag = self.seal.tag(message.kind, request, body) if self.seal else b""
        self._put(frame(message.kind, request, body, tag))

    def _put(self, data: bytes | bytearray) -> None:
        if self._transport is None or self._closed or self._transport.is_closing():
            raise ConnectionResetError("the connection is lost")
        if data:
            self.sent += len(data)
            self._transport.write(data)

    async def drained(self) -> None:
        """Wait until the connection accepts more."""
        await self._writable.wait()
        if self._closed:
            raise ConnectionResetError("the connection is lost")

    def close(self) -> None:
        """Close after the written bytes are sent, or after a timeout. Idempotent."""
        if self._transport and not self._closed:
            self._transport.close()
            asyncio.get_running_loop().call_later(_CLOSE_S, self._transport.abort)

    def abort(self) -> None:
        """Close at once. Nothing is received any more. Idempotent."""
        self._sink = None
        if self._transport:
            self._transport.abort()

    @property
    def transport(self) -> asyncio.Transport:
        assert self._transport is not None
        return self._transport


def _shorter() -> ShuffleFault:
    return ShuffleFault(Reason.CORRUPT, "a map output's file is shorter than its record")


def joined(extents: Sequence[FileExtent]) -> list[FileExtent]:
    """Join adjacent extents of the same file."""
    joined: list[FileExtent] = []
    for extent in extents:
        last = joined[-1] if joined else None
        if last and last.path == extent.path and last.offset + last.length == extent.offset:
            joined[-1] = FileExtent(last.path, last.offset, last.length + extent.length)
        else:
            joined.append(extent)
    return joined


def open_for_reading(path: str) -> int:
    """Return a descriptor, which the caller closes. A file object costs twice the time, and each map has a file."""
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def _exactly(file: int, offset: int, length: int) -> bytes:
    data = os.pread(file, length, offset)
    if len(data) != length:
        raise _shorter()
    return data


def _in_memory(file: int, offset: int, length: int) -> bool:
    """Whether the page cache probably holds the extent: it holds its first and its last page."""
    byte = [bytearray(1)]
    try:
        return all(os.preadv(file, byte, at, os.RWF_NOWAIT) == 1 for at in (offset, offset + length - 1))
    except OSError:  # EAGAIN: not cached; EOPNOTSUPP: the file system cannot tell
        return False


def _load(file: int, offset: int, length: int) -> None:
    scratch = [bytearray(_LOAD)]
    for at in range(offset, offset + length, _LOAD):
        os.preadv(file, scratch, at)
