"""`resources` -> one consistent set of Spark settings. Never hashed."""

from __future__ import annotations

from firesteel.pipelines.spec.model import Resources


def spark_conf(resources: Resources, configuration: dict[str, str]) -> tuple[tuple[str, str], ...]:
    """Spark settings, sorted by key; `configuration` has the last word."""
    conf: dict[str, str] = {}
    executors = resources.executors
    if executors and not resources.master.startswith("local"):
        conf |= {
            "spark.dynamicAllocation.enabled": "true",
            "spark.dynamicAllocation.minExecutors": str(executors.min),
            # Map outputs live on executors without an external service: Spark must keep those that hold some.
            "spark.dynamicAllocation.shuffleTracking.enabled": "true",
            "spark.executor.cores": str(executors.cores),
            "spark.executor.memory": executors.memory,
        }
        if executors.max is not None:
            conf["spark.dynamicAllocation.maxExecutors"] = str(executors.max)
        if executors.python_memory:
            conf["spark.executor.pyspark.memory"] = executors.python_memory
        if executors.idle_timeout != "auto":
            conf["spark.dynamicAllocation.executorIdleTimeout"] = f"{executors.idle_timeout:g}s"
    if resources.queue:
        conf["spark.yarn.queue"] = resources.queue
    return tuple(sorted({**conf, **configuration}.items()))
