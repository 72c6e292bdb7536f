"""Proofs of knowing a secret without telling it, and the seal on what two services say after them. See PROTOCOL.md."""

from __future__ import annotations

import hmac
import secrets

from firesteel.rdma_shuffle.codec import NONCE_BYTES, text, u8, u32, u64
from firesteel.rdma_shuffle.fault import Reason, ShuffleFault

TAG_BYTES = 16


def nonce() -> bytes:
    """Random bytes that make each proof a new one."""
    return secrets.token_bytes(NONCE_BYTES)


def same(left: bytes, right: bytes) -> bool:
    """Compare without telling by the time it takes where they differ."""
    return hmac.compare_digest(left, right)


def _mac(key: bytes, *parts: bytes) -> bytes:
    return hmac.digest(key, b"".join(parts), "sha256")


def client(secret: bytes, theirs: bytes, ours: bytes, application: str) -> bytes:
    """What HELLO carries; `theirs` is the service's nonce."""
    return _mac(secret, b"client", theirs, ours, application.encode())


def server(secret: bytes, service_nonce: bytes, client_nonce: bytes, application: str) -> bytes:
    """What WELCOME carries."""
    return _mac(secret, b"server", service_nonce, client_nonce, application.encode())


def dials(cluster: bytes, accepting: bytes, dialling: bytes, node: str, wanted: str) -> bytes:
    """What PROVE carries: nonces of both sides, who dials, whom."""
    return _mac(cluster, b"firesteel peer dials", accepting, dialling, text(node), text(wanted))


def answers(cluster: bytes, accepting: bytes, dialling: bytes, node: str, own: str, reads: int, size: int) -> bytes:
    """What PROVED carries: also the credits, so that nobody else sets them."""
    names = text(node) + text(own)
    return _mac(cluster, b"firesteel peer answers", accepting, dialling, names, u32(reads), u64(size))


def attach(secret: bytes, accepting: bytes, dialling: bytes, application: str) -> bytes:
    """What ATTACH carries: good for this connection alone."""
    return _mac(secret, b"firesteel attach", accepting, dialling, application.encode())


class Seal:
    """The tags of one connection between services: who sent a frame, and as the how many-eth."""

    __slots__ = ("_in", "_key", "_out", "_received", "_sent")

    def __init__(self, cluster: bytes, accepting: bytes, dialling: bytes, *, dialled: bool) -> None:
        self._key = _mac(cluster, b"firesteel peer session", accepting, dialling)
        self._out, self._in = (0, 1) if dialled else (1, 0)
        self._sent = self._received = 0

    def tag(self, kind: int, request: int, body: bytes) -> bytes:
        """The tag of the next frame that we send."""
        self._sent += 1
        return self._tag(self._out, self._sent - 1, kind, request, body)

    def check(self, kind: int, request: int, body: bytes, tag: bytes) -> None:
        """Hold the next frame that came against its tag.

        Raises
        ------
        ShuffleFault
            REFUSED: it was changed, left out, repeated, reordered or reflected.
        """
        wanted = self._tag(self._in, self._received, kind, request, body)
        self._received += 1
        if not same(wanted, tag):
            raise ShuffleFault(Reason.REFUSED, "a frame's tag is wrong")

    def _tag(self, direction: int, sequence: int, kind: int, request: int, body: bytes) -> bytes:
        return _mac(self._key, u8(direction), u64(sequence), u8(kind), u32(request), body)[:TAG_BYTES]
