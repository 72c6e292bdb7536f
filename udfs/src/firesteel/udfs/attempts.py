"""Detect that an earlier attempt of a task crashed on this executor, then skip the challenger and isolate the model.

A worker that crashes reports nothing. Each task therefore writes a marker file while it runs. If the process of a marker no longer
exists, the attempt crashed. A retry for another reason, such as a lost or decommissioned executor, finds no marker and runs as usual.
The markers are in the executor's own folder: other users cannot plant files there, and Spark deletes it at the end.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyspark import TaskContext

    from firesteel.udfs.spec import ScoreSpec

DIED = "a Python worker crashed; the retry scored these rows without the challenger"


@contextmanager
def task_attempt(context: TaskContext | None, spec: ScoreSpec, job: str) -> Iterator[ScoreSpec]:
    """Mark the task as running inside the block, and yield the spec for this attempt.

    Parameters
    ----------
    job
        Unique name of the scoring, shared by all attempts of its tasks.
    """
    challenger = spec.challenger if spec.challenger is not None and not spec.challenger.off else None
    if context is None or (spec.on_error.action != "dead_letter" and challenger is None):
        yield spec
        return
    from pyspark import SparkFiles

    marker = Path(SparkFiles.getRootDirectory(), f".firesteel-task-{job}-{context.partitionId()}")
    crashes = _crashes(marker) if context.attemptNumber() > 0 else 0
    marker.write_text(f"{os.getpid()} {crashes}", encoding="ascii")
    try:
        yield _spec_after_crashes(spec, crashes)
    finally:
        marker.unlink(missing_ok=True)


def _spec_after_crashes(spec: ScoreSpec, crashes: int) -> ScoreSpec:
    """Skip the challenger after the first crash. Isolate the model after a crash without the challenger."""
    challenger = spec.challenger
    if crashes and challenger is not None and not challenger.off:
        spec, crashes = replace(spec, challenger=replace(challenger, off=DIED)), crashes - 1
    return replace(spec, backend="guarded") if crashes and spec.on_error.action == "dead_letter" else spec


def _crashes(marker: Path) -> int:
    """Return the number of crashed attempts on this executor, or 0 if the last attempt did not crash."""
    try:
        pid, crashes = marker.read_text(encoding="ascii").split()
        return 0 if Path(f"/proc/{pid}").exists() else int(crashes) + 1
    except (OSError, ValueError):
        return 0
