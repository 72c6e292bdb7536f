"""Standard output and standard error that accept any text and survive a closed pipe."""

from __future__ import annotations

import io
import sys
from typing import Any, TextIO


def keep_output_open() -> None:
    """Make both streams accept any character, and drop text after their reader has exited.

    A run must not fail because `head` exits or because the encoding lacks a character.
    """
    sys.stdout, sys.stderr = _safe(sys.stdout), _safe(sys.stderr)


def _safe(stream: TextIO) -> TextIO:
    """Return a safe stream on the same file descriptor."""
    if not isinstance(stream, io.TextIOWrapper):
        return stream  # closed, for example by `>&-`
    stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(_Stream(stream.fileno(), "w", closefd=False)),
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=True,
    )


class _Stream(io.FileIO):
    """A file descriptor that drops bytes that are written to a pipe without a reader."""

    def write(self, data: Any, /) -> int:
        """Write bytes. Report dropped bytes as written."""
        try:
            return super().write(data)
        except BrokenPipeError:
            return len(data)
