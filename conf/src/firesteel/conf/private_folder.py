"""Create folders that other users of the machine can neither enter nor prepare."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path


def private_folder(path: Path) -> Path:
    """Create a folder of mode 0700, or check an existing one, and return it.

    Temporary folders with a fixed name are in a directory where every user can create files. An existing entry is therefore used
    only if it is a directory of this user that no other user can enter. A symbolic link is not followed.

    Raises
    ------
    PermissionError
        Another user can have created the entry, or can enter it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)
    state = path.lstat()
    if not stat.S_ISDIR(state.st_mode):
        raise PermissionError(f"{path} is not a directory.")
    if state.st_uid != os.geteuid():
        raise PermissionError(f"{path} belongs to another user (uid {state.st_uid}).")
    if state.st_mode & 0o077:
        raise PermissionError(f"{path} is open to other users (mode {stat.S_IMODE(state.st_mode):04o}; expected 0700).")
    return path
