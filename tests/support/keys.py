"""Ed25519 keys as files of secrets, made with openssl as the how-to says."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Key:
    """A key pair: the reference to the private key, its PEM, and the file of the public key."""

    reference: str
    pem: str
    public: Path

    @property
    def line(self) -> str:
        """Return the public key as a policy lists it."""
        return self.public.read_text().splitlines()[1]


def new_key(folder: Path, name: str) -> Key:
    """Create the key `${secret:audit/NAME}` below `folder`, which FIRESTEEL_SECRETS_DIR must name."""
    private = folder / "audit" / name
    private.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    public = folder / f"{name}.pem"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", private], check=True)
    private.chmod(0o600)
    subprocess.run(["openssl", "pkey", "-in", private, "-pubout", "-out", public], check=True)
    return Key(f"${{secret:audit/{name}}}", private.read_text(), public)
