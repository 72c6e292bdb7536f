"""Environments of other programs, made once for their pins and kept in the user's cache."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

UV = str(Path(sys.prefix, "bin", "uv"))
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "firesteel")
"""Tests may set another cache later."""


def cached_environment(name: str, pins: Path) -> Path:
    """Return the folder of an environment with the pinned packages. The first time uv downloads them for about 30 s."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    digest = hashlib.sha256(pins.read_bytes() + version.encode()).hexdigest()[:16]
    folder = CACHE / f"{name}-{digest}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{name}-{digest}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / ".done").exists():
            shutil.rmtree(folder, ignore_errors=True)
            quietly([UV, "venv", "--quiet", "--python", sys.executable, str(folder)])
            pip = [UV, "pip", "install", "--quiet", "--compile-bytecode"]
            quietly([*pip, "--python", str(folder / "bin" / "python"), "--requirements", str(pins)])
            (folder / ".done").touch()
    return folder


def quietly(words: Sequence[str]) -> None:
    """Run a program. A failure has its output."""
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
