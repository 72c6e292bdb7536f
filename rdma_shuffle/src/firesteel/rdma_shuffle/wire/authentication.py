"""Authentication by a shared secret, and the tags of frames between authenticated services. See PROTOCOL.md."""

from __future__ import annotations

import hmac
import secrets

from firesteel.rdma_shuffle.wire.codec import NONCE_BYTES, text, u8, u32, u64
from firesteel.rdma_shuffle.wire.fault import Reason, ShuffleFault

TAG_BYTES = 16


def nonce() -> bytes:
    """Return random bytes, so that no MAC can be replayed."""
    return secrets.token_bytes(NONCE_BYTES)


def matches(left: bytes, right: bytes) -> bool:
    """Compare two MACs in constant time."""
    return hmac.compare_digest(left, right)


def _mac(key: bytes, *parts: bytes) -> bytes:
    return hmac.digest(key, b"".join(parts), "sha256")


def client_mac(secret: bytes, service_nonce: bytes, client_nonce: bytes, application: str) -> bytes:
    """Return the MAC of HELLO."""
    return _mac(secret, b"client", service_nonce, client_nonce, application.encode())


def server_mac(secret: bytes, service_nonce: bytes, client_nonce: bytes, application: str) -> bytes:
    """Return the MAC of WELCOME."""
    return _mac(secret, b"server", service_nonce, client_nonce, application.encode())


def dial_mac(cluster: bytes, accepting: bytes, dialling: bytes, node: str, wanted: str) -> bytes:
    """Return the MAC of AUTHENTICATE: both nonces, the dialling node and the wanted node."""
    return _mac(cluster, b"firesteel peer dials", accepting, dialling, text(node), text(wanted))


def accept_mac(cluster: bytes, accepting: bytes, dialling: bytes, node: str, own: str, reads: int, size: int) -> bytes:
    """Return the MAC of AUTHENTICATED. It covers the credits, so that nobody else can set them."""
    names = text(node) + text(own)
    return _mac(cluster, b"firesteel peer answers", accepting, dialling, names, u32(reads), u64(size))


def attach_mac(secret: bytes, accepting: bytes, dialling: bytes, application: str) -> bytes:
    """Return the MAC of ATTACH, valid for this connection only."""
    return _mac(secret, b"firesteel attach", accepting, dialling, application.encode())


class Seal:
    """The tags of one connection between services. A tag covers the sender and the sequence number of a frame."""

    __slots__ = ("_in", "_key", "_out", "_received", "_sent")

    def __init__(self, cluster: bytes, accepting: bytes, dialling: bytes, *, dialled: bool) -> None:
        self._key = _mac(cluster, b"firesteel peer session", accepting, dialling)
        self._out, self._in = (0, 1) if dialled else (1, 0)
        self._sent = self._received = 0

    def tag(self, kind: int, request: int, body: bytes) -> bytes:
        """Return the tag of the next frame that we send."""
        self._sent += 1
        return self._tag(self._out, self._sent - 1, kind, request, body)

    def check(self, kind: int, request: int, body: bytes, tag: bytes) -> None:
        """Check the tag of the next received frame.

        Raises
        ------
        ShuffleFault
            REFUSED: a frame was changed, dropped, repeated, reordered or reflected.
        """
        expected = self._tag(self._in, self._received, kind, request, body)
        self._received += 1
        if not matches(expected, tag):
            raise ShuffleFault(Reason.REFUSED, "the tag of a frame does not match")

    def _tag(self, direction: int, sequence: int, kind: int, request: int, body: bytes) -> bytes:
        return _mac(self._key, u8(direction), u64(sequence), u8(kind), u32(request), body)[:TAG_BYTES]
