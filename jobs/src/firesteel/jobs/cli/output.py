"""Standard output and standard error that no locale and no reader can break."""

from __future__ import annotations

import codecs
import io
import sys
from typing import TextIO


def keep_output_open() -> None:
    """Have both streams take any text, and drop it once nobody reads it.

    A run that publishes must not fail because `head` has ended, or because a character has no place in the locale's encoding.
    """
    sys.stdout, sys.stderr = _safe(sys.stdout), _safe(sys.stderr)


def _safe(stream: TextIO) -> TextIO:
    """The same descriptor; UTF-8 where the locale knows ASCII only, as Python chooses for the locales C and POSIX."""
    if not isinstance(stream, io.TextIOWrapper):
        return stream  # closed, as by `>&-`
    encoding = "utf-8" if codecs.lookup(stream.encoding).name == "ascii" else stream.encoding
    stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(_Stream(stream.fileno(), "w", closefd=False)),
        encoding=encoding,
        errors="backslashreplace",
        line_buffering=True,
    )


class _Stream(io.FileIO):
    """A descriptor that drops what is written to a pipe without a reader."""

    def write(self, data: bytes) -> int:  # type: ignore[override]
        try:
            return super().write(data)
        except BrokenPipeError:
            return len(data)
