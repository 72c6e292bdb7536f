"""Ed25519 keys in PEM, as `openssl genpkey -algorithm ed25519` writes them: sign, verify, and name a key by its fingerprint."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from firesteel.conf.errors import RuntimeFault
from firesteel.conf.redaction import remember
from firesteel.conf.secrets import reveal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_BEGIN, _END = "-----BEGIN PUBLIC KEY-----", "-----END PUBLIC KEY-----"
_PREFIX = bytes.fromhex("302a300506032b6570032100")
"""The start of each Ed25519 public key in DER (SubjectPublicKeyInfo, RFC 8410). The 32 bytes of the key follow."""
_RAW_BYTES = 32


@dataclass(frozen=True, slots=True)
class PublicKey:
    """An Ed25519 public key: its 32 bytes."""

    raw: bytes

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the key of a PEM text, or of the base64 text between the two lines of the PEM.

        Raises
        ------
        ValueError
            The text is not an Ed25519 public key.
        """
        body = text.strip()
        if body.startswith(_BEGIN) and body.endswith(_END):
            body = body[len(_BEGIN) : -len(_END)]
        try:
            der = base64.b64decode("".join(body.split()), validate=True)
        except (binascii.Error, ValueError):  # ValueError: it has characters outside of ASCII
            der = b""
        if not der.startswith(_PREFIX) or len(der) != len(_PREFIX) + _RAW_BYTES:
            raise ValueError(
                "expected an Ed25519 public key: the output of `openssl pkey -in KEY -pubout`, or its line of base64"
            )
        return cls(der[len(_PREFIX) :])

    @property
    def fingerprint(self) -> str:
        """Return the SHA-256 (hex) of the key in DER: `openssl pkey -pubin -in PUBLIC -outform DER | sha256sum`."""
        return hashlib.sha256(_PREFIX + self.raw).hexdigest()

    def verifies(self, message: bytes, signature: str) -> bool:
        """Return whether a signature in base64 is this key's signature of a message."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        try:
            key = Ed25519PublicKey.from_public_bytes(self.raw)
            key.verify(base64.b64decode(signature, validate=True), message)
        except (InvalidSignature, ValueError):
            return False
        return True


class SigningKey:
    """An Ed25519 private key. Its text is secret: `str` and `repr` do not show it."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public = PublicKey(key.public_key().public_bytes_raw())

    @classmethod
    def reveal(cls, reference: str) -> Self:
        """Return the key of a secret reference `${secret:SCOPE/KEY}`.

        Raises
        ------
        RuntimeFault
            FS9020 when the secret is not found, FS9021 when it is not an Ed25519 private key in PEM.
        """
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        pem = reveal(reference)
        for line in pem.splitlines():  # a text may show the line of the key without the lines around it
            if line.strip() and not line.startswith("-----"):
                remember(reference, line.strip())
        try:
            key = load_pem_private_key(pem.encode(), password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):  # not chained: the text of the error is not ours
            key = None
        if not isinstance(key, Ed25519PrivateKey):
            raise RuntimeFault(
                "FS9021",
                f"{reference} is not an Ed25519 private key in PEM without a passphrase.",
                hint="Create one with `openssl genpkey -algorithm ed25519`; see docs/how-to/sign.md.",
            )
        return cls(key)

    def sign(self, message: bytes) -> str:
        """Return the signature of a message, in base64. Equal messages have equal signatures."""
        return base64.b64encode(self._key.sign(message)).decode()


def signed_message(kind: str, content: Mapping[str, object]) -> bytes:
    """Return what the signature of a record covers. `kind` keeps a signature from counting for a record of another kind."""
    return f"firesteel {kind} 1\n".encode() + json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


def fingerprint(reference: str) -> str:
    """Return the fingerprint of the key of a reference; empty if the reference is."""
    key = signing_key(reference)
    return key.public.fingerprint if key else ""


def signing_key(reference: str) -> SigningKey | None:
    """Return the key of a reference; None if it is empty."""
    return SigningKey.reveal(reference) if reference else None
