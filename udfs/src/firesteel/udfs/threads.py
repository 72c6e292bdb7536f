"""One cap for all the thread pools that numerical libraries open behind a worker's back (SPARK-40212)."""

from __future__ import annotations

import os

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
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:  # comes with scikit-learn; without it the environment has to do
        return
    threadpool_limits(limits=threads)
