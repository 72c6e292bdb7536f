"""Files that a person names on the command line."""

from __future__ import annotations

import errno
from pathlib import Path

from firesteel.conf.errors import RuntimeFault


def read_text(path: Path, what: str) -> str:
    """Read a text file.

    Parameters
    ----------
    what
        The kind of file that is expected, such as "a plan".

    Raises
    ------
    RuntimeFault
        FS9008 when it cannot be read or is no text.
    """
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise RuntimeFault(
            "FS9008", f"{path} is not {what}: it is not UTF-8 text.", hint=f"Give the path of {what}."
        ) from error
    except OSError as error:
        raise file_fault(error, path) from error


def write_text(path: Path, text: str) -> None:
    """Write a text file, and the folders above it. FS9008 when it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise file_fault(error, path) from error


def check_working_directory() -> None:
    """Raise FS9008 when the working directory was deleted: most commands read or write below it."""
    try:
        Path.cwd()
    except OSError as error:
        raise RuntimeFault(
            "FS9008",
            f"the working directory cannot be used: {error.strerror}.",
            hint="Change to a folder that exists.",
        ) from error


def file_fault(error: OSError, path: Path | None = None) -> RuntimeFault:
    """What the operating system refused, with the path."""
    where = str(path or error.filename2 or error.filename or "")
    place = f"{where}: " if where else ""
    hint = "Check that the path exists, that it is of the right kind, and that this user may read and write it."
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        hint = "Free space on the disk."
    return RuntimeFault("FS9008", f"{place}{error.strerror or error}.", hint=hint)
