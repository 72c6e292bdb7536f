"""The Python client of the shuffle service, against a listener of the test."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from firesteel.rdma_shuffle.client import Client
from firesteel.rdma_shuffle.transport.tcp_link import TcpLink
from firesteel.rdma_shuffle.wire.codec import VERSION, frame
from firesteel.rdma_shuffle.wire.fault import Reason, ShuffleFault
from firesteel.rdma_shuffle.wire.messages import Challenge


@pytest.fixture
def busy(tmp_path: Path) -> Iterator[socket.socket]:
    """A listener whose backlog is full."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(str(tmp_path / "s"))
        listener.listen(0)
        while True:
            waiting = stack.enter_context(socket.socket(socket.AF_UNIX))
            waiting.setblocking(False)
            try:
                waiting.connect(str(tmp_path / "s"))
            except BlockingIOError:
                break
        yield listener


def test_a_client_waits_while_the_backlog_is_full(busy: socket.socket, tmp_path: Path) -> None:
    clients: list[Client] = []
    thread = threading.Thread(target=lambda: clients.append(Client(tmp_path / "s", timeout_s=60)))
    thread.start()
    challenge = Challenge(VERSION, bytes(32))
    accepted = []
    while thread.is_alive():
        busy.settimeout(0.1)
        try:
            connection, _ = busy.accept()
        except TimeoutError:
            continue
        accepted.append(connection)
        connection.sendall(frame(challenge.kind, 0, challenge.body()))
    thread.join()
    (client,) = clients
    client.close()
    for connection in accepted:
        connection.close()


@pytest.mark.usefixtures("busy")
def test_a_client_gives_up_at_its_deadline(tmp_path: Path) -> None:
    with pytest.raises(ShuffleFault) as caught:
        Client(tmp_path / "s", timeout_s=0.2)
    assert caught.value.reason is Reason.UNREACHABLE


@pytest.mark.parametrize("address", [("a" * 70, 7447), ("a..b", 7447), ("127.0.0.1", 99_999)])
def test_an_owner_that_no_connection_can_name_is_unreachable(address: tuple[str, int]) -> None:
    with pytest.raises(ShuffleFault) as caught:
        asyncio.run(TcpLink.open("owner", address, b"k" * 32, "here", "there", 1.0))
    assert caught.value.reason is Reason.UNREACHABLE
