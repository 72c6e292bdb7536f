"""The storage for `file://`: one machine, tests, and shared POSIX file systems.

Renames use `renameat2(RENAME_NOREPLACE)`: plain `rename` overwrites files and empty directories silently, and a check before
the rename lets two writers win at once.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator, Sequence
from dataclasses import replace

from firesteel.conf.errors import StorageError
from firesteel.conf.files import open_regular, open_to_write
from firesteel.pipelines.storage.base import FileStatus
from firesteel.pipelines.storage.paths import absolute, join, parent_of, scan, status_of_written, walk

_AT_FDCWD = -100  # linux/fcntl.h
_RENAME_NOREPLACE = 1  # linux/fs.h
_RACES = 10
_BLOCK = 1 << 20
_MISSING = (errno.ENOENT, errno.ENOTDIR)


class LocalStorage:
    """The local file system. Stateless: safe in threads and across forks."""

    @property
    def base_uri(self) -> str:
        """`file://`."""
        return "file://"

    def status(self, path: str) -> FileStatus | None:
        """See Storage. Links are followed, as Hadoop's local file system does."""
        return self._status(absolute(path))

    def _status(self, path: str) -> FileStatus | None:
        try:
            return _status(path, os.stat(path))  # noqa: PTH116 - storage paths are text, not Path
        except OSError as error:
            if error.errno in _MISSING:
                return None
            raise _error(error, path) from error

    def list(self, path: str) -> list[FileStatus]:
        """See Storage."""
        path = absolute(path)
        try:
            names = sorted(os.listdir(path))  # noqa: PTH208
        except OSError as error:
            raise _error(error, path) from error
        folder = path.rstrip("/")
        children = (self._child(f"{folder}/{name}") for name in names)
        return [child for child in children if child is not None]

    def _child(self, path: str) -> FileStatus | None:
        """Return the status. A dangling link counts as an empty file, so that readers of a directory notice it."""
        status = self._status(path)
        if status is None and os.path.islink(path):  # noqa: PTH114
            with contextlib.suppress(FileNotFoundError):
                return replace(_status(path, os.lstat(path)), length=0)
        return status

    def walk(self, path: str) -> Iterator[FileStatus]:
        """See Storage."""
        return walk(self, absolute(path))

    def scan(self, paths: Sequence[str]) -> tuple[FileStatus, ...]:
        """See Storage."""
        return scan(self, paths)

    def read(self, path: str, offset: int = 0, length: int | None = None) -> bytes:
        """See Storage."""
        path = absolute(path)
        try:
            with open_regular(path) as file:
                file.seek(offset)
                return file.read(-1 if length is None else length)
        except OSError as error:
            raise _error(error, path) from error

    def peek(self, path: str, offset: int, length: int) -> bytes:
        """See Storage."""
        return self.read(path, offset, length)

    def checksum(self, path: str, length: int) -> str:
        """See Storage. SHA-256 of all bytes, or of the first `length` + 1."""
        path = absolute(path)
        digest, remaining = hashlib.sha256(), length + 1
        try:
            with open_regular(path) as file:
                while block := file.read(min(_BLOCK, remaining)):
                    digest.update(block)
                    remaining -= len(block)
                return f"SHA-256:{digest.hexdigest()}"
        except OSError as error:
            raise _error(error, path) from error

    def create(self, path: str, data: bytes) -> FileStatus:
        """See Storage. The bytes are on disk when this returns."""
        path = absolute(path)
        hidden = join(parent_of(path), f".{path.rsplit('/', 1)[-1]}.{secrets.token_hex(8)}.tmp")
        self.mkdirs(parent_of(path))
        try:
            self._write(hidden, data)
            self.rename(hidden, path)
        except BaseException:
            with contextlib.suppress(OSError):  # report the first error
                os.unlink(hidden)  # noqa: PTH108
            raise
        return status_of_written(self, path)

    def replace(self, path: str, data: bytes) -> FileStatus:
        """See Storage."""
        path = absolute(path)
        self.mkdirs(parent_of(path))
        self._write(path, data)
        return status_of_written(self, path)

    def rename(self, source: str, target: str) -> None:
        """See Storage. FS8002 if the file system has no exclusive rename: it cannot store a ledger."""
        source, target = absolute(source), absolute(target)
        failed = _renameat2()(
            _AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), ctypes.c_uint(_RENAME_NOREPLACE)
        )
        if failed:
            number = ctypes.get_errno()
            path = target if number == errno.EEXIST else source
            raise _error(OSError(number, os.strerror(number)), path, to=target)
        for folder in {parent_of(source), parent_of(target)}:
            _sync(folder)

    def mkdirs(self, path: str) -> None:
        """See Storage."""
        path = absolute(path)
        for attempt in range(_RACES):
            try:
                os.makedirs(path, exist_ok=True)  # noqa: PTH103
            except FileNotFoundError as error:
                # Another process deleted a parent that was just created. HDFS does this atomically, here it takes several steps.
                if attempt == _RACES - 1:
                    raise _error(error, path) from error
            except OSError as error:
                raise _error(error, path) from error
            else:
                return

    def delete(self, path: str) -> bool:
        """See Storage. Deletes links, not their targets."""
        path = absolute(path)
        if path == "/":
            raise ValueError("the root folder is never deleted")
        for attempt in range(_RACES):
            try:
                return _delete(path) or attempt > 0
            except OSError as error:
                # Another process writes below meanwhile. HDFS does this atomically, here it takes several steps.
                if error.errno != errno.ENOTEMPTY or attempt == _RACES - 1:
                    raise _error(error, path) from error
        raise AssertionError("unreachable")

    def close(self) -> None:
        """Do nothing: no file is open."""

    def _write(self, path: str, data: bytes) -> None:
        try:
            with open_to_write(path) as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise _error(error, path) from error


def _status(path: str, facts: os.stat_result) -> FileStatus:
    is_dir = stat.S_ISDIR(facts.st_mode)
    return FileStatus(path, is_dir, 0 if is_dir else facts.st_size, facts.st_mtime_ns // 1_000_000)


def _delete(path: str) -> bool:
    """Delete depth first. Ignore files that another process deletes meanwhile."""
    try:
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            os.unlink(path)  # noqa: PTH108
            return True
        for name in os.listdir(path):  # noqa: PTH208
            _delete(join(path, name))
        os.rmdir(path)  # noqa: PTH106
    except OSError as error:
        if error.errno in _MISSING:
            return False
        raise
    return True


def _sync(folder: str) -> None:
    """Flush a folder, so that a rename survives a power failure. Ignore a folder that is deleted meanwhile."""
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno == errno.EACCES:  # a folder can be writable but not readable
            return
        raise _error(error, folder) from error
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some file systems have no fsync for folders
            raise _error(error, folder) from error
    finally:
        os.close(handle)


@functools.cache
def _renameat2() -> ctypes._NamedFuncPointer:
    """Return renameat2 of the C library (glibc 2.28, Linux 3.15)."""
    try:
        return ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:
        raise StorageError(
            "FS8002",
            "this system has no renameat2, so local files cannot be published safely.",
            hint="Use Linux with glibc 2.28 or newer, or hdfs://.",
        ) from None


def _error(error: OSError, path: str, to: str = "") -> StorageError:
    """Return the StorageError for an error of the operating system, by its errno."""
    number, reason = error.errno or 0, error.strerror or type(error).__name__
    if number in _MISSING:
        return StorageError("FS8003", f"{path}{f' (or the folder of {to})' if to else ''}: {reason}.")
    if number == errno.EEXIST:
        return StorageError("FS8004", f"{path} already exists.")
    hints = {
        errno.EXDEV: "Put the sink and the spec's `storage` on one mounted file system.",
        errno.EINVAL: "Use another file system or hdfs://: this one may lack exclusive renames, as some network mounts do.",
        errno.ENOSPC: "Free disk space, then run again.",
    }
    move = f" -> {to}" if to else ""
    return StorageError(
        "FS8002", f"{path}{move}: {reason}.", hint=hints.get(number, "Check the owner and mode of the path.")
    )
