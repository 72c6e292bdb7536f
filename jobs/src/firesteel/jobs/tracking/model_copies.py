"""Keep a copy of each model that a run uses in the pipeline's storage, for plans whose version was deleted from the registry.

::

    <storage>/models/<profile>/<digest>/0000.tar, 0001.tar, ...    one tar archive, cut into parts

A copy needs no trust: whoever loads it compares its digest with the plan's. Until then, a copy is an archive that others may have written:
only plain files with the planned number of bytes are unpacked, into a new folder.
"""

from __future__ import annotations

import logging
import secrets
import shutil
import tarfile
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, cast

from firesteel.conf.errors import FiresteelError
from firesteel.jobs.tracking.connect import one_line
from firesteel.pipelines.publish.state_store import StateStore, file_name, own_children
from firesteel.pipelines.storage.paths import join
from firesteel.udfs.digest import MAX_FILES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from firesteel.pipelines.storage.base import Storage

_LOG = logging.getLogger(__name__)
EARLIER_COPIES = 5
"""Copies of models that are kept beside those of the current plan."""
_PART = 64 << 20
_HEADERS = 4 << 10
"""Bytes of an archive for the headers and the padding of a file."""


def keep_copies(store: StateStore, folders: Mapping[str, Path]) -> None:
    """Store copies of models, given as folders by digest, and delete old copies. An error is logged only: the run has its models."""
    try:
        for digest, folder in folders.items():
            if store.storage.status(_copy(store, digest)) is None:
                _write(store, digest, folder)
        _prune(store, set(folders))
    except (FiresteelError, OSError) as error:
        _LOG.warning("the storage has no copy of the models of this run: %s", one_line(error))


def restore_copy(store: StateStore, digest: str, target: Path, size_bytes: int) -> bool:
    """Unpack the copy of a model into the new folder `target`. Return False if the storage has no valid copy.

    The caller compares the digest of `target`.

    Parameters
    ----------
    size_bytes
        The size of the model's files.
    """
    folder = _copy(store, digest)
    if store.storage.status(folder) is None:
        return False
    try:
        target.mkdir()
        parts = _PartReader(store.storage, folder, size_bytes + MAX_FILES * _HEADERS)
        with tarfile.open(fileobj=cast("IO[bytes]", parts), mode="r|") as archive:
            _unpack(archive, target, size_bytes)
    except (FiresteelError, OSError, tarfile.TarError, ValueError) as error:
        _LOG.warning(
            "the copy of the model in %s%s cannot be read: %s", store.storage.base_uri, folder, one_line(error)
        )
        return False
    return True


def _unpack(archive: tarfile.TarFile, target: Path, size_bytes: int) -> None:
    """Write the files of an archive. Raise ValueError for anything that `_write` does not store."""
    for member in archive:
        path = PurePosixPath(member.name)
        if path.is_absolute() or ".." in path.parts:
            raise ValueError(f"it has a file outside of the model's folder: {member.name!r}")
        if member.isdir():
            continue
        source = archive.extractfile(member) if member.isreg() and not member.issparse() else None
        size_bytes -= member.size
        if source is None or size_bytes < 0:
            what = f"{member.name!r} is not a plain file" if source is None else "it has more bytes than the model"
            raise ValueError(what)
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        with (target / path).open("xb") as file:
            shutil.copyfileobj(source, file)


def copies_folder(store: StateStore) -> str:
    """Return the folder of all copies of a profile."""
    return join(store.base, "models", file_name(store.profile))


def _copy(store: StateStore, digest: str) -> str:
    return join(copies_folder(store), digest)


def _write(store: StateStore, digest: str, folder: Path) -> None:
    partial = join(copies_folder(store), f".{digest}-{secrets.token_hex(4)}")
    try:
        parts = _PartWriter(store.storage, partial)
        with tarfile.open(fileobj=cast("IO[bytes]", parts), mode="w|", format=tarfile.PAX_FORMAT) as archive:
            archive.add(folder, arcname="")
        parts.flush()
        store.storage.rename(partial, _copy(store, digest))  # readers never see a part of a model
    except FiresteelError as error:
        store.storage.delete(partial)
        if error.code != "FS8004":  # another run has stored it
            raise


def _prune(store: StateStore, current: set[str]) -> None:
    """Delete all copies but those of the current plan and the newest others."""
    copies = [copy for copy in own_children(store, copies_folder(store)) if copy.name not in current]
    for copy in sorted(copies, key=lambda copy: copy.modified_ms, reverse=True)[EARLIER_COPIES:]:
        store.storage.delete(copy.path)


class _PartWriter:
    """Write a stream as numbered files."""

    def __init__(self, storage: Storage, folder: str) -> None:
        self._storage, self._folder = storage, folder
        self._buffer = bytearray()
        self._count = 0

    def write(self, data: bytes) -> int:
        self._buffer += data
        if len(self._buffer) >= _PART:
            self.flush()
        return len(data)

    def flush(self) -> None:
        if self._buffer:
            self._storage.create(join(self._folder, f"{self._count:04d}.tar"), bytes(self._buffer))
            self._buffer.clear()
            self._count += 1


class _PartReader:
    """Read numbered files as one stream."""

    def __init__(self, storage: Storage, folder: str, limit: int) -> None:
        self._storage, self._left = storage, limit
        self._paths = iter([part.path for part in storage.list(folder)])
        self._block = memoryview(b"")

    def read(self, size: int) -> bytes:
        while not self._block:
            path = next(self._paths, None)
            if path is None:
                return b""
            self._block = memoryview(self._storage.read(path, 0, 2 * _PART))
            self._left -= len(self._block)
            if self._left < 0:
                raise ValueError("it has more bytes than the model")
        data, self._block = self._block[:size], self._block[size:]
        return bytes(data)
