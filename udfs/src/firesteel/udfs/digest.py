"""The digest of a model: what pins it to its bytes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from firesteel.conf.errors import ModelError

ADDED_BY_MLFLOW = frozenset({"registered_model_meta"})
"""Files that MLflow writes when it downloads a version: they are not the model's."""


@dataclass(frozen=True, slots=True)
class Digest:
    """`hex` is the SHA-256 over the sorted lines `path sha256`; `files` are (relative path, SHA-256, bytes)."""

    hex: str
    size_bytes: int
    files: tuple[tuple[str, str, int], ...]


def digest_of(folder: Path) -> Digest:
    """Hash every file below `folder`.

    Raises
    ------
    ModelError
        FS3011 when a link leads out of the folder: what is outside cannot be pinned.
    """
    root = folder.resolve()
    files = []
    for path in sorted(folder.rglob("*")):
        if path.is_dir() or path.name in ADDED_BY_MLFLOW:
            continue
        if not path.resolve().is_relative_to(root):
            raise ModelError(
                "FS3011",
                f"{path.relative_to(folder)} of the model links out of its folder.",
                hint="Log the model again with the file itself.",
            )
        with path.open("rb") as handle:
            found = hashlib.file_digest(handle, "sha256").hexdigest()
        files.append((path.relative_to(folder).as_posix(), found, path.stat().st_size))
    files.sort()
    lines = "".join(f"{name} {found}\n" for name, found, _ in files)
    return Digest(hashlib.sha256(lines.encode()).hexdigest(), sum(size for _, _, size in files), tuple(files))


def check_digest(folder: Path, expected: str, name: str) -> None:
    """FS3011 when the bytes in `folder` are not those that were planned."""
    found = digest_of(folder).hex
    if found != expected:
        raise ModelError(
            "FS3011",
            f"model {name}: its files hash to {found[:12]}, the plan says {expected[:12]}. Not loaded.",
            hint="Someone changed the files of a registered version; register a new one.",
        )
