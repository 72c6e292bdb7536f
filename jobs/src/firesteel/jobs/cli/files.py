"""Files that a user names on the command line."""

from __future__ import annotations

import errno
from pathlib import Path

from firesteel.conf.errors import RuntimeFault
from firesteel.conf.files import UnusableFileError, read_user_text

_MAX_BYTES = 512 << 20
"""A plan names every input file of its intervals."""


def read_text(path: Path, kind: str) -> str:
    """Read a text file.

    Parameters
    ----------
    kind
        The expected kind of file, such as "a plan".

    Raises
    ------
    RuntimeFault
        FS9008 if the file cannot be read or is not UTF-8 text.
    """
    try:
        return read_user_text(path, _MAX_BYTES)
    except UnusableFileError as error:
        raise RuntimeFault(
            "FS9008", f"{path} {error.why}, expected {kind}.", hint=f"Give the path of {kind}."
        ) from None


def write_text(path: Path, text: str) -> None:
    """Write a text file and create its parent folders. Raise FS9008 if it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise file_fault(error, path) from error


def check_working_directory() -> None:
    """Raise FS9008 if the working directory was deleted: most commands read or write below it."""
    try:
        Path.cwd()
    except OSError as error:
        raise RuntimeFault(
            "FS9008",
            f"the working directory cannot be used: {error.strerror}.",
            hint="Change to an existing folder.",
        ) from error


def file_fault(error: OSError, path: Path | None = None) -> RuntimeFault:
    """Return the error of the operating system as FS9008, with the path."""
    where = str(path or error.filename2 or error.filename or "")
    prefix = f"{where}: " if where else ""
    hint = "Check that the path exists, is a file or folder as needed, and that this user may read and write it."
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        hint = "Free space on the disk."
    return RuntimeFault("FS9008", f"{prefix}{error.strerror or error}.", hint=hint)
