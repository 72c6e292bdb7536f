"""Compute the digest that pins a model to its bytes, and copy a model while computing it."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from firesteel.conf.errors import ModelError
from firesteel.conf.files import NotRegularError, open_regular

MAX_FILES = 100_000
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Digest:
    """`hex` is a SHA-256 over the names and digests of all files. `files` are (relative path, SHA-256, bytes), sorted."""

    hex: str
    size_bytes: int
    files: tuple[tuple[str, str, int], ...]


def digest_of(
    folder: Path, max_size: int | None = None, on_block: Callable[[str, bytes], None] | None = None
) -> Digest:
    """Return the digest of all files below `folder`. Every file counts, whatever its name.

    Parameters
    ----------
    max_size
        Largest allowed size of all files in bytes, checked before a file is read.
    on_block
        Receives each file's bytes in blocks, at least one block per file, in the order of names: a copy that consists of them has this
        digest, even if another process changes the folder.

    Raises
    ------
    ModelError
        FS3010 if the files are larger than `max_size`. FS3011 for anything but files and folders: the digest cannot pin the target of a
        link, and a pipe has no end. MLflow writes only files.
    """
    listed = _files(folder.resolve(), max_size)
    files = []
    for name, size in listed:
        files.append((name, _read(folder, name, size, on_block), size))
    whole = hashlib.sha256()
    for name, file_digest, _ in files:
        encoded = name.encode()
        whole.update(len(encoded).to_bytes(8, "big") + encoded + bytes.fromhex(file_digest))
    return Digest(whole.hexdigest(), sum(size for _, _, size in files), tuple(files))


def check_digest(folder: Path, expected: str, name: str) -> None:
    """Raise FS3011 if the files in `folder` do not match the planned digest."""
    compare_digests(digest_of(folder).hex, expected, name)


def compare_digests(actual: str, expected: str, name: str) -> None:
    """Raise FS3011 if a model's digest is not the planned one."""
    if actual != expected:
        raise ModelError(
            "FS3011",
            f"the digest of model {name} is {actual[:12]}, but the plan requires {expected[:12]}. The model was not loaded.",
            hint="Register a new version. The files of the registered version have changed.",
        )


@contextmanager
def private_copy(folder: Path, max_size: int | None) -> Iterator[tuple[Path, Digest]]:
    """Copy a model into a new folder of mode 0700 for the block, and return the copy with its digest.

    What is checked in the copy is what the digest pins, also if another process changes `folder` meanwhile.
    """
    with TemporaryDirectory(prefix="firesteel-model-") as root:
        copy = Path(root, "model")
        copy.mkdir()

        def write(name: str, block: bytes) -> None:
            target = copy / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("ab") as handle:
                handle.write(block)

        yield copy, digest_of(folder, max_size, write)


def _files(root: Path, max_size: int | None) -> list[tuple[str, int]]:
    """Return the sorted names and sizes of all files."""
    files: list[tuple[str, int]] = []
    total = 0
    folders = [""]
    while folders:
        folder = folders.pop()
        for entry, status in _entries(root, folder):
            name = f"{folder}{entry}"
            if not entry.isprintable():  # this includes lone surrogates
                raise _refused(f"the name {name!r} of a file has bytes that are not printable UTF-8", "Rename it")
            if stat.S_ISDIR(status.st_mode):
                folders.append(f"{name}/")
                continue
            if not stat.S_ISREG(status.st_mode):
                raise _refused(f"{name} is {_kind(status.st_mode)}", "Log the model again with a file in its place")
            files.append((name, status.st_size))
            total += status.st_size
            if max_size is not None and total > max_size:
                raise ModelError(
                    "FS3010",
                    f"the model's files have {total:,} bytes or more, but trust.max_size allows {max_size:,} bytes.",
                    hint="Raise trust.max_size if you expect a model of this size.",
                )
            if len(files) > MAX_FILES:
                raise _refused(f"it has more than {MAX_FILES:,} files", "Log the model in fewer files")
    return sorted(files)


def _entries(root: Path, folder: str) -> list[tuple[str, os.stat_result]]:
    try:
        with os.scandir(root / folder) as entries:
            return [(entry.name, entry.stat(follow_symlinks=False)) for entry in entries]
    except OSError as error:  # no permission, or a path that is too long
        raise _refused(f"{folder[:200]} cannot be listed ({error.strerror})", "Make the folder readable") from error


def _read(folder: Path, name: str, size: int, on_block: Callable[[str, bytes], None] | None) -> str:
    """Return the SHA-256 of a file of the listed size."""
    digest, read = hashlib.sha256(), 0
    try:
        with open_regular(folder / name, follow=False) as file:
            while block := file.read(min(_BLOCK, size - read + 1)):
                digest.update(block)
                read += len(block)
                if read > size:
                    break
                if on_block is not None:
                    on_block(name, block)
    except (NotRegularError, IsADirectoryError):  # another process may have put a pipe in the file's place
        read = -1
    except OSError as error:
        raise _refused(f"{name} cannot be read ({error.strerror})", "Make the file readable") from error
    if read != size:
        raise _refused(f"{name} was changed while it was read", "Run the command again")
    if size == 0 and on_block is not None:
        on_block(name, b"")
    return digest.hexdigest()


def _kind(mode: int) -> str:
    tests = {"a link": stat.S_ISLNK, "a pipe": stat.S_ISFIFO, "a socket": stat.S_ISSOCK}
    return next((kind for kind, test in tests.items() if test(mode)), "a device")


def _refused(what: str, hint: str) -> ModelError:
    return ModelError("FS3011", f"the model cannot be pinned: {what}.", hint=f"{hint}.")
