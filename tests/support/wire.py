"""Record everything that a driver and its executors exchange, by relays on 127.0.0.2 in front of ports of 127.0.0.1.

::

    executor --> 127.0.0.2:PORT (the relay, whose address the driver advertises) --> 127.0.0.1:PORT (where the driver listens)
"""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

FRONT, BEHIND = "127.0.0.2", "127.0.0.1"


class Relay:
    """Accepts connections for one port, and records both directions of each connection separately."""

    def __init__(self) -> None:
        self._front = socket.create_server((FRONT, 0))
        self.port = self._front.getsockname()[1]
        self.streams: list[bytearray] = []
        self._sockets: list[socket.socket] = [self._front]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._front.accept()
                far = socket.create_connection((BEHIND, self.port), 10)
                far.settimeout(None)  # the ten seconds are for connecting: a peer may say nothing for longer
            except OSError:
                if self._front.fileno() < 0:
                    return
                continue
            self._sockets += [near, far]
            for source, target in ((near, far), (far, near)):
                kept = bytearray()
                self.streams.append(kept)
                threading.Thread(target=self._pump, args=(source, target, kept), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, kept: bytearray) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                kept += data
                target.sendall(data)
        for each in (source, target):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        for each in self._sockets:
            each.close()


@contextlib.contextmanager
def relays(count: int) -> Iterator[list[Relay]]:
    """Several relays, whose ports are free on both addresses."""
    made: list[Relay] = []
    try:
        while len(made) < count:
            relay = Relay()
            try:
                socket.create_server((BEHIND, relay.port)).close()
            except OSError:
                relay.close()
                continue
            made.append(relay)
        yield made
    finally:
        for relay in made:
            relay.close()


def holds(made: list[Relay], canary: bytes) -> bool:
    """Return whether a stream contains some bytes."""
    return any(canary in stream for relay in made for stream in relay.streams)


def carried(made: list[Relay]) -> int:
    """Return the number of bytes in all streams."""
    return sum(len(stream) for relay in made for stream in relay.streams)


@dataclass(frozen=True)
class Authority:
    """A certificate authority, and a server certificate: PEM files."""

    ca: Path
    server: ssl.SSLContext


def authority(folder: Path) -> Authority:
    """Create both. The server is 127.0.0.1."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a test's authority")])
    now = datetime.datetime.now(datetime.UTC)
    ca = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(BEHIND))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    files = folder / "ca.pem", folder / "key.pem"
    files[0].write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    encoding, kind = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    files[1].write_bytes(key.private_bytes(encoding, kind, serialization.NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files)
    return Authority(files[0], context)


@contextlib.contextmanager
def behind_tls(context: ssl.SSLContext, port: int) -> Iterator[int]:
    """Open a TLS port that forwards to a plain port of this machine."""
    front = socket.create_server((BEHIND, 0))

    def serve() -> None:
        while True:
            try:
                taken, _ = front.accept()
            except OSError:
                return
            threading.Thread(target=talk, args=(taken,), daemon=True).start()

    def talk(taken: socket.socket) -> None:
        with contextlib.suppress(OSError):
            near = context.wrap_socket(taken, server_side=True)
            far = socket.create_connection((BEHIND, port), 10)
            threading.Thread(target=pump, args=(far, near), daemon=True).start()
            pump(near, far)

    def pump(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                target.sendall(data)
        for each in (source, target):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield front.getsockname()[1]
    finally:
        front.close()
