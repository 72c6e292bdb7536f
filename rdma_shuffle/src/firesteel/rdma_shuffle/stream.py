"""A connection as frames: cuts bytes into frames, holds them to their limits and tags, lands data where it belongs.

Bytes that follow a DATA frame are received by the kernel straight into the memory they are for. Reading a piece of them
and changing where the next goes are steps of one event loop, so that a read which was given up writes nothing after that.
"""

from __future__ import annotations

import asyncio
import os
import struct
from collections.abc import Sequence
from itertools import groupby
from typing import Protocol

from firesteel.rdma_shuffle.blocks import FileExtent
from firesteel.rdma_shuffle.codec import HEAD, MAX_FRAME_UNPROVED, Frame, frame
from firesteel.rdma_shuffle.fault import Reason, ShuffleFault, malformed
from firesteel.rdma_shuffle.messages import Message
from firesteel.rdma_shuffle.proof import TAG_BYTES, Seal

_CHUNK = 1 << 16
_SMALL = 4 + MAX_FRAME_UNPROVED
_SCRATCH = 1 << 18
_LOAD = 1 << 20
_PARTING_S = 5.0
_LENGTH = struct.Struct(">I")
_HEAD = struct.Struct(">BI")


class Listener(Protocol):
    """Who is told what comes. None of these may wait."""

    def connected(self, stream: FrameStream) -> None: ...

    def frame(self, frame: Frame) -> None:
        """A frame came. A `ShuffleFault` from here ends the connection."""
        ...

    def landed(self) -> None:
        """The bytes behind a DATA frame are all there."""
        ...

    def broke(self, fault: ShuffleFault) -> None:
        """What came is no frame, or was refused; nothing more is read."""
        ...

    def lost(self, error: Exception | None) -> None:
        """The connection is over."""
        ...


class FrameStream(asyncio.BufferedProtocol):
    """One connection, either side of it."""

    def __init__(self, listener: Listener) -> None:
        self.limit = MAX_FRAME_UNPROVED
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
        chunk = _CHUNK if self.limit > MAX_FRAME_UNPROVED else _SMALL
        if not held and len(self._buffer) == chunk:
            self._start = self._end = 0
        if self._start or self._wanted > len(self._buffer):
            # Grows with what has come, not with what a frame claims to be.
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
                found = self._next()
                if found is None:
                    return
                self._listener.frame(found)
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
            raise malformed(f"a frame of {length} bytes")
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
        """The next `count` bytes are no frames: they go into `view`, or nowhere."""
        if view is not None and len(view) != count:
            raise ValueError(f"{count} bytes for a view of {len(view)}")
        self._sink, self._sink_left = view, count
        if not count:
            self._listener.landed()

    def discard(self) -> None:
        """Nothing more goes into the view."""
        self._sink = None

    def pause(self) -> None:
        """Read nothing more: too much is unanswered."""
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
        """Send a frame; returns when the connection takes more.

        Raises
        ------
        ConnectionError
            It is lost.
        """
        async with self._writing:
            self.post(message, request)
            await self.drained()

    async def send_files(self, message: Message, request: int, extents: Sequence[FileExtent]) -> None:
        """Send a frame, and behind it parts of files: small ones gathered, large ones by the kernel without a copy."""
        async with self._writing:
            self.post(message, request)
            gathered = bytearray()
            for path, parts in groupby(joined(extents), key=lambda each: each.path):
                file = opened(path)
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
            # sendfile would wait for the disk inside the event loop.
            await loop.run_in_executor(None, _load, file, offset, length)
        with os.fdopen(file, "rb", buffering=0, closefd=False) as source:
            sent = await loop.sendfile(self._transport, source, offset, length, fallback=False)
        self.sent += sent
        if sent != length:
            raise _shorter()

    def post(self, message: Message, request: int) -> None:
        """Write a frame now. Only for connections that send no files, and with `drained` after it."""
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
        """Wait until the connection takes more."""
        await self._writable.wait()
        if self._closed:
            raise ConnectionResetError("the connection is lost")

    def close(self) -> None:
        """End it when what was written is sent, or the other side has had time to take it. Idempotent."""
        if self._transport and not self._closed:
            self._transport.close()
            asyncio.get_running_loop().call_later(_PARTING_S, self._transport.abort)

    def abort(self) -> None:
        """End it now; nothing more lands anywhere. Idempotent."""
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
    """Neighbours in one file as one."""
    joined: list[FileExtent] = []
    for each in extents:
        last = joined[-1] if joined else None
        if last and last.path == each.path and last.offset + last.length == each.offset:
            joined[-1] = FileExtent(last.path, last.offset, last.length + each.length)
        else:
            joined.append(each)
    return joined


def opened(path: str) -> int:
    """A descriptor to read from, which the caller closes. A file object takes twice as long, and there is a file a map."""
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def _exactly(file: int, offset: int, length: int) -> bytes:
    data = os.pread(file, length, offset)
    if len(data) != length:
        raise _shorter()
    return data


def _in_memory(file: int, offset: int, length: int) -> bool:
    """Whether the page cache seems to hold it: its first and last page are asked."""
    byte = [bytearray(1)]
    try:
        return all(os.preadv(file, byte, at, os.RWF_NOWAIT) == 1 for at in (offset, offset + length - 1))
    except OSError:  # EAGAIN: not there; EOPNOTSUPP: this file system does not tell
        return False


def _load(file: int, offset: int, length: int) -> None:
    scratch = [bytearray(_LOAD)]
    for at in range(offset, offset + length, _LOAD):
        os.preadv(file, scratch, at)
