"""The GPUs that Spark gave a task, and no others, for the libraries of its Python worker."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyspark import TaskContext

VARIABLE = "CUDA_VISIBLE_DEVICES"


def pin_gpus(context: TaskContext | None) -> None:
    """Set CUDA_VISIBLE_DEVICES, before any library looks at it.

    An executor runs one task with GPUs at a time (the compiler sees to that), so that a worker that is used again has the
    same ones: CUDA does not look a second time.
    """
    given = context.resources().get("gpu") if context is not None else None
    if given is not None:
        os.environ[VARIABLE] = ",".join(given.addresses)
