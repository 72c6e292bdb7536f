"""Read a file that a user wrote: a spec, a plan, a policy, a suite, SQL, test data.

A path of a user can be a folder, a FIFO that nobody writes to, a device without an end, or a file of gigabytes in any encoding. Each
caller reports the problem with the code of its own kind of file.
"""

from __future__ import annotations

import os
import stat
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
    try:
        # A FIFO without a writer would block `open` for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as error:
        raise UnusableFileError(f"cannot be read: {error.strerror}") from None
    except ValueError:  # a NUL, or half a UTF-16 pair
        raise UnusableFileError("has a name that no file can have") from None
    state = os.fstat(descriptor)  # of the open file: another one may be at the path now
    if not stat.S_ISREG(state.st_mode):
        os.close(descriptor)
        raise UnusableFileError("is a folder, not a file" if stat.S_ISDIR(state.st_mode) else "is not a regular file")
    with open(descriptor, "rb") as file:  # noqa: PTH123 - of a descriptor
        try:
            data = file.read(limit + 1) if state.st_size <= limit else b""
        except OSError as error:
            raise UnusableFileError(f"cannot be read: {error.strerror}") from None
    if max(len(data), state.st_size) > limit:
        shown = f"{limit // UNIT} MiB" if limit >= UNIT else f"{limit >> 10} KiB"
        raise UnusableFileError(f"is larger than {shown}")
    return data


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
