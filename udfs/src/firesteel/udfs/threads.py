"""Limit the thread pools that numerical libraries open in a worker (SPARK-40212)."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

POOLS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def cap_threads(threads: int) -> None:
    """Limit future thread pools by environment variables, and open ones by threadpoolctl.

    Parameters
    ----------
    threads
        Threads per pool, at least 1, as in `spark.task.cpus`.
    """
    for name in POOLS:
        os.environ[name] = str(threads)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:  # part of scikit-learn; without it only the environment limits threads
        return
    threadpool_limits(limits=threads)


@contextlib.contextmanager
def capped_sessions(threads: int) -> Iterator[None]:
    """Limit ONNX Runtime sessions that are opened in the block to `threads` threads, unless the model's metadata set another number.

    ONNX Runtime has one pool per session and reads no environment variable. MLflow creates the session and its options, and sets only
    the options in the model's metadata.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read at import; it also writes `.ses` to the temporary folder
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
