"""Local files as a Storage: `file://`, for one machine, for tests, and for shared POSIX file systems.

Renames are `renameat2(RENAME_NOREPLACE)`: plain `rename` overwrites files and empty directories without a word, and
"look first, then rename" lets two writers win at once.
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
from firesteel.pipelines.storage.base import FileStatus
from firesteel.pipelines.storage.paths import absolute, join, parent_of, scan, walk

_AT_FDCWD = -100  # linux/fcntl.h
_RENAME_NOREPLACE = 1  # linux/fs.h
_RACES = 10
_MISSING = (errno.ENOENT, errno.ENOTDIR)


class LocalStorage:
    """The local file system. Stateless: safe in threads and across forks."""

    @property
    def base_uri(self) -> str:
        """`file://`."""
        return "file://"

    def status(self, path: str) -> FileStatus | None:
        """See Storage. Links are followed, as Hadoop's local file system does."""
        path = absolute(path)
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
        children = (self._child(join(path, name)) for name in names)
        return [child for child in children if child is not None]

    def _child(self, path: str) -> FileStatus | None:
        """As `status`. A link to nothing is an empty file, so that who reads a directory hears of it."""
        found = self.status(path)
        if found is None and os.path.islink(path):  # noqa: PTH114
            with contextlib.suppress(FileNotFoundError):
                return replace(_status(path, os.lstat(path)), length=0)
        return found

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
            with open(path, "rb") as file:  # noqa: PTH123
                file.seek(offset)
                return file.read(-1 if length is None else length)
        except OSError as error:
            raise _error(error, path) from error

    def peek(self, path: str, offset: int, length: int) -> bytes:
        """See Storage."""
        return self.read(path, offset, length)

    def checksum(self, path: str) -> str:
        """See Storage. SHA-256 of all bytes."""
        path = absolute(path)
        try:
            with open(path, "rb") as file:  # noqa: PTH123
                return f"SHA-256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
        except OSError as error:
            raise _error(error, path) from error

    def create(self, path: str, data: bytes) -> FileStatus:
        """See Storage. The bytes are on the disk when this returns."""
        path = absolute(path)
        hidden = join(parent_of(path), f".{path.rsplit('/', 1)[-1]}.{secrets.token_hex(8)}.tmp")
        self.mkdirs(parent_of(path))
        try:
            self._write(hidden, data)
            self.rename(hidden, path)
        except BaseException:
            with contextlib.suppress(OSError):  # the first error is the one to tell
                os.unlink(hidden)  # noqa: PTH108
            raise
        return self._written(path)

    def replace(self, path: str, data: bytes) -> FileStatus:
        """See Storage."""
        path = absolute(path)
        self.mkdirs(parent_of(path))
        self._write(path, data)
        return self._written(path)

    def rename(self, source: str, target: str) -> None:
        """See Storage. FS8002 where the file system has no exclusive rename; then it cannot hold a ledger."""
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
                # Another one removed a parent that was just made: HDFS does this in one step, here it is many.
                if attempt == _RACES - 1:
                    raise _error(error, path) from error
            except OSError as error:
                raise _error(error, path) from error
            else:
                return

    def delete(self, path: str) -> bool:
        """See Storage. Links are removed, not what they point to."""
        path = absolute(path)
        if path == "/":
            raise ValueError("the root folder is never deleted")
        for attempt in range(_RACES):
            try:
                return _delete(path) or attempt > 0
            except OSError as error:
                # Another one writes below while we delete. HDFS does this in one step, here it is many.
                if error.errno != errno.ENOTEMPTY or attempt == _RACES - 1:
                    raise _error(error, path) from error
        raise AssertionError("unreachable")

    def close(self) -> None:
        """Nothing is held open."""

    def _write(self, path: str, data: bytes) -> None:
        try:
            with open(path, "wb") as file:  # noqa: PTH123
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise _error(error, path) from error

    def _written(self, path: str) -> FileStatus:
        status = self.status(path)
        if status is None:
            raise StorageError("FS8003", f"{path} was removed while it was being written.")
        return status


def _status(path: str, found: os.stat_result) -> FileStatus:
    is_dir = stat.S_ISDIR(found.st_mode)
    return FileStatus(path, is_dir, 0 if is_dir else found.st_size, found.st_mtime_ns // 1_000_000)


def _delete(path: str) -> bool:
    """Depth first. What another one removes meanwhile is gone, which is what was wanted."""
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
    """Make a rename outlive a power cut. A folder that is gone by now has nothing to keep."""
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno == errno.EACCES:  # a folder may be writable and not readable
            return
        raise _error(error, folder) from error
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:  # file systems that have no fsync of folders
            raise _error(error, folder) from error
    finally:
        os.close(handle)


@functools.cache
def _renameat2() -> ctypes._NamedFuncPointer:
    """The C library's renameat2 (glibc 2.28, Linux 3.15)."""
    try:
        return ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:
        raise StorageError(
            "FS8002",
            "this system has no renameat2, so local files cannot be published safely.",
            hint="Use Linux with glibc 2.28 or newer, or hdfs://.",
        ) from None


def _error(error: OSError, path: str, to: str = "") -> StorageError:
    """An error of ours for the operating system's, by errno."""
    number, why = error.errno or 0, error.strerror or type(error).__name__
    if number in _MISSING:
        return StorageError("FS8003", f"{path}{f' (or the folder of {to})' if to else ''}: {why}.")
    if number == errno.EEXIST:
        return StorageError("FS8004", f"{path} exists already.")
    hints = {
        errno.EXDEV: "The sink and the spec's `storage` must be on one mounted file system.",
        errno.EINVAL: "The file system may lack exclusive renames (some network mounts do); use another, or hdfs://.",
        errno.ENOSPC: "Make room, then run again.",
    }
    move = f" -> {to}" if to else ""
    return StorageError("FS8002", f"{path}{move}: {why}.", hint=hints.get(number, "Check owner and mode of the path."))
