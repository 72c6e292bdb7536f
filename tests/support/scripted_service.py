"""A node's shuffle service that fails as the test says, for tests of the Java client.

It stores and serves map outputs on one node, in this process, by the protocol of PROTOCOL.md.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import mmap
import os
import secrets
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from google_crc32c import value as crc32c

(CHALLENGE, CLAIM, HELLO, WELCOME, REGISTER, FETCH, BLOCKS, RELEASE, REMOVE, END, PING, OK, ERROR) = range(1, 14)
NOTIFIED = 16
NOT_HERE, UNREACHABLE, TIMEOUT, CORRUPT, NO_SPACE, UNKNOWN, REFUSED, MALFORMED = range(1, 9)


@dataclass(frozen=True, slots=True)
class Output:
    """A map output: the path of its data, and the length and CRC32C of each block."""

    data: str
    index: str
    lengths: tuple[int, ...]
    crcs: tuple[int, ...]

    def wrong(self) -> int:
        """Return blocks whose checksum does not match the file."""
        if not self.data:
            return sum(map(bool, self.crcs))
        with open(self.data, "rb") as file:
            return sum(crc32c(file.read(length)) != crc for length, crc in zip(self.lengths, self.crcs, strict=True))


@dataclass(slots=True)
class Script:
    """The failures. Each can be changed while an application runs."""

    slab_bytes: int = 0  # 0: extents of files; else blocks are lent in shared memory of this size
    on_register: Callable[[int, int], int] = lambda _shuffle, _map: 0  # the reason to refuse, or 0
    on_fetch: Callable[[int, int], int] = lambda _shuffle, _map: 0
    flip: Callable[[int, int], bool] = lambda _shuffle, _map: False  # serve a wrong byte
    hang: Callable[[int], bool] = lambda _kind: False  # never answer a frame of this kind
    drop: Callable[[int], bool] = lambda _kind: False  # close the connection instead of answering


class ScriptedService:
    """Listens on `socket` inside the `with` block."""

    def __init__(self, folder: Path, script: Script | None = None) -> None:
        self.folder = folder
        self.socket = folder / "s"
        self.script = script or Script()
        self.outputs: dict[tuple[str, int, int], Output] = {}
        self.frames: Counter[int] = Counter()
        self.leases: dict[int, tuple[int, int]] = {}
        self.leased = 0
        self.wrong = 0  # checksums that came with outputs and are not of them
        self.blocks = 0
        self.secrets: dict[str, bytes] = {}
        self._lock = threading.RLock()
        self._links = folder / "links"
        self._open: set[socket.socket] = set()
        self._listener: socket.socket | None = None
        self._slab: mmap.mmap | None = None
        self._slab_path = Path("/dev/shm", f"firesteel-test-{os.getpid()}-{secrets.token_hex(4)}")
        self._slab_next = 0
        self._request = threading.local()  # a thread a connection

    def __enter__(self) -> Self:
        self._links.mkdir(parents=True, exist_ok=True)
        if self.script.slab_bytes and self._slab is None:
            descriptor = os.open(self._slab_path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            os.ftruncate(descriptor, self.script.slab_bytes)
            self._slab = mmap.mmap(descriptor, self.script.slab_bytes)
            os.close(descriptor)
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        if self._slab is not None:
            self._slab.close()
            self._slab_path.unlink()

    def start(self) -> None:
        self.socket.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.socket))
        self._listener.listen(64)
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def stop(self) -> None:
        """Stop as a kill does: close every connection and remove the socket."""
        self.socket.unlink(missing_ok=True)
        with self._lock:
            connections, self._open = self._open, set()
        for connection in [self._listener, *connections]:
            if connection is not None:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
                connection.close()
        self._listener = None

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with self._lock:
                    self._open.add(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError, EOFError):
            challenge = secrets.token_bytes(32)
            self._send(connection, CHALLENGE, struct.pack(">H", 1) + challenge, request=0)
            application = ""
            while True:
                kind, self._request.number, body = self._receive(connection)
                self.frames[kind] += 1
                if self.script.hang(kind):
                    continue
                if self.script.drop(kind):
                    return
                if kind == CLAIM:
                    name = body.text()
                    self.secrets.setdefault(name, body.raw(32))
                    (self._links / name).mkdir(exist_ok=True)
                    self._send(connection, OK)
                elif kind == HELLO:
                    application = self._hello(connection, body, challenge)
                elif not application:
                    self._error(connection, REFUSED, "no HELLO")
                elif kind == REGISTER:
                    self._register(connection, application, body)
                elif kind == FETCH:
                    self._fetch(connection, application, body)
                elif kind == RELEASE:
                    with self._lock:
                        self.leases.pop(body.u64())
                elif kind == REMOVE:
                    self._remove(application, body.u32())
                    self._send(connection, NOTIFIED, struct.pack(">H", 0))
                elif kind == END:
                    self._remove(application, None)
                    self._send(connection, NOTIFIED, struct.pack(">H", 0))
                else:
                    self._send(connection, NOTIFIED, struct.pack(">H", 0))

    def _hello(self, connection: socket.socket, body: Body, challenge: bytes) -> str:
        name, _executor, nonce, told = body.text(), body.text(), body.raw(32), body.raw(32)
        key = self.secrets.get(name)
        if key is None:
            self._error(connection, UNKNOWN, name)
            return ""
        if not hmac.compare_digest(told, mac(key, b"client", challenge, nonce, name)):
            self._error(connection, REFUSED, "forged")
            return ""
        slabs = [text(str(self._slab_path)) + struct.pack(">Q", self.script.slab_bytes)] if self._slab else []
        self._send(
            connection,
            WELCOME,
            mac(key, b"server", challenge, nonce, name)
            + text("127.0.0.1")
            + struct.pack(">I", 60)
            + struct.pack(">H", 1)
            + text(str(self._links))
            + struct.pack(">H", len(slabs))
            + b"".join(struct.pack(">I", 7) + slab for slab in slabs),
        )
        return name

    def _register(self, connection: socket.socket, application: str, body: Body) -> None:
        shuffle, map_id, data, index = body.u32(), body.u64(), body.text(), body.text()
        blocks = [(body.u64(), body.u32()) for _ in range(body.u32())]
        if reason := self.script.on_register(shuffle, map_id):
            self._error(connection, reason, "as scripted")
            return
        lengths, crcs = zip(*blocks, strict=True)
        assert (os.path.getsize(data) if data else 0) == sum(lengths)
        output = Output(data, index, lengths, crcs)
        wrong = output.wrong()
        with self._lock:
            self.outputs[application, shuffle, map_id] = output
            self.wrong += wrong
        self._send(connection, OK)

    def _fetch(self, connection: socket.socket, application: str, body: Body) -> None:
        body.text()
        body.u32()
        asked = [(body.u32(), body.u64(), body.u32(), body.u32()) for _ in range(body.u32())]
        answer, start = [], self._slab_next
        for shuffle, map_id, first, end in asked:
            output = self.outputs.get((application, shuffle, map_id))
            reason = NOT_HERE if output is None else self.script.on_fetch(shuffle, map_id)
            if reason or output is None:
                answer.append(bytes([reason]) + text(f"{map_id}"))
                continue
            self.blocks += 1
            flip = self.script.flip(shuffle, map_id)
            answer.append(self._found(output, first, end, flip))
        lease = 0
        if self._slab is not None:
            with self._lock:
                self.leased += 1
                lease = self.leased
                self.leases[lease] = (start, self._slab_next)
        self._send(connection, BLOCKS, struct.pack(">QI", lease, len(asked)) + b"".join(answer))

    def _found(self, output: Output, first: int, end: int, flip: bool) -> bytes:
        offset, length = sum(output.lengths[:first]), sum(output.lengths[first:end])
        sums = zip(output.lengths[first:end], output.crcs[first:end], strict=True)
        head = struct.pack(">BI", 0, end - first) + b"".join(struct.pack(">QI", *pair) for pair in sums)
        if self._slab is None and not flip:
            return head + struct.pack(">HB", 1, 0) + text(output.data) + struct.pack(">QQ", offset, length)
        data = bytearray(Path(output.data).read_bytes()[offset : offset + length])
        if flip:
            data[length // 2] ^= 0x10
        if self._slab is None:
            copy = self.folder / f"flipped-{secrets.token_hex(4)}"
            copy.write_bytes(data)
            return head + struct.pack(">HB", 1, 0) + text(str(copy)) + struct.pack(">QQ", 0, length)
        with self._lock:
            # A ring: what is lent longest ago is written over first, so a use after release shows as wrong data.
            at = self._slab_next if self._slab_next + length <= len(self._slab) else 0
            self._slab[at : at + length] = bytes(data)
            self._slab_next = at + length
        half = length // 2
        extents = struct.pack(">BIQQ", 1, 7, at, half) + struct.pack(">BIQQ", 1, 7, at + half, length - half)
        return head + struct.pack(">H", 2) + extents

    def _remove(self, application: str, shuffle: int | None) -> None:
        with self._lock:
            gone = [key for key in self.outputs if key[0] == application and shuffle in (None, key[1])]
            for output in map(self.outputs.pop, gone):
                for path in filter(None, (output.data, output.index)):
                    Path(path).unlink(missing_ok=True)

    def _error(self, connection: socket.socket, reason: int, detail: str) -> None:
        self._send(connection, ERROR, bytes([reason]) + text(detail))

    def _send(self, connection: socket.socket, kind: int, body: bytes = b"", request: int | None = None) -> None:
        number = self._request.number if request is None else request
        connection.sendall(struct.pack(">IBI", 5 + len(body), kind, number) + body)

    def _receive(self, connection: socket.socket) -> tuple[int, int, Body]:
        (length,) = struct.unpack(">I", exactly(connection, 4))
        frame = exactly(connection, length)
        return frame[0], int.from_bytes(frame[1:5], "big"), Body(frame, 5)


@dataclass(slots=True)
class Body:
    """The bytes of a frame, read in order."""

    bytes: bytes
    at: int = field(default=0)

    def raw(self, count: int) -> bytes:
        self.at += count
        return self.bytes[self.at - count : self.at]

    def u32(self) -> int:
        return int.from_bytes(self.raw(4), "big")

    def u64(self) -> int:
        return int.from_bytes(self.raw(8), "big")

    def text(self) -> str:
        return self.raw(int.from_bytes(self.raw(2), "big")).decode()


def exactly(connection: socket.socket, count: int) -> bytes:
    def parts() -> Iterator[bytes]:
        left = count
        while left:
            part = connection.recv(left)
            if not part:
                raise EOFError
            left -= len(part)
            yield part

    return b"".join(parts())


def mac(key: bytes, side: bytes, challenge: bytes, nonce: bytes, application: str) -> bytes:
    return hmac.digest(key, side + challenge + nonce + application.encode(), hashlib.sha256)


def text(value: str) -> bytes:
    return struct.pack(">H", len(value.encode())) + value.encode()
