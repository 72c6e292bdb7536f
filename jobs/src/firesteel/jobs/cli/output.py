"""Standard output and standard error that no locale and no reader can break."""

from __future__ import annotations

import io
import sys
from typing import Any, TextIO


def keep_output_open() -> None:
    """Have both streams take any text, and drop it once nobody reads it.

    A run that publishes must not fail because `head` has ended, or because the encoding has no such character.
    """
    sys.stdout, sys.stderr = _safe(sys.stdout), _safe(sys.stderr)


def _safe(stream: TextIO) -> TextIO:
    """Return a stream on the same descriptor."""
    if not isinstance(stream, io.TextIOWrapper):
        return stream  # closed, as by `>&-`
    stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(_Stream(stream.fileno(), "w", closefd=False)),
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=True,
    )


class _Stream(io.FileIO):
    """A descriptor that drops what is written to a pipe without a reader."""

    def write(self, data: Any, /) -> int:
        """Write bytes; without a reader they count as written."""
        try:
            return super().write(data)
        except BrokenPipeError:
            return len(data)
