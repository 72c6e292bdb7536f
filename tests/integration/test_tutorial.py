"""docs/tutorial.md as a reader does it: each command, and what the page says it prints."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from support.documents import ROOT, blocks

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

_CHANGES = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00"  # when
    r"|(rollback-)?\d{8}T\d{6}-[0-9a-f]{6}"  # which run
    r"|\b[0-9a-f]{12}\b"  # digests
    r"|[\d,.]+ (?:[KM]iB|B|s)\b"  # how long, and sizes: the libraries' versions are in the files
)


def plain(text: str) -> list[str]:
    """Lines without what differs from run to run, and without the spaces that tables are set with."""
    return [" ".join(_CHANGES.sub("?", line).split()) for line in text.splitlines()]


def test_the_tutorial_is_true(tmp_path):
    environ = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "COLUMNS": "200"}
    folder, said = tmp_path, ""
    seen = 0
    for block in blocks(ROOT / "docs" / "tutorial.md"):
        if block.language == "text":
            printed = plain(said)
            for line in plain(block.text):
                assert line in printed, f"{block}: {line!r} is not in what was printed:\n{said}"
                printed = printed[printed.index(line) + 1 :]
                seen += 1
            continue
        words = ["bash", "-euo", "pipefail", "-c", f"{block.text}pwd > {tmp_path}/where"]
        if block.language == "python":
            words = [sys.executable, "-c", block.text]
        done = subprocess.run(
            words,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=folder,
            env=environ,
            timeout=280,
            check=False,
        )
        said = done.stdout
        assert done.returncode == 0, f"{block}:\n{said}"
        folder = Path((tmp_path / "where").read_text(encoding="utf-8").strip())
    assert seen > 25
