"""Names and sentences that firesteel has retired stay out of source, help and documents (ARCHITECTURE.md has the glossary)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from support.documents import ROOT

RETIRED = {
    "Area": "StateStore",
    "Aside": "Split",
    "Ceiling": "ExecutorHoursBudget",
    "Handover": "ResultStore",
    "Holder": "client",
    "LadderClient": "FallbackBlockClient",
    "Presence": "RunHeartbeat",
    "Shipment": "SubmitPackage",
    "Teller": "RunReporter",
    "cannot be had": "is not available",
    "how many-eth": "the sequence number",
    "hung up": "closed the connection",
    "in the clear": "unencrypted",
    "is no whole": "is not a valid",
    "kin": "task key",
    "leave aside": "exclude",
    "made_of": "hash inputs",
    "mend": "fix",
    "mended": "fixed",
    "mends": "fixes",
    "on_what": "name the thing",
    "rival": "challenger",
    "standing": "active, or the state of an interval",
    "take out": "exclude",
    "taken out": "excluded",
    "takes out": "excludes",
    "that which": "name the thing",
    "what became of": "the outcome",
    "what stands": "the state",
}
"""A retired word or phrase, and what to write in its place."""

WRITTEN = (".py", ".md", ".java", ".yaml", ".toml", ".sql", ".html", ".j2")
FOLDERS = (
    "conf",
    "pipelines",
    "udfs",
    "rdma_shuffle",
    "jobs",
    "api",
    "airflow_provider",
    "tools",
    "benchmarks",
    "docs",
    "examples",
    "tests",
)
RETIRED_HERE = Path(__file__)


def texts() -> list[Path]:
    assert all((ROOT / folder).is_dir() for folder in FOLDERS)
    below = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.suffix in WRITTEN]
    return sorted(path for path in [*below, *ROOT.glob("*.md")] if path.is_file() and path != RETIRED_HERE)


@pytest.mark.parametrize(("word", "instead"), RETIRED.items(), ids=RETIRED)
def test_nothing_says_it(word, instead):
    said = re.compile(rf"(?<![\w.-]){re.escape(word)}(?![\w-])")
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in texts()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if said.search(line)
    ]
    assert not found, f"`{word}`: write {instead}"
