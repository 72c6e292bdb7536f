"""Keep a copy of each model that a run uses in the pipeline's storage, for plans whose version was deleted from the registry.

::

    <storage>/models/<profile>/<digest>/0000.tar, 0001.tar, ...    one tar archive, cut into parts

A copy needs no trust: whoever loads it compares its digest with the plan's.
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
from firesteel.pipelines.publish.state_store import StateStore, children, file_name
from firesteel.pipelines.storage.paths import join

if TYPE_CHECKING:
    from collections.abc import Mapping

    from firesteel.pipelines.storage.base import Storage

_LOG = logging.getLogger(__name__)
EARLIER_COPIES = 5
"""Copies of models that are kept beside those of the current plan."""
_PART = 64 << 20


def keep_copies(store: StateStore, folders: Mapping[str, Path]) -> None:
    """Store copies of models, given as folders by digest, and delete old copies. An error is logged only: the run has its models."""
    try:
        for digest, folder in folders.items():
            if store.storage.status(_copy(store, digest)) is None:
                _write(store, digest, folder)
        _prune(store, set(folders))
    except (FiresteelError, OSError) as error:
        _LOG.warning("the storage has no copy of the models of this run: %s", one_line(error))


def restore_copy(store: StateStore, digest: str, target: Path) -> bool:
    """Unpack the copy of a model into the new folder `target`. Return False if the storage has no valid copy.

    The caller compares the digest of `target`.
    """
    folder = _copy(store, digest)
    if store.storage.status(folder) is None:
        return False
    try:
        target.mkdir()
        parts = _PartReader(store.storage, folder)
        with tarfile.open(fileobj=cast("IO[bytes]", parts), mode="r|") as archive:
            for member in archive:
                _unpack(archive, member, target)
    except (FiresteelError, OSError, tarfile.TarError) as error:
        _LOG.warning(
            "the copy of the model in %s%s cannot be read: %s", store.storage.base_uri, folder, one_line(error)
        )
        return False
    return True


def _unpack(archive: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    """Write a file or folder of an archive below `target`. `TarFile.extractall(filter="data")` would need Python 3.11.4."""
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts or not (member.isdir() or member.isreg()):
        raise tarfile.ReadError(f"{member.name!r} is no file and no folder of a model")
    if member.isdir():
        (target / name).mkdir(exist_ok=True)
        return
    with (target / name).open("xb") as file:
        shutil.copyfileobj(cast("IO[bytes]", archive.extractfile(member)), file)


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
    copies = [copy for copy in children(store.storage, copies_folder(store)) if copy.name not in current]
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

    def __init__(self, storage: Storage, folder: str) -> None:
        self._storage = storage
        self._paths = iter([part.path for part in storage.list(folder)])
        self._block = memoryview(b"")

    def read(self, size: int) -> bytes:
        while not self._block:
            path = next(self._paths, None)
            if path is None:
                return b""
            self._block = memoryview(self._storage.read(path))
        data, self._block = self._block[:size], self._block[size:]
        return bytes(data)
