"""One cap for all the thread pools that numerical libraries open behind a worker's back (SPARK-40212)."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

POOLS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def cap_threads(threads: int) -> None:
    """Cap pools that are not open yet by the environment, and those that are by threadpoolctl.

    Parameters
    ----------
    threads
        Threads per pool, at least 1: what Spark counts as `spark.task.cpus`.
    """
    for name in POOLS:
        os.environ[name] = str(threads)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:  # comes with scikit-learn; without it the environment has to do
        return
    threadpool_limits(limits=threads)


@contextlib.contextmanager
def capped_sessions(threads: int) -> Iterator[None]:
    """ONNX Runtime sessions that are opened in the block have `threads` threads, where the model does not say otherwise.

    ONNX Runtime has a pool for each session and reads no variable of the environment; MLflow makes the session and its
    options itself, and sets only what the model's own metadata name.
    """
    try:
        import onnxruntime
    except ImportError:
        yield
        return
    options = onnxruntime.SessionOptions

    class Capped(options):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            super().__init__()
            self.intra_op_num_threads = threads
            self.inter_op_num_threads = 1

    onnxruntime.SessionOptions = Capped
    try:
        yield
    finally:
        onnxruntime.SessionOptions = options
