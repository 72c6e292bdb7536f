"""Deletion in the background: a folder is renamed at once and deleted by a thread, or after a restart."""

from __future__ import annotations

import itertools
import logging
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

_LOG = logging.getLogger(__name__)
TRASH = ".trash"
_MODE = 0o700


class Trash:
    """A trash folder in each of the service's folders, so that a rename stays on its file system."""

    def __init__(self, folders: tuple[Path, ...]) -> None:
        self._folders = folders
        self._names = itertools.count()
        self._thread = ThreadPoolExecutor(1, "delete")
        for folder in folders:
            left = folder / TRASH
            shutil.rmtree(left, ignore_errors=True)  # of an earlier process
            left.mkdir(_MODE, exist_ok=True)

    def discard(self, path: Path) -> None:
        """Remove a folder below one of ours. Its disk space is freed later."""
        folder = next(folder for folder in self._folders if path.is_relative_to(folder))
        trashed = folder / TRASH / str(next(self._names))
        try:
            path.rename(trashed)
        except FileNotFoundError:
            return
        self._thread.submit(_delete, trashed)

    def close(self) -> None:
        """Stop the thread. A restarted service deletes the rest. Idempotent."""
        self._thread.shutdown(wait=True, cancel_futures=True)


def _delete(path: Path) -> None:
    shutil.rmtree(
        path, onerror=lambda _call, where, error: _LOG.warning("%s could not be deleted: %s", where, error[1])
    )
