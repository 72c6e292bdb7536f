"""Deletes without waiting for the disk: moved aside in one step, deleted by a thread, or by the next life of the service."""

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
    """A folder of what is to be deleted in each of the service's folders: a move never leaves its file system."""

    def __init__(self, folders: tuple[Path, ...]) -> None:
        self._folders = folders
        self._names = itertools.count()
        self._thread = ThreadPoolExecutor(1, "delete")
        for folder in folders:
            left = folder / TRASH
            shutil.rmtree(left, ignore_errors=True)  # of an earlier life
            left.mkdir(_MODE, exist_ok=True)

    def discard(self, path: Path) -> None:
        """`path`, a folder below one of ours, is gone when this returns; its bytes soon."""
        folder = next(each for each in self._folders if path.is_relative_to(each))
        aside = folder / TRASH / str(next(self._names))
        try:
            path.rename(aside)
        except FileNotFoundError:
            return
        self._thread.submit(_delete, aside)

    def close(self) -> None:
        """What was not deleted yet is left to the next life. Idempotent."""
        self._thread.shutdown(wait=True, cancel_futures=True)


def _delete(path: Path) -> None:
    shutil.rmtree(path, onerror=lambda _call, where, error: _LOG.warning("%s was not deleted: %s", where, error[1]))
