"""Compute the digest that pins a model to its bytes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from firesteel.conf.errors import ModelError

ADDED_BY_MLFLOW = frozenset({"registered_model_meta"})
"""Files that MLflow adds to a downloaded version. They are not part of the model."""


@dataclass(frozen=True, slots=True)
class Digest:
    """`hex` is the SHA-256 of the sorted lines `path sha256`. `files` are (relative path, SHA-256, bytes)."""

    hex: str
    size_bytes: int
    files: tuple[tuple[str, str, int], ...]


def digest_of(folder: Path) -> Digest:
    """Return the digest of all files below `folder`.

    Raises
    ------
    ModelError
        FS3011 if a link points outside the folder, because the digest cannot pin its target.
    """
    root = folder.resolve()
    files = []
    for path in sorted(folder.rglob("*")):
        if path.is_dir() or path.name in ADDED_BY_MLFLOW:
            continue
        if not path.resolve().is_relative_to(root):
            raise ModelError(
                "FS3011",
                f"{path.relative_to(folder)} of the model is a link to a file outside the model's folder.",
                hint="Log the model again with the file instead of the link.",
            )
        with path.open("rb") as handle:
            file_digest = hashlib.file_digest(handle, "sha256").hexdigest()
        files.append((path.relative_to(folder).as_posix(), file_digest, path.stat().st_size))
    files.sort()
    lines = "".join(f"{name} {file_digest}\n" for name, file_digest, _ in files)
    return Digest(hashlib.sha256(lines.encode()).hexdigest(), sum(size for _, _, size in files), tuple(files))


def check_digest(folder: Path, expected: str, name: str) -> None:
    """Raise FS3011 if the files in `folder` do not match the planned digest."""
    actual = digest_of(folder).hex
    if actual != expected:
        raise ModelError(
            "FS3011",
            f"the digest of model {name} is {actual[:12]}, but the plan requires {expected[:12]}. The model was not loaded.",
            hint="Register a new version. The files of the registered version have changed.",
        )
