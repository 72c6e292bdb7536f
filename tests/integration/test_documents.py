"""Documents as a reader uses them: the tutorial with what it says it prints, and what the other pages show, in its project."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from support.documents import ROOT, Block, blocks

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

_CHANGES = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00"  # when
    r"|(rollback-)?\d{8}T\d{6}-[0-9a-f]{6}"  # which run
    r"|\b[0-9a-f]{12}\b"  # digests
    r"|[\d,.]+ (?:[KM]iB|B|s)\b"  # how long, and sizes: the libraries' versions are in the files
)
SHOWN = ("README.md", "examples/flights/README.md", "docs/how-to/airflow.md", "docs/how-to/suites.md", "docs/how-to/lineage.md",
         "docs/how-to/clusters.md", "docs/concepts/security.md")  # fmt: skip
ELSEWHERE = {
    "make ": "the targets themselves",
    "--deploy-mode": "tests/integration/test_yarn.py",
    "--master yarn": "tests/integration/test_yarn.py",
    "firesteel pack": "tests/integration/test_yarn.py",
    "hdfs dfs": "Hadoop's command",
    "kubectl": "there is no cluster of Kubernetes here",
    "HADOOP_CONF_DIR": "tests/integration/test_yarn.py",
    "airflow": "tests/integration/test_airflow.py",
}
"""Lines of shell blocks that are run by other tests, or by none."""
SHORTER = {"2013-12-31": "2013-01-03", "2013-03-01..2013-03-31": "2013-01-02..2013-01-02"}


def plain(text: str) -> list[str]:
    """Lines without what differs from run to run, and without the spaces that tables are set with."""
    return [" ".join(_CHANGES.sub("?", line).split()) for line in text.splitlines()]


class Reader:
    """Somebody at a terminal, who types what a page shows."""

    def __init__(self, folder: Path) -> None:
        self._where = folder / "where"
        self.folder = folder
        self.said = ""

    def types(self, block: Block, text: str) -> None:
        words = ["bash", "-euo", "pipefail", "-c", f"{text}\npwd > {self._where}"]
        if block.language == "python":
            words = [sys.executable, "-c", text]
        done = subprocess.run(
            words,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self.folder,
            env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "COLUMNS": "200"},
            timeout=280,
            check=False,
        )
        self.said = done.stdout
        assert done.returncode == 0, f"{block}: {text}\n{self.said}"
        self.folder = Path(self._where.read_text(encoding="utf-8").strip())


def test_the_tutorial_is_true(tmp_path):
    reader, seen = Reader(tmp_path), 0
    for block in blocks(ROOT / "docs" / "tutorial.md"):
        if block.language != "text":
            reader.types(block, block.text)
            continue
        printed = plain(reader.said)
        for line in plain(block.text):
            assert line in printed, f"{block}: {line!r} is not in what was printed:\n{reader.said}"
            printed = printed[printed.index(line) + 1 :]
            seen += 1
    assert seen > 25


@pytest.mark.long
def test_what_other_pages_show_runs_in_its_project(tmp_path):
    """In the order of `SHOWN`, in the project that the README's first line makes; periods of a year are three days here."""
    reader, run = Reader(tmp_path), ""
    ran: list[str] = []
    for block in (each for document in SHOWN for each in blocks(ROOT / document)):
        if block.not_run or block.language not in {"bash", "python"} or "airflow.sdk" in block.text:
            continue
        if (
            "firesteel.score(" in block.text
        ):  # on a DataFrame of the reader's own: tests/integration/test_api_examples.py
            continue
        texts = [block.text] if block.language == "python" else block.text.replace("\\\n", " ").splitlines()
        for shown in texts:
            if block.language == "bash" and any(mark in shown for mark in ELSEWHERE):
                continue
            text = re.sub(r"\d{8}T\d{6}-[0-9a-f]{6}", run, shown) if run and "--run-id" not in shown else shown
            for long, short in SHORTER.items():
                text = text.replace(long, short)
            text = re.sub(r"\s+#.*", "", text) if block.language == "bash" else text
            if text in ran:  # pages show some of the same
                continue
            reader.types(block, text)
            ran.append(text)
            if not run and (published := re.search(r"PUBLISHED .* run (\S+)", reader.said)):
                run = published[1]
    verbs = {words[1] for words in map(str.split, ran) if words[0] == "firesteel"}
    assert verbs >= {
        "init",
        "validate",
        "test",
        "explain",
        "plan",
        "run",
        "status",
        "submit",
        "backfill",
        "doctor",
    }
    assert sum("import" in text for text in ran) == 2  # the blocks of Python: README and suites
