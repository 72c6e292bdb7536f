"""Restrict a Python worker to the GPUs of its Spark task."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyspark import TaskContext

VARIABLE = "CUDA_VISIBLE_DEVICES"


def pin_gpus(context: TaskContext | None) -> None:
    """Set CUDA_VISIBLE_DEVICES before a library reads it.

    CUDA reads the variable once per process. The compiler lets an executor run only one GPU task at a time, so a reused worker keeps
    the same GPUs.
    """
    gpus = context.resources().get("gpu") if context is not None else None
    if gpus is not None:
        os.environ[VARIABLE] = ",".join(gpus.addresses)
