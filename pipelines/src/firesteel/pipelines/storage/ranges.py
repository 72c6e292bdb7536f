"""A file of a storage as a Python file object, which reads ranges."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from firesteel.pipelines.storage.base import Storage


class RangeReader(io.RawIOBase):
    """A seekable file that reads by `Storage.read`. Reading a footer takes two small reads, whatever the file's size.

    Parameters
    ----------
    peek
        Read by `Storage.peek` instead.
    """

    def __init__(self, storage: Storage, path: str, length: int, *, peek: bool = False) -> None:
        super().__init__()
        self._read: Callable[[str, int, int], bytes] = storage.peek if peek else storage.read
        self._path, self._length, self._position = path, length, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._length}[whence]
        self._position = base + offset
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        remaining = max(0, self._length - self._position)
        count = remaining if size is None or size < 0 else min(size, remaining)
        data = self._read(self._path, self._position, count) if count else b""
        self._position += len(data)
        return data
