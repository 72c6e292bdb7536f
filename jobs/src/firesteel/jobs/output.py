"""Standard output and standard error that accept any text, survive a closed pipe, and do not control the terminal.

Texts of others, such as records of the ledger, may contain escape sequences that hide lines or write into the terminal's title.
All text of the programs passes through these streams, so this is the one place that escapes them.
"""

from __future__ import annotations

import io
import os
import re
import sys
from typing import Any, TextIO

_CONTROL = "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]"
"""Control characters but tab and newline, and characters that reorder or break lines."""
_COLOUR = "\x1b\\[(?!(?:[0-9;]*;)?0*8[;m])[0-9;]*m"
"""Sequences of colours and fonts, but not of hidden text."""
_PROGRESS = f"{_COLOUR}|\x1b\\[[0-9]*[AK]|\x1b\\[\\?25[lh]|\r"
"""Sequences of rich's progress bars."""
_PLAIN = "(?!)"
_FORCED = "FORCE_COLOR"
"""A variable with which rich writes colours into pipes."""


def keep_output_open() -> None:
    """Make both streams accept any character, and drop text after their reader has exited.

    A run must not fail because `head` exits or because the encoding lacks a character.
    """
    sys.stdout, sys.stderr = _safe(sys.stdout), _safe(sys.stderr)


def _safe(stream: TextIO) -> TextIO:
    """Return a safe stream on the same file descriptor."""
    if not isinstance(stream, io.TextIOWrapper):
        return stream  # closed, for example by `>&-`
    try:
        descriptor = stream.fileno()
    except io.UnsupportedOperation:
        return stream  # in memory
    stream.flush()
    terminal = stream.isatty()
    allowed = (
        _PROGRESS if terminal and stream is sys.stderr else _COLOUR if terminal or _FORCED in os.environ else _PLAIN
    )
    return _Text(
        allowed,
        io.BufferedWriter(_Stream(descriptor, "w", closefd=False)),
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=True,
    )


class _Text(io.TextIOWrapper):
    """A text stream that escapes control characters outside the sequences `allowed`, as JSON does."""

    def __init__(self, allowed: str, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._controls = re.compile(f"({allowed})|{_CONTROL}")

    def write(self, text: str, /) -> int:
        """Write the text with its control characters escaped."""
        super().write(self._controls.sub(lambda found: found[1] or f"\\u{ord(found[0]):04x}", text))
        return len(text)


class _Stream(io.FileIO):
    """A file descriptor that drops bytes that are written to a pipe without a reader."""

    def write(self, data: Any, /) -> int:
        """Write bytes. Report dropped bytes as written."""
        try:
            return super().write(data)
        except BrokenPipeError:
            return len(data)
