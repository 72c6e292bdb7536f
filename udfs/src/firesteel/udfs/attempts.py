"""Whether an earlier attempt at a task died on this machine: then its model is put behind a wall.

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


@contextmanager
def attempt_at(context: TaskContext | None, spec: ScoreSpec, job: str) -> Iterator[ScoreSpec]:
    """Mark the task while the block runs; the scoring that suits it.

    Parameters
    ----------
    job
        A name that no other scoring has, and all attempts at this one share.
    """
    if context is None or spec.on_error.action != "dead_letter":
        yield spec
        return
    folder = Path(tempfile.gettempdir(), f"firesteel-tasks-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    mark = folder / f"{job}-{context.partitionId()}"
    died = context.attemptNumber() > 0 and _of_the_dead(mark)
    mark.write_text(str(os.getpid()), encoding="ascii")
    try:
        yield replace(spec, forms="guarded") if died else spec
    finally:
        mark.unlink(missing_ok=True)


def _of_the_dead(mark: Path) -> bool:
    try:
        return not Path(f"/proc/{mark.read_text(encoding='ascii')}").exists()
    except (OSError, ValueError):
        return False
