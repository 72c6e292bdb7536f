"""Fenced code blocks of the Markdown documents, so that tests can run them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)$")
_NOT_RUN = re.compile(r"^<!-- not run: (?P<why>.+) -->$")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block. `not_run` says why tests do not run it."""

    document: Path
    line: int
    language: str
    text: str
    not_run: str = ""

    def __str__(self) -> str:
        return f"{self.document.relative_to(ROOT)}:{self.line}"


def documents() -> tuple[Path, ...]:
    """Return the hand-written documents. Other tests compare the generated reference with the code."""
    generated = {"api.md", "cli.md", "errors.md", "faults.md", "performance.md", "shuffle.md", "spec.md", "tests.md"}
    found = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")]
    return tuple(sorted(path for path in found if path.parent.name != "reference" or path.name not in generated))


def blocks(document: Path) -> Iterator[Block]:
    """Return the blocks of a document, in order."""
    open_at, kind, indent, lines, why = 0, "", "", [], ""
    for number, line in enumerate(document.read_text(encoding="utf-8").splitlines(), 1):
        fence = _FENCE.match(line)
        if open_at:
            if fence and not fence["language"]:
                yield Block(document, open_at, kind, "".join(f"{each.removeprefix(indent)}\n" for each in lines), why)
                open_at, why = 0, ""
            else:
                lines.append(line)
        elif fence:
            open_at, kind, indent, lines = number, fence["language"], fence["indent"], []
        elif line.strip():
            note = _NOT_RUN.match(line.strip())
            why = note["why"] if note else ""
