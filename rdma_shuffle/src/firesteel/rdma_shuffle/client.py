"""The client protocol in Python: for the status, for `firesteel doctor`, and for tests. Executors speak it in Java.

Blocking, one request at a time. It checks every byte it reads against its CRC32C, as an executor does.
"""

from __future__ import annotations

import mmap
import os
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from firesteel.rdma_shuffle import proof
from firesteel.rdma_shuffle.blocks import Extent, FileExtent, Found, Missing, Range, Table
from firesteel.rdma_shuffle.codec import HEAD, MAX_FRAME, Body, Frame, frame
from firesteel.rdma_shuffle.fault import Reason, ShuffleFault, malformed
from firesteel.rdma_shuffle.messages import (
    Blocks,
    Challenge,
    Claim,
    End,
    Error,
    Fetch,
    Hello,
    Message,
    Ping,
    Register,
    Release,
    Remove,
    Status,
    StatusIs,
    Told,
    Welcome,
    decode,
)


class Client:
    """A connection to a node's service."""

    def __init__(self, path: Path, timeout_s: float = 30.0) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(timeout_s)
        try:
            self._socket.connect(str(path))
            self._number = 0
            self._slabs: dict[int, mmap.mmap] = {}
            challenge = self._answer(0)
        except OSError as error:
            self._socket.close()
            raise ShuffleFault(Reason.UNREACHABLE, f"the service at {path}: {error.strerror or error}") from error
        except ShuffleFault:
            self._socket.close()
            raise
        if not isinstance(challenge, Challenge):
            raise malformed("the service did not begin with CHALLENGE")
        self.nonce = challenge.nonce
        self.welcome: Welcome | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Idempotent. What is lent stays lent until this process ends."""
        self._socket.close()
        for mapped in self._slabs.values():
            mapped.close()
        self._slabs.clear()

    def ask(self, message: Message) -> Message:
        """Send, and wait for the answer.

        Raises
        ------
        ShuffleFault
            The service says so, or is lost (UNREACHABLE).
        """
        self.send(message)
        return self._answer(self._number)

    def send(self, message: Message) -> int:
        """Send; returns the request's number."""
        self._number += 1
        try:
            self._socket.sendall(frame(message.kind, self._number, message.body()))
        except OSError as error:
            raise ShuffleFault(Reason.UNREACHABLE, "the connection to the service is lost") from error
        return self._number

    def _answer(self, number: int) -> Message:
        found = self.receive()
        message = decode(found.kind, found.body)
        if isinstance(message, Error):
            raise ShuffleFault(message.reason, message.detail)
        if found.request != number:
            raise malformed("an answer to another request")
        return message

    def receive(self) -> Frame:
        """The next frame."""
        length = Body(self._exactly(4)).u32()
        if not HEAD <= length <= MAX_FRAME:
            raise malformed(f"a frame of {length} bytes")
        body = Body(self._exactly(length))
        return Frame(body.u8(), body.u32(), body.rest())

    def _exactly(self, count: int) -> bytes:
        data = bytearray(count)
        view, at = memoryview(data), 0
        while at < count:
            try:
                got = self._socket.recv_into(view[at:])
            except TimeoutError as error:
                raise ShuffleFault(Reason.TIMEOUT, "the service did not answer") from error
            except OSError as error:
                raise ShuffleFault(Reason.UNREACHABLE, "the connection to the service is lost") from error
            if not got:
                raise ShuffleFault(Reason.UNREACHABLE, "the service ended the connection")
            at += got
        return bytes(data)

    # -- requests ------------------------------------------------------------------------------------------------

    def claim(self, application: str, secret: bytes) -> None:
        """Set the application's secret on this node."""
        self.ask(Claim(application, secret))

    def hello(self, application: str, secret: bytes, holder: str = "python") -> Welcome:
        """Prove that we know the secret, and have the service prove it."""
        ours = proof.nonce()
        answer = self.ask(Hello(application, holder, ours, proof.client(secret, self.nonce, ours, application)))
        if not isinstance(answer, Welcome):
            raise malformed("HELLO had another answer than WELCOME")
        if not proof.same(answer.mac, proof.server(secret, self.nonce, ours, application)):
            raise ShuffleFault(Reason.REFUSED, "what answers does not know the application's secret")
        self.welcome = answer
        return answer

    def register(self, shuffle: int, map_id: int, data: str, index: str, table: Table) -> None:
        """Hand a map output over."""
        self.ask(Register(shuffle, map_id, data, index, table))

    def fetch(self, owner: str, ranges: Sequence[Range], seconds: float = 20.0) -> Blocks:
        """Ask for blocks; `read` gives their bytes."""
        answer = self.ask(Fetch(owner, int(seconds * 1000), tuple(ranges)))
        if not isinstance(answer, Blocks) or len(answer.found) != len(ranges):
            raise malformed("FETCH had another answer than BLOCKS")
        return answer

    def read(self, found: Found | Missing) -> bytes:
        """The bytes of a range, each block held against its checksum.

        Raises
        ------
        ShuffleFault
            What the service says of a missing one; CORRUPT.
        """
        from google_crc32c import value as crc32c

        if isinstance(found, Missing):
            raise ShuffleFault(found.reason, found.detail)
        data = b"".join(map(self._extent, found.extents))
        offsets = found.table.offsets()
        if len(data) != offsets[-1]:
            raise ShuffleFault(Reason.CORRUPT, "extents do not add up to their blocks")
        for start, end, crc in zip(offsets, offsets[1:], found.table.checksums(), strict=False):
            if crc32c(data[start:end]) != crc:
                raise ShuffleFault(Reason.CORRUPT, f"the block at {start} has another CRC32C")
        return data

    def _extent(self, extent: Extent) -> bytes:
        if isinstance(extent, FileExtent):
            with Path(extent.path).open("rb") as file:
                return os.pread(file.fileno(), extent.length, extent.offset)
        return self.slab(extent.slab)[extent.offset : extent.offset + extent.length]

    def slab(self, number: int) -> mmap.mmap:
        """A slab, mapped read-only."""
        if number not in self._slabs:
            assert self.welcome
            name = next(each for each in self.welcome.slabs if each.slab == number)
            with Path(name.path).open("rb") as file:
                self._slabs[number] = mmap.mmap(file.fileno(), name.size, prot=mmap.PROT_READ)
        return self._slabs[number]

    def release(self, lease: int) -> None:
        """Give back what a fetch lent; has no answer."""
        self.send(Release(lease))

    def remove(self, shuffle: int, owners: Sequence[str] = ()) -> Told:
        """Delete a shuffle's outputs here and there."""
        return self._told(Remove(shuffle, tuple(owners)))

    def end(self, owners: Sequence[str] = ()) -> Told:
        """The application is over."""
        return self._told(End(tuple(owners)))

    def ping(self, owners: Sequence[str] = ()) -> Told:
        """The application lives."""
        return self._told(Ping(tuple(owners)))

    def _told(self, message: Message) -> Told:
        answer = self.ask(message)
        if not isinstance(answer, Told):
            raise malformed("another answer than TOLD")
        return answer

    def status(self) -> str:
        """The service's own view, as JSON."""
        answer = self.ask(Status())
        if not isinstance(answer, StatusIs):
            raise malformed("STATUS had another answer")
        return answer.json


def status(path: Path) -> str:
    """The status of the service at a socket, as JSON."""
    with Client(path) as client:
        return client.status()


def wait_until_up(path: Path, timeout_s: float) -> str:
    """The status as soon as the service answers; for whoever has just started one.

    Raises
    ------
    ShuffleFault
        It did not within the time.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            return status(path)
        except ShuffleFault:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
