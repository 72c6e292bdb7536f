"""How many rows Spark's tasks say that they wrote, without another operator in their way.

An observation of a frame costs a tenth of a microsecond a row: it ends the generated code of a stage and evaluates a count
for each row. The writers of a stage count by themselves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def rows_written(spark: SparkSession) -> int | None:
    """The rows that finished tasks of this thread's job group wrote; None where Spark does not say.

    It is what the attempts that finished have counted, so that a stage of which a part ran again counts that part twice.
    """
    from py4j.protocol import Py4JError

    context = spark.sparkContext
    group = context.getLocalProperty("spark.jobGroup.id")
    if not group:
        return None
    # Neither has a public way: the status tracker knows stages but not their rows, the REST API is the UI's, which is off.
    inner: Any = context._jsc.sc()  # noqa: SLF001
    tracker = context.statusTracker()
    try:
        inner.listenerBus().waitUntilEmpty()  # rows are told by events, which may lag behind the job
        store = inner.statusStore()
        jobs = [info for info in map(tracker.getJobInfo, tracker.getJobIdsForGroup(group)) if info is not None]
        stages = {stage for info in jobs for stage in info.stageIds}
        ran = [
            stage for stage in stages if (info := tracker.getStageInfo(stage)) is not None and info.numCompletedTasks
        ]
        return sum(int(store.lastStageAttempt(stage).outputRecords()) for stage in ran)
    except Py4JError:
        return None
