"""Read a file that a user wrote: a spec, a plan, a policy, a suite, SQL, test data.

A path of a user can be a folder, a FIFO that nobody writes to, a device without an end, or a file of gigabytes in any encoding. Each
caller reports the problem with the code of its own kind of file.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from io import BufferedReader, BufferedWriter
from pathlib import Path

UNIT = 1 << 20
MAX_BYTES = 64 * UNIT
"""Limit of a file that people write."""


class UnusableFileError(Exception):
    """A file cannot be read as text.

    Parameters
    ----------
    why
        What is wrong, as the rest of a sentence about the file: "is a folder".
    line
        The line of the problem, if known.
    """

    def __init__(self, why: str, line: int | None = None) -> None:
        super().__init__(why)
        self.why, self.line = why, line


class NotRegularError(OSError):
    """A path is a FIFO, a socket, a device or, where links are not followed, a link."""


@dataclass(frozen=True, slots=True)
class UserFile:
    """The bytes of a file, and the owner and mode of the same file."""

    data: bytes
    state: os.stat_result


def read_user_text(path: Path, limit: int = MAX_BYTES) -> str:
    """Return the text of a regular UTF-8 file, without a byte order mark.

    Raises
    ------
    UnusableFileError
        The file cannot be read, is not a regular file, is longer than `limit` bytes, or is not UTF-8.
    """
    data = read_user_bytes(path, limit)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnusableFileError(
            f"is not UTF-8 text (byte {error.start})", data[: error.start].count(b"\n") + 1
        ) from None


def read_user_bytes(path: Path, limit: int = MAX_BYTES) -> bytes:
    """Return the bytes of a regular file; see `read_user_text`."""
    return read_user_file(path, limit).data


def read_user_file(path: Path, limit: int = MAX_BYTES, *, follow: bool = True) -> UserFile:
    """Return the bytes, the owner and the mode of a regular file.

    Parameters
    ----------
    follow
        Whether the last part of the path may be a link.

    Raises
    ------
    UnusableFileError
        The file cannot be read, is not a regular file, or is longer than `limit` bytes.
    """
    try:
        with open_regular(path, follow=follow) as file:
            state = os.fstat(file.fileno())
            data = file.read(limit + 1) if state.st_size <= limit else b""
    except IsADirectoryError:
        raise UnusableFileError("is a folder, not a file") from None
    except NotRegularError:
        raise UnusableFileError("is not a regular file") from None
    except OSError as error:
        raise UnusableFileError(f"cannot be read: {error.strerror}") from None
    except ValueError:  # a NUL, or half a UTF-16 pair
        raise UnusableFileError("has a name that no file can have") from None
    if max(len(data), state.st_size) > limit:
        shown = f"{limit // UNIT} MiB" if limit >= UNIT else f"{limit >> 10} KiB"
        raise UnusableFileError(f"is larger than {shown}")
    return UserFile(data, state)


def open_regular(path: str | Path, *, follow: bool = True) -> BufferedReader:
    """Open a regular file for reading. A FIFO without a writer would block for ever, and a device may have no end.

    Raises
    ------
    NotRegularError
        The path is not a regular file, or it is a link and `follow` is false.
    OSError
        The file cannot be opened. IsADirectoryError for a folder.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY | (0 if follow else os.O_NOFOLLOW)
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        if error.errno in {errno.ENXIO, errno.ENODEV} or (
            error.errno == errno.ELOOP and not follow
        ):  # a socket, a link
            raise NotRegularError(error.errno, "not a regular file") from None
        raise
    mode = os.fstat(descriptor).st_mode  # of the open file: another one may be at the path now
    if stat.S_ISREG(mode):
        return open(descriptor, "rb")  # noqa: PTH123 - of a descriptor
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    raise NotRegularError(errno.EOPNOTSUPP, "not a regular file")


def open_to_write(path: str) -> BufferedWriter:
    """Open a regular file of one name and make it empty, or create it.

    Others may be able to write to the folder. A link there must not lead the write to another file, and a FIFO must not block it.

    Raises
    ------
    OSError
        The file cannot be opened. Also for links, files with several names, and all other kinds of files.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
    file = os.fdopen(os.open(path, flags, 0o666), "wb")
    state = os.fstat(file.fileno())
    if stat.S_ISREG(state.st_mode) and state.st_nlink <= 1:
        os.ftruncate(file.fileno(), 0)
        return file
    file.close()
    raise OSError(errno.EOPNOTSUPP, "not a regular file with one name")


def unstorable(text: str) -> str:
    """Return why paths, records and JSON cannot hold a text; "" if they can.

    Examples
    --------
    >>> unstorable("Zoë"), unstorable("a" + chr(0))
    ('', 'it contains a NUL character')
    """
    if "\0" in text:
        return "it contains a NUL character"
    return "it contains half of a UTF-16 pair" if any("\ud800" <= char <= "\udfff" for char in text) else ""
