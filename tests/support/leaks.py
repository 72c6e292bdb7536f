"""Search for secrets: in all bytes below a folder, in texts, and on the command lines of all processes."""

from __future__ import annotations

import io
import subprocess
import threading
from pathlib import Path
from typing import Self

import pyarrow.parquet as pq

from firesteel.conf.redaction import forms


def in_text(text: str | bytes, *values: str) -> list[str]:
    """Return the encodings of the values that a text contains."""
    data = text.encode() if isinstance(text, str) else text
    return [form for value in values for form in sorted(forms(value)) if form.encode() in data]


def in_files(folder: Path, *values: str, but: Path) -> list[str]:
    """Return the files below `folder` that contain a value in any encoding, also in the compressed rows of Parquet files."""
    found = []
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.is_relative_to(but):
            continue
        data = path.read_bytes()
        if path.suffix == ".parquet":
            data += repr(pq.read_table(io.BytesIO(data), partitioning=None).to_pylist()).encode()
        found += [f"{path.relative_to(folder)}: {form}" for form in in_text(data, *values)]
    return found


class CommandLines:
    """Records all command lines that `ps` shows during the block."""

    def __init__(self) -> None:
        self.seen: set[str] = set()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.05):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    self.seen.add(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
                except OSError:  # it has ended meanwhile
                    continue


def run(
    words: list[str], folder: Path, environ: dict[str, str], timeout_s: float = 560.0
) -> tuple[subprocess.CompletedProcess[str], set[str]]:
    """Run a program, and return its result and every command line of that time."""
    with CommandLines() as watch:
        done = subprocess.run(
            words, capture_output=True, text=True, timeout=timeout_s, check=False, cwd=folder, env=environ
        )
    return done, watch.seen
