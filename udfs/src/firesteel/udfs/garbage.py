"""What a loaded model is made of stays: the garbage collector need not look at it again after every task.

`pyspark.daemon` calls `gc.collect()` between the tasks of a worker. With MLflow and a model's library in memory that is
hundreds of thousands of objects, and took 0.1 to 0.2 s a task where the task itself took 0.25 s.
"""

from __future__ import annotations

import gc


def settle() -> None:
    """Collect once, and take all that is left out of later collections. What was taken out before is looked at once more."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()
