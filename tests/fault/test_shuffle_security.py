"""Each sentence of the design's section on security, and somebody who tries to break it.

> 0600 socket + SO_PEERCRED + a per-application secret (HMAC challenge) at registration; every block request is authorised
> against its application; own PD, MR and slab file per application; mutual authentication between services on the TCP
> bootstrap before any QP is connected.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import pytest

from firesteel.rdma_shuffle import service
from firesteel.rdma_shuffle.client import Client
from firesteel.rdma_shuffle.transport.base import LeaseRenewed
from firesteel.rdma_shuffle.transport.tcp import TcpLimits, TcpTransport
from firesteel.rdma_shuffle.wire import authentication
from firesteel.rdma_shuffle.wire.blocks import Found, Missing, Piece, Range
from firesteel.rdma_shuffle.wire.codec import HEAD, NONCE_BYTES, frame
from firesteel.rdma_shuffle.wire.fault import Reason, ShuffleFault
from firesteel.rdma_shuffle.wire.messages import (
    Challenge,
    Error,
    Fetch,
    Hello,
    Message,
    Ok,
    Ping,
    Register,
    Release,
    Welcome,
    decode,
)
from firesteel.rdma_shuffle.wire.peer_messages import (
    PEER,
    Attach,
    Attached,
    Authenticate,
    Authenticated,
    Greet,
    Locate,
    Located,
    Read,
)
from support.shuffle_node import APP, Cluster, Node, free_port, pair, table_of
from support.waiting import wait_for

OTHER = "app-2"
NOBODY = 65534


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(tmp_path) as made:
        yield made


def reason_of(call: Callable[[], object]) -> Reason:
    with pytest.raises(ShuffleFault) as error:
        call()
    return error.value.reason


# -- "0600 socket" ---------------------------------------------------------------------------------------------------


def test_the_socket_is_0600_from_its_first_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the umask hides nothing: between bind and chmod anybody could connect."""
    modes: list[int] = []

    class Looking(socket.socket):
        def bind(self, address: str) -> None:  # type: ignore[override]
            super().bind(address)
            modes.append(os.stat(address).st_mode & 0o777)

    monkeypatch.setattr(service.socket, "socket", Looking)
    before = os.umask(0)
    try:
        service._bound(tmp_path / "s").close()
        assert os.umask(0) == 0, "the service's umask is as before"
    finally:
        os.umask(before)
    assert modes == [0o600]


def test_the_socket_of_a_running_service_is_0600(cluster: Cluster) -> None:
    assert os.stat(cluster.node("node-a").start().socket).st_mode & 0o777 == 0o600


def connecting_as(user: int, node: Node) -> str:
    """What a process of another user is told at the socket: the reason, or the error of connect."""
    code = (
        f"import os, socket, sys; made = socket.socket(socket.AF_UNIX); os.setgroups([]); os.setgid({user}); os.setuid({user})\n"
        "try: made.connect(sys.argv[1])\n"
        "except PermissionError: print('no permission'); raise SystemExit\n"
        "data = b''\n"
        "while piece := made.recv(4096): data += piece\n"
        f"print('reason', data[{4 + HEAD + 2 + NONCE_BYTES} + 4 + 5])"
    )
    told = subprocess.run([sys.executable, "-c", code, str(node.socket)], capture_output=True, text=True, check=False)
    return told.stdout.strip() or told.stderr


@pytest.fixture
def as_root() -> None:
    if os.geteuid():
        pytest.skip("another user can be played by root alone")


@pytest.mark.usefixtures("as_root")
def test_another_user_cannot_connect(cluster: Cluster) -> None:
    node = cluster.node("node-a").start()
    for folder in (node.base, *node.base.parents):
        if folder.stat().st_uid == 0 and folder.stat().st_mode & 0o001 == 0:
            folder.chmod(folder.stat().st_mode | 0o011)
    assert connecting_as(NOBODY, node) == "no permission"


# -- "SO_PEERCRED" ---------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("as_root")
def test_another_user_that_gets_past_the_mode_is_refused_by_its_credentials(cluster: Cluster) -> None:
    node = cluster.node("node-a").start()
    for folder in (node.base, *node.base.parents):
        if folder.stat().st_uid == 0 and folder.stat().st_mode & 0o001 == 0:
            folder.chmod(folder.stat().st_mode | 0o011)
    node.socket.chmod(0o666)
    assert connecting_as(NOBODY, node) == f"reason {Reason.REFUSED.value}"
    assert node.status()["counters"]["connections_refused"] == 1
    node.stop()
    node.options += ["--allow-user", str(NOBODY)]
    node.start()
    assert node.gauge("connections") == 1, "whoever asks is the only one"


# -- "a per-application secret (HMAC challenge)" ---------------------------------------------------------------------


def test_a_forged_proof_is_refused_and_ends_the_connection(cluster: Cluster) -> None:
    node = cluster.node("node-a").start()
    with node.client(), Client(node.socket) as thief:
        assert reason_of(lambda: thief.hello(APP, secrets.token_bytes(32))) is Reason.REFUSED
        assert reason_of(lambda: thief.hello(APP, cluster.key)) is Reason.UNREACHABLE, "no second try on a connection"


@pytest.mark.parametrize("key", [b"", bytes(32)], ids=["an empty key", "a key of zeros"])
def test_no_key_at_all_is_no_key(cluster: Cluster, key: bytes) -> None:
    node = cluster.node("node-a").start()
    with node.client(), Client(node.socket) as thief:
        assert reason_of(lambda: thief.hello(APP, key)) is Reason.REFUSED


def test_a_proof_that_was_recorded_is_of_no_use_on_another_connection(cluster: Cluster) -> None:
    node = cluster.node("node-a").start()
    with Client(node.socket) as honest, Client(node.socket) as thief:
        honest.claim(APP, cluster.key)
        ours = authentication.nonce()
        recorded = Hello(APP, "e", ours, authentication.client_mac(cluster.key, honest.nonce, ours, APP))
        assert isinstance(honest.ask(recorded), Welcome)
        assert honest.nonce != thief.nonce
        assert reason_of(lambda: thief.ask(recorded)) is Reason.REFUSED


def test_a_proof_for_one_application_is_none_for_another(cluster: Cluster) -> None:
    node = cluster.node("node-a").start()
    with Client(node.socket) as thief:
        for name in (APP, OTHER):
            thief.claim(name, cluster.key)
        ours = authentication.nonce()
        mac = authentication.client_mac(cluster.key, thief.nonce, ours, APP)
        assert reason_of(lambda: thief.ask(Hello(OTHER, "e", ours, mac))) is Reason.REFUSED


def test_the_answer_of_the_service_is_no_proof_of_a_client(cluster: Cluster) -> None:
    """Reflection: what WELCOME proves cannot be sent back as HELLO."""
    node = cluster.node("node-a").start()
    with node.client(), Client(node.socket) as thief:
        ours = authentication.nonce()
        mac = authentication.server_mac(cluster.key, thief.nonce, ours, APP)
        assert reason_of(lambda: thief.ask(Hello(APP, "e", ours, mac))) is Reason.REFUSED


def test_a_claim_cannot_be_taken_over(cluster: Cluster) -> None:
    node = cluster.node("node-a").start()
    with node.client() as honest:
        with Client(node.socket) as thief:
            assert reason_of(lambda: thief.claim(APP, secrets.token_bytes(32))) is Reason.REFUSED
        asked = node.put(honest, 0, 0, [b"abc"])
        node.kill()
        node.start()
        with Client(node.socket) as thief:
            assert reason_of(lambda: thief.claim(APP, secrets.token_bytes(32))) is Reason.REFUSED, "nor after a restart"
    with node.client() as honest:
        assert honest.read(honest.fetch("node-a", asked).results[0]) == b"abc"


def test_a_client_finds_out_a_false_service(tmp_path: Path) -> None:
    """A process that took the socket's place, and knows the protocol but not the secret."""
    path = tmp_path / "s"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def pretend() -> None:
        made, _ = listener.accept()
        made.sendall(_bytes(Challenge(1, authentication.nonce()), 0))
        made.recv(65536)
        made.sendall(_bytes(Welcome(secrets.token_bytes(32), "node-a", 60, ("/tmp",), ()), 1))
        made.close()

    thread = threading.Thread(target=pretend)
    thread.start()
    with Client(path) as client:
        assert reason_of(lambda: client.hello(APP, secrets.token_bytes(32))) is Reason.REFUSED
    thread.join()
    listener.close()


@pytest.mark.parametrize(
    "message",
    [
        Register(0, 0, "", "", table_of([b""])),
        Fetch("node-a", 1000, (Range(0, 0, 0, 1),)),
        Release(1),
        Ping(),
        Ok(),
    ],
    ids=lambda message: type(message).__name__,
)
def test_before_hello_nothing_is_done(cluster: Cluster, message: Message) -> None:
    node = cluster.node("node-a").start()
    with node.client() as honest, Client(node.socket) as thief:
        node.put(honest, 0, 0, [b"abc"])
        assert reason_of(lambda: thief.ask(message)) is Reason.MALFORMED


# -- "every block request is authorised against its application" -----------------------------------------------------


def test_another_application_s_blocks_are_not_here(cluster: Cluster) -> None:
    near, far = pair(cluster)
    thief_key = secrets.token_bytes(32)
    with far.client() as honest, far.client(OTHER, thief_key) as here, near.client(OTHER, thief_key) as there:
        asked = far.put(honest, 0, 0, [b"mine"])
        for thief in (here, there):
            (found,) = thief.fetch("node-b", asked).results
            assert isinstance(found, Missing)
            assert found.reason is Reason.NOT_HERE
        assert honest.read(honest.fetch("node-b", asked).results[0]) == b"mine"


def test_another_application_s_files_cannot_be_registered_as_one_s_own(cluster: Cluster) -> None:
    node = cluster.node("node-a").start()
    with node.client() as honest, node.client(OTHER, secrets.token_bytes(32)) as thief:
        node.put(honest, 0, 0, [b"mine"])
        waiting = node.folder / APP / "not-yet-registered"
        waiting.write_bytes(b"mine")
        (node.folder / OTHER / "link").symlink_to(node.output(0, 0))
        for path in (
            node.output(0, 0),
            waiting,
            node.folder / OTHER / "link",
            node.folder / OTHER / ".." / APP / "not-yet-registered",
            node.folder / OTHER / ".service" / "secret",
        ):
            assert (
                reason_of(lambda path=path: thief.register(0, 0, str(path), "", table_of([b"mine"]))) is Reason.REFUSED
            )
        # An index file is deleted when it is taken: it must be held to the same.
        register = Register(0, 0, "", str(waiting), table_of([b""]))
        assert reason_of(lambda: thief.ask(register)) is Reason.REFUSED
        assert waiting.exists()
        assert honest.read(honest.fetch("node-a", [Range(0, 0, 0, 1)]).results[0]) == b"mine"


def test_another_application_s_outputs_and_leases_cannot_be_removed(cluster: Cluster) -> None:
    near, far = pair(cluster)
    thief_key = secrets.token_bytes(32)
    with far.client() as b, near.client() as a, near.client(OTHER, thief_key) as thief:
        far.client(OTHER, thief_key).close()
        asked = far.put(b, 0, 0, [b"mine"])
        held = a.fetch("node-b", asked)
        thief.release(held.lease)
        thief.remove(0, ["node-b", "node-a"])
        thief.end(["node-b", "node-a"])
        assert near.gauge("leases") == 1
        assert a.read(held.results[0]) == b"mine"
        assert b.read(b.fetch("node-b", asked).results[0]) == b"mine"


@pytest.mark.parametrize("name", ["../x", "..", ".hidden", "a/b", "", "a" * 201, "a\0b", "ä", ".lock", "a b"])
def test_a_name_that_is_a_path_is_no_application(cluster: Cluster, name: str) -> None:
    node = cluster.node("node-a").start()
    before = sorted(node.base.rglob("*"))
    with Client(node.socket) as thief:
        assert reason_of(lambda: thief.claim(name, secrets.token_bytes(32))) is Reason.MALFORMED
    assert sorted(node.base.rglob("*")) == before


# -- "own slab file per application" ---------------------------------------------------------------------------------


def test_each_application_has_a_slab_and_folders_of_its_own_that_only_the_user_can_open(cluster: Cluster) -> None:
    node = cluster.node("node-a").start()
    with node.client() as one, node.client(OTHER, secrets.token_bytes(32)) as two:
        assert one.welcome
        assert two.welcome
        (first,), (second,) = one.welcome.slabs, two.welcome.slabs
        assert first.path != second.path
        assert first.slab != second.slab
        for path in (first.path, second.path):
            assert os.stat(path).st_mode & 0o777 == 0o600
        for folder in (node.folder, node.folder / APP, node.folder / OTHER):
            assert folder.stat().st_mode & 0o777 == 0o700
        assert (node.folder / APP / ".service" / "secret").stat().st_mode & 0o777 == 0o600


def test_what_one_application_fetched_is_never_in_another_s_slab(cluster: Cluster) -> None:
    near, far = pair(cluster, "--slab-bytes", "1m")
    other_key = secrets.token_bytes(32)
    mark = secrets.token_bytes(64)
    with far.client() as b, near.client() as a, near.client(OTHER, other_key) as other:
        held = a.fetch("node-b", far.put(b, 0, 0, [mark * 100]))
        assert a.read(held.results[0]) == mark * 100
        assert other.welcome
        assert a.welcome
        assert mark in Path(a.welcome.slabs[0].path).read_bytes()
        assert mark not in Path(other.welcome.slabs[0].path).read_bytes()


def test_secrets_are_in_no_log_status_or_command_line(cluster: Cluster) -> None:
    near, far = pair(cluster)
    with near.client() as a, far.client() as b:
        a.fetch("node-b", far.put(b, 0, 0, [b"abc"]))
        with Client(near.socket) as thief:
            reason_of(lambda: thief.claim(APP, secrets.token_bytes(32)))
    for node in (near, far):
        assert node.process
        told = node.log.read_bytes() + str(node.status()).encode()
        told += Path(f"/proc/{node.process.pid}/cmdline").read_bytes()
        for secret in (cluster.key, cluster.key.hex().encode(), cluster.secret):
            assert secret not in told


# -- "mutual authentication between services on the TCP bootstrap" ---------------------------------------------------


def _bytes(message: Message, number: int, seal: authentication.Seal | None = None) -> bytes:
    body = message.body()
    return frame(message.kind, number, body, seal.tag(message.kind, number, body) if seal else b"")


class Peer:
    """A dialling peer by hand: it says what a test wants, also what no honest one would."""

    def __init__(self, node: Node, cluster: bytes, name: str = "node-x", wanted: str = "") -> None:
        self.made = socket.create_connection(("127.0.0.1", node.port), timeout=20)
        self.file = self.made.makefile("rb")
        self.cluster, self.name, self.wanted = cluster, name, wanted or node.name
        self.seal: authentication.Seal | None = None
        greet = self.receive()
        assert isinstance(greet, Greet)
        self.theirs, self.ours = greet.nonce, authentication.nonce()

    def receive(self) -> Message:
        head = self.file.read(4)
        if len(head) < 4:
            raise EOFError
        data = self.file.read(int.from_bytes(head, "big"))
        body = data[HEAD : len(data) - (authentication.TAG_BYTES if self.seal else 0)]
        return decode(data[0], body, PEER)

    def say(self, message: Message, number: int = 1) -> Message:
        self.made.sendall(_bytes(message, number, self.seal))
        return self.receive()

    def prove_message(self) -> Authenticate:
        mac = authentication.dial_mac(self.cluster, self.theirs, self.ours, self.name, self.wanted)
        return Authenticate(self.name, self.wanted, self.ours, mac)

    def prove(self) -> Message:
        answer = self.say(self.prove_message())
        if isinstance(answer, Authenticated):
            self.seal = authentication.Seal(self.cluster, self.theirs, self.ours, dialled=True)
        return answer

    def attach(self, application: str, key: bytes) -> Message:
        return self.say(Attach(application, authentication.attach_mac(key, self.theirs, self.ours, application)))

    def close(self) -> None:
        self.file.close()
        self.made.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def is_refused(message: Message) -> bool:
    return isinstance(message, Error) and message.reason is Reason.REFUSED


def test_a_peer_with_another_cluster_secret_gets_nothing(cluster: Cluster) -> None:
    node = cluster.node("node-a").start()
    with Peer(node, b"x" * 64) as thief:
        assert is_refused(thief.prove())
        with pytest.raises(EOFError):
            thief.receive()


def test_a_peer_that_wants_another_node_is_refused(cluster: Cluster) -> None:
    node = cluster.node("node-a").start()
    with Peer(node, cluster.secret, wanted="node-b") as lost:
        assert is_refused(lost.prove())


def test_a_recorded_proof_of_a_peer_is_of_no_use_again(cluster: Cluster) -> None:
    node = cluster.node("node-a").start()
    with Peer(node, cluster.secret) as honest, Peer(node, cluster.secret) as thief:
        recorded = honest.prove_message()
        assert isinstance(honest.say(recorded), Authenticated)
        assert is_refused(thief.say(recorded))


def test_before_prove_a_peer_gets_nothing(cluster: Cluster) -> None:
    node = cluster.node("node-a").start()
    for message in (Attach(APP, bytes(32)), Locate(1, (Range(0, 0, 0, 1),)), Read(1, ())):
        with Peer(node, cluster.secret) as thief:
            answer = thief.say(message)
            assert isinstance(answer, Error)
            assert answer.reason is Reason.MALFORMED


def test_a_peer_needs_the_secret_of_the_application_too(cluster: Cluster) -> None:
    """A node of the cluster on which the application never ran."""
    node = cluster.node("node-a").start()
    with node.client() as honest, Peer(node, cluster.secret) as thief:
        node.put(honest, 0, 0, [b"mine"])
        assert isinstance(thief.prove(), Authenticated)
        assert is_refused(thief.attach(APP, secrets.token_bytes(32)))
        for handle in range(4):
            assert is_refused(thief.say(Locate(handle, (Range(0, 0, 0, 1),)))), "handles cannot be guessed"
            assert is_refused(thief.say(Read(handle, (Piece(Range(0, 0, 0, 1), 0, 4),))))


def test_an_attach_that_was_recorded_is_of_no_use_on_another_connection(cluster: Cluster) -> None:
    node = cluster.node("node-a").start()
    with node.client(), Peer(node, cluster.secret) as honest, Peer(node, cluster.secret) as thief:
        honest.prove()
        thief.prove()
        recorded = Attach(APP, authentication.attach_mac(cluster.key, honest.theirs, honest.ours, APP))
        assert isinstance(honest.say(recorded), Attached)
        assert is_refused(thief.say(recorded))


def test_a_handle_of_one_application_reads_no_other_s_blocks(cluster: Cluster) -> None:
    node = cluster.node("node-a").start()
    thief_key = secrets.token_bytes(32)
    with node.client() as honest, node.client(OTHER, thief_key), Peer(node, cluster.secret) as thief:
        node.put(honest, 0, 0, [b"mine"])
        thief.prove()
        attached = thief.attach(OTHER, thief_key)
        assert isinstance(attached, Attached)
        located = thief.say(Locate(attached.handle, (Range(0, 0, 0, 1),)))
        assert isinstance(located, Located)
        assert isinstance(located.results[0], Missing)
        answer = thief.say(Read(attached.handle, (Piece(Range(0, 0, 0, 1), 0, 4),)))
        assert isinstance(answer, Error)
        assert answer.reason is Reason.NOT_HERE


def test_a_peer_that_asks_for_more_than_its_credits_is_cut_off(cluster: Cluster) -> None:
    node = cluster.node("node-a", "--credit-bytes", "1000").start()
    with node.client() as honest, Peer(node, cluster.secret) as greedy:
        node.put(honest, 0, 0, [b"x" * 2000])
        greedy.prove()
        attached = greedy.attach(APP, cluster.key)
        assert isinstance(attached, Attached)
        answer = greedy.say(Read(attached.handle, (Piece(Range(0, 0, 0, 1), 0, 1001),)))
        assert isinstance(answer, Error)
        assert answer.reason is Reason.MALFORMED
        with pytest.raises(EOFError):
            greedy.receive()


@pytest.mark.parametrize("attack", ["repeat", "change", "no tag"])
def test_frames_of_a_proved_connection_cannot_be_tampered_with(cluster: Cluster, attack: str) -> None:
    """As somebody in the middle would, who does not know the cluster's secret."""
    node = cluster.node("node-a").start()
    with node.client(), Peer(node, cluster.secret) as peer:
        peer.prove()
        attached = peer.attach(APP, cluster.key)
        assert isinstance(attached, Attached)
        sent = _bytes(Locate(attached.handle, (Range(0, 0, 0, 1),)), 5, peer.seal)
        if attack == "repeat":
            peer.made.sendall(sent)
            assert isinstance(peer.receive(), Located)
        elif attack == "change":
            sent = sent[:-20] + bytes([sent[-20] ^ 1]) + sent[-19:]
        else:
            sent = _bytes(Locate(attached.handle, (Range(0, 0, 0, 1),)), 5) + bytes(16)
        peer.made.sendall(sent)
        assert is_refused(peer.receive())
        with pytest.raises(EOFError):
            peer.receive()


def test_connections_of_peers_that_never_prove_themselves_are_bounded(cluster: Cluster) -> None:
    node = cluster.node("node-a", "--accepted", "3").start()
    silent = [socket.create_connection(("127.0.0.1", node.port), timeout=20) for _ in range(10)]
    wait_for(lambda: node.gauge("peers_refused") == 7, "seven are turned away")
    assert node.gauge("peers_accepted") <= 3
    for each in silent:
        each.close()
    wait_for(lambda: node.gauge("peers_accepted") == 0, "the others are gone")


class _Nothing:
    """A `Store` that knows one application and nothing of it."""

    def secret(self, application: str) -> bytes:
        return b"k" * 32

    def locate(self, application: str, asked: Range) -> Found | Missing:
        raise AssertionError

    piece = notice = locate


@pytest.mark.parametrize("lie", ["a false proof", "no credits", "data unasked", "rubbish"])
def test_a_dialling_service_finds_out_a_false_peer(lie: str) -> None:
    cluster_key = b"c" * 32
    listener = socket.create_server(("127.0.0.1", 0))
    told: list[bytes] = []

    def pretend() -> None:
        made, _ = listener.accept()
        theirs = authentication.nonce()
        if lie == "rubbish":
            made.sendall(secrets.token_bytes(200))
            made.close()
            return
        made.sendall(_bytes(Greet(1, theirs), 0))
        data = made.recv(65536)
        prove = decode(data[4], data[4 + HEAD :], PEER)
        assert isinstance(prove, Authenticate)
        credit = 0 if lie == "no credits" else 100
        key = b"x" * 32 if lie == "a false proof" else cluster_key
        mac = authentication.accept_mac(key, theirs, prove.nonce, prove.node, "far", credit, credit)
        made.sendall(_bytes(Authenticated("far", credit, credit, mac), 1))
        if lie == "data unasked":
            seal = authentication.Seal(cluster_key, theirs, prove.nonce, dialled=False)
            made.recv(65536)
            made.sendall(_bytes(Attached(1), 77, seal))
        told.append(made.recv(65536))
        made.close()

    thread = threading.Thread(target=pretend)
    thread.start()

    async def dial() -> Reason:
        address = ("127.0.0.1", listener.getsockname()[1])
        limits = TcpLimits(connect_s=5, stall_s=5)
        async with TcpTransport(_Nothing(), cluster_key, ("near",), lambda _owner: ("far", address), limits) as near:
            with pytest.raises(ShuffleFault) as error:
                await near.notify("far", "app", LeaseRenewed())
            return error.value.reason

    reason = asyncio.run(dial())
    thread.join()
    listener.close()
    assert reason in {Reason.REFUSED, Reason.MALFORMED}
    assert not any(told), "nothing was said to a peer that did not prove itself"


def test_a_port_that_nobody_listens_on_is_unreachable_at_once() -> None:
    async def dial() -> Reason:
        limits, address = TcpLimits(), ("127.0.0.1", free_port())
        async with TcpTransport(_Nothing(), b"c" * 32, ("near",), lambda _owner: ("far", address), limits) as near:
            with pytest.raises(ShuffleFault) as error:
                await near.notify("far", "app", LeaseRenewed())
            return error.value.reason

    assert asyncio.run(dial()) is Reason.UNREACHABLE
