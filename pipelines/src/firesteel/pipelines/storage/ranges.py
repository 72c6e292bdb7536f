"""A file of a storage as Python and pyarrow read files: by ranges, without fetching the whole."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from firesteel.pipelines.storage.base import Storage


class Ranges(io.RawIOBase):
    """A seekable file over `Storage.read`: a footer costs two small reads, whatever the file's size.

    Parameters
    ----------
    peek
        Read by `Storage.peek`, for plans.
    """

    def __init__(self, storage: Storage, path: str, length: int, *, peek: bool = False) -> None:
        super().__init__()
        self._read: Callable[[str, int, int], bytes] = storage.peek if peek else storage.read
        self._path, self._length, self._at = path, length, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._length}[whence]
        self._at = base + offset
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        left = max(0, self._length - self._at)
        wanted = left if size is None or size < 0 else min(size, left)
        data = self._read(self._path, self._at, wanted) if wanted else b""
        self._at += len(data)
        return data
