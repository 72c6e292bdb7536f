"""Whether an earlier attempt at a task died on this machine: then its challenger is left out, and its model put behind a wall.

A worker that dies says nothing. So each task leaves a mark while it runs; a mark whose process is gone is that of a death.
Tasks that are tried again for another reason, a lost executor or a decommissioned one, find no mark and run as ever.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyspark import TaskContext

    from firesteel.udfs.spec import ScoreSpec

DIED = "a Python worker died while it scored: these rows were scored without it"


@contextmanager
def attempt_at(context: TaskContext | None, spec: ScoreSpec, job: str) -> Iterator[ScoreSpec]:
    """Mark the task while the block runs; the scoring that suits it.

    Parameters
    ----------
    job
        A name that no other scoring has, and all attempts at this one share.
    """
    challenger = spec.challenger if spec.challenger is not None and not spec.challenger.off else None
    if context is None or (spec.on_error.action != "dead_letter" and challenger is None):
        yield spec
        return
    folder = Path(tempfile.gettempdir(), f"firesteel-tasks-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    mark = folder / f"{job}-{context.partitionId()}"
    deaths = _deaths(mark) if context.attemptNumber() > 0 else 0
    mark.write_text(f"{os.getpid()} {deaths}", encoding="ascii")
    try:
        yield _suited(spec, deaths)
    finally:
        mark.unlink(missing_ok=True)


def _suited(spec: ScoreSpec, deaths: int) -> ScoreSpec:
    """After a death the challenger is left out, which may have been its cause; after one without it the model gets its wall."""
    challenger = spec.challenger
    if deaths and challenger is not None and not challenger.off:
        spec, deaths = replace(spec, challenger=replace(challenger, off=DIED)), deaths - 1
    return replace(spec, backend="guarded") if deaths and spec.on_error.action == "dead_letter" else spec


def _deaths(mark: Path) -> int:
    """How often attempts at the task died on this machine, the last one among them; none when that one is not dead."""
    try:
        pid, before = mark.read_text(encoding="ascii").split()
        return 0 if Path(f"/proc/{pid}").exists() else int(before) + 1
    except (OSError, ValueError):
        return 0
