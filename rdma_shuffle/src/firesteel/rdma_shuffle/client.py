"""A blocking client of the service in Python, for the status, `firesteel doctor` and tests. Executors have one in Java.

It sends one request at a time and checks the CRC32C of every block, as an executor does.
"""

from __future__ import annotations

import mmap
import os
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from firesteel.rdma_shuffle.wire import authentication
from firesteel.rdma_shuffle.wire.blocks import Extent, FileExtent, Found, Missing, Range, Table
from firesteel.rdma_shuffle.wire.codec import HEAD, MAX_FRAME, Body, Frame, frame
from firesteel.rdma_shuffle.wire.fault import Reason, ShuffleFault, malformed
from firesteel.rdma_shuffle.wire.message import Message
from firesteel.rdma_shuffle.wire.messages import (
    Blocks,
    Challenge,
    Claim,
    End,
    Error,
    Fetch,
    Hello,
    Notified,
    Ping,
    Register,
    Release,
    Remove,
    Status,
    StatusIs,
    Welcome,
    decode,
)

_FIRST_WAIT_S = 0.005
_MAX_WAIT_S = 0.5


class Client:
    """A connection to a node's service."""

    def __init__(self, path: Path, timeout_s: float = 30.0) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(timeout_s)
        try:
            _connect(self._socket, path, timeout_s)
            self._number = 0
            self._slabs: dict[int, mmap.mmap] = {}
            challenge = self._answer(0)
        except OSError as error:
            self._socket.close()
            raise ShuffleFault(
                Reason.UNREACHABLE, f"the service at {path} cannot be reached: {error.strerror or error}"
            ) from error
        except ShuffleFault:
            self._socket.close()
            raise
        if not isinstance(challenge, Challenge):
            raise malformed("the first frame of the service is not CHALLENGE")
        self.nonce = challenge.nonce
        self.welcome: Welcome | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection. Leases end with this process. Idempotent."""
        self._socket.close()
        for mapped in self._slabs.values():
            mapped.close()
        self._slabs.clear()

    def ask(self, message: Message) -> Message:
        """Send a request and return its answer.

        Raises
        ------
        ShuffleFault
            The error of the service, or UNREACHABLE if the connection is lost.
        """
        self.send(message)
        return self._answer(self._number)

    def send(self, message: Message) -> int:
        """Send a request and return its number."""
        self._number += 1
        try:
            self._socket.sendall(frame(message.kind, self._number, message.body()))
        except OSError as error:
            raise ShuffleFault(Reason.UNREACHABLE, "the connection to the service is lost") from error
        return self._number

    def _answer(self, number: int) -> Message:
        answer = self.receive()
        message = decode(answer.kind, answer.body)
        if isinstance(message, Error):
            raise ShuffleFault(message.reason, message.detail)
        if answer.request != number:
            raise malformed("the answer belongs to another request")
        return message

    def receive(self) -> Frame:
        """Return the next frame."""
        length = Body(self._exactly(4)).u32()
        if not HEAD <= length <= MAX_FRAME:
            raise malformed(f"a frame has {length} bytes; expected {HEAD} to {MAX_FRAME}")
        body = Body(self._exactly(length))
        return Frame(body.u8(), body.u32(), body.rest())

    def _exactly(self, count: int) -> bytes:
        data = bytearray(count)
        view, at = memoryview(data), 0
        while at < count:
            try:
                got = self._socket.recv_into(view[at:])
            except TimeoutError as error:
                raise ShuffleFault(Reason.TIMEOUT, "the service did not answer in time") from error
            except OSError as error:
                raise ShuffleFault(Reason.UNREACHABLE, "the connection to the service is lost") from error
            if not got:
                raise ShuffleFault(Reason.UNREACHABLE, "the service closed the connection")
            at += got
        return bytes(data)

    # -- requests ------------------------------------------------------------------------------------------------

    def claim(self, application: str, secret: bytes) -> None:
        """Set the application's secret on this node."""
        self.ask(Claim(application, secret))

    def hello(self, application: str, secret: bytes, process: str = "python") -> Welcome:
        """Authenticate both sides by the application's secret."""
        nonce = authentication.nonce()
        answer = self.ask(
            Hello(application, process, nonce, authentication.client_mac(secret, self.nonce, nonce, application))
        )
        if not isinstance(answer, Welcome):
            raise malformed("the answer to HELLO is not WELCOME")
        if not authentication.matches(answer.mac, authentication.server_mac(secret, self.nonce, nonce, application)):
            raise ShuffleFault(Reason.REFUSED, "the service does not know the application's secret")
        self.welcome = answer
        return answer

    def register(self, shuffle: int, map_id: int, data: str, index: str, table: Table) -> None:
        """Hand over a map output."""
        self.ask(Register(shuffle, map_id, data, index, table))

    def fetch(self, owner: str, ranges: Sequence[Range], seconds: float = 20.0) -> Blocks:
        """Locate or fetch blocks. `read` returns their bytes."""
        answer = self.ask(Fetch(owner, int(seconds * 1000), tuple(ranges)))
        if not isinstance(answer, Blocks) or len(answer.results) != len(ranges):
            raise malformed("the answer to FETCH is not BLOCKS for the same ranges")
        return answer

    def read(self, result: Found | Missing) -> bytes:
        """Return the bytes of a range after a check of every block's CRC32C.

        Raises
        ------
        ShuffleFault
            CORRUPT, or the reason of a missing range.
        """
        from google_crc32c import value as crc32c

        if isinstance(result, Missing):
            raise ShuffleFault(result.reason, result.detail)
        data = b"".join(map(self._extent, result.extents))
        offsets = result.table.offsets()
        if len(data) != offsets[-1]:
            raise ShuffleFault(Reason.CORRUPT, f"the extents have {len(data)} bytes, their blocks {offsets[-1]}")
        for start, end, crc in zip(offsets, offsets[1:], result.table.checksums(), strict=False):
            if crc32c(data[start:end]) != crc:
                raise ShuffleFault(Reason.CORRUPT, f"the CRC32C of the block at byte {start} does not match")
        return data

    def _extent(self, extent: Extent) -> bytes:
        if isinstance(extent, FileExtent):
            with Path(extent.path).open("rb") as file:
                return os.pread(file.fileno(), extent.length, extent.offset)
        return self.slab(extent.slab)[extent.offset : extent.offset + extent.length]

    def slab(self, number: int) -> mmap.mmap:
        """Return a slab, mapped read-only."""
        if number not in self._slabs:
            assert self.welcome
            name = next(slab for slab in self.welcome.slabs if slab.slab == number)
            with Path(name.path).open("rb") as file:
                self._slabs[number] = mmap.mmap(file.fileno(), name.size, prot=mmap.PROT_READ)
        return self._slabs[number]

    def release(self, lease: int) -> None:
        """Release the extents of a fetch. There is no answer."""
        self.send(Release(lease))

    def remove(self, shuffle: int, owners: Sequence[str] = ()) -> Notified:
        """Delete the outputs of a shuffle here and on the owners' nodes."""
        return self._notified(Remove(shuffle, tuple(owners)))

    def end(self, owners: Sequence[str] = ()) -> Notified:
        """End the application here and on the owners' nodes."""
        return self._notified(End(tuple(owners)))

    def ping(self, owners: Sequence[str] = ()) -> Notified:
        """Renew the application's lease here and on the owners' nodes."""
        return self._notified(Ping(tuple(owners)))

    def _notified(self, message: Message) -> Notified:
        answer = self.ask(message)
        if not isinstance(answer, Notified):
            raise malformed("the answer is not NOTIFIED")
        return answer

    def status(self) -> str:
        """Return the status of the service as JSON."""
        answer = self.ask(Status())
        if not isinstance(answer, StatusIs):
            raise malformed("the answer to STATUS is not STATUS_IS")
        return answer.json


def _connect(connection: socket.socket, path: Path, timeout_s: float) -> None:
    """Connect, and wait while the backlog of the service is full: the kernel then refuses at once and does not queue."""
    deadline = time.monotonic() + timeout_s
    wait = _FIRST_WAIT_S
    while True:
        try:
            connection.connect(str(path))
        except BlockingIOError:
            left = deadline - time.monotonic()
            if left <= 0:
                raise
            time.sleep(min(wait, left))
            wait = min(2 * wait, _MAX_WAIT_S)
        else:
            return


def status(path: Path) -> str:
    """Return the status of the service at a socket as JSON."""
    with Client(path) as client:
        return client.status()


def wait_until_up(path: Path, timeout_s: float) -> str:
    """Wait until the service answers and return its status as JSON.

    Raises
    ------
    ShuffleFault
        It did not answer in time.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            return status(path)
        except ShuffleFault:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
