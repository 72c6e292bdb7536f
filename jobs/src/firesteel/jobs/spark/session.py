"""A SparkSession for a run: our own, or an isolated child of the caller's."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from firesteel.conf.errors import RuntimeFault
from firesteel.conf.java import find_java
from firesteel.conf.redaction import redact
from firesteel.conf.shuffle import REFUSED
from firesteel.jobs.spark.secret_settings import check_reached, public_settings, revealed_settings, start_jvm
from firesteel.jobs.spark.shuffle import refused, with_plugin
from firesteel.jobs.timeline.eventlog import ENABLED, local_event_log
from firesteel.pipelines.plan.security import STRICT

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from firesteel.pipelines.plan.model import Plan

_log = logging.getLogger(__name__)

DEFAULTS = {
    "spark.sql.session.timeZone": "UTC",  # dates and timestamps mean the same on every machine
    "spark.sql.adaptive.enabled": "true",
    "spark.sql.parquet.compression.codec": "zstd",
    # It removes stages whose shuffles were empty, and the observed count of rows in with them: where every row fails.
    "spark.sql.adaptive.optimizer.excludedRules": "org.apache.spark.sql.execution.adaptive.AQEPropagateEmptyRelation",
    # A NameNode that starts is waited for, a minute or two: without a second one, HDFS's client gives up at once (HDFS-3504).
    "spark.hadoop.dfs.client.retry.policy.enabled": "true",
    "spark.hadoop.dfs.client.retry.policy.spec": "2000,30,10000,6",
}
LOCAL_DEFAULTS = {
    "spark.ui.enabled": "false",  # binds all interfaces; a local run is over before anyone looks
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
}


def launch_conf(plan: Plan) -> dict[str, str]:
    """Settings that must be there when the JVM starts: what `spark-submit --conf` gets."""
    conf = {
        "spark.app.name": f"firesteel:{plan.pipeline}",
        "spark.ui.showConsoleProgress": "false",
        "spark.executorEnv.MLFLOW_DISABLE_TELEMETRY": "true",  # workers have no business on the network
        **DEFAULTS,
    }
    if plan.master.startswith(("local", "spark://127.0.0.1")):
        conf |= LOCAL_DEFAULTS
    return with_plugin({**conf, **dict(plan.spark_conf)})


@contextlib.contextmanager
def open_session(
    plan: Plan, spark: SparkSession | None = None, *, events: Path | None = None
) -> Iterator[SparkSession]:
    """A session of the plan's own: views and settings never meet the caller's.

    Parameters
    ----------
    spark
        The caller's session; its context is used, and left running. Without one a context is started and stopped.
    events
        Where a context that is started here writes its event log, unless Spark is configured to write one elsewhere.

    Raises
    ------
    RuntimeFault
        FS9001 (no JDK), FS9002 (Spark does not start) or FS9041 (the caller's session is not as secure as the plan asks).
    """
    if spark is not None:
        check_secured(spark, plan)
        check_reached(spark, dict(plan.spark_conf))
        with _quiet():
            yield child_session(spark, plan)
        return
    own = _start(plan, events)
    try:
        with _quiet():
            yield child_session(own, plan)
    finally:
        own.stop()


def check_secured(spark: SparkSession, plan: Plan) -> None:
    """FS9041 when the plan is strict and a caller's session is not: all of it is decided when a context starts."""
    if plan.security != "strict":
        return
    conf = spark.sparkContext.getConf()
    lacking = sorted(key for key, value in STRICT.items() if conf.get(key, "").lower() != value)
    if lacking:
        raise RuntimeFault(
            "FS9041",
            f"security.mode is strict, and the session that was passed in lacks {', '.join(lacking)}.",
            hint="Make it with these settings, or pass none: firesteel starts Spark with them.",
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep pyspark from logging each error as a page of JSON: they reach people as errors of ours."""
    logger = logging.getLogger("SQLQueryContextLogger")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


def _start(plan: Plan, events: Path | None) -> SparkSession:
    submitted = "SPARK_ENV_LOADED" in os.environ  # spark-submit has chosen master and settings already
    if not submitted:
        find_java()
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
        os.environ.setdefault("PYSPARK_DRIVER_PYTHON", sys.executable)
        if plan.master.startswith(("local", "spark://127.0.0.1")):
            os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    from pyspark.errors import PySparkException
    from pyspark.sql import SparkSession

    builder = SparkSession.builder
    if submitted:
        with _spark_faults(plan.master, PySparkException):
            settings = launch_conf(plan)
            for key, value in (revealed_settings(settings) | _event_log(settings, events)).items():
                builder = builder.config(key, value)
            return builder.getOrCreate()
    with resources.as_file(resources.files("firesteel.conf") / "log4j2.properties") as log4j:
        settings = launch_conf(plan) | {
            "spark.master": plan.master,
            "spark.driver.extraJavaOptions": f"-Dlog4j2.configurationFile=file:{log4j}",
        }
        with _spark_faults(plan.master, PySparkException):
            own = public_settings(settings) | revealed_settings(settings) | _event_log(settings, events)
            for key, value in own.items():
                builder = builder.config(key, value)
            return builder.getOrCreate()


def _event_log(settings: Mapping[str, str], folder: Path | None) -> dict[str, str]:
    """Settings for an event log in `folder`, where neither the plan nor spark-defaults.conf says what becomes of it."""
    from pyspark import SparkConf

    start_jvm(settings)
    if folder is None or ENABLED in settings or SparkConf().get(ENABLED, None) is not None:
        return {}
    try:
        return local_event_log(folder)
    except OSError as error:
        _log.warning("the run goes on without an event log: %s", error)
        return {}


@contextlib.contextmanager
def _spark_faults(master: str, kind: type[Exception]) -> Iterator[None]:
    from py4j.protocol import Py4JError

    try:
        yield
    except (kind, Py4JError, OSError, RuntimeError) as error:
        text = redact(str(error))
        if REFUSED in text:
            raise refused(text.split(REFUSED)[-1].splitlines()[0]) from error
        cause = next((line for line in text.splitlines() if line.strip()), type(error).__name__)
        raise RuntimeFault(
            "FS9002",
            f"Spark did not start on {master}: {cause.strip()}",
            hint="Is the master reachable, and the Java right? `firesteel doctor` looks.",
        ) from error


def child_session(spark: SparkSession, plan: Plan) -> SparkSession:
    """A session over the same context with the plan's SQL settings, and no views of others."""
    session = spark.newSession()
    # Settings with secrets are the context's, and every session of it has them.
    for key, value in public_settings({**DEFAULTS, **dict(plan.spark_conf)}).items():
        if key.startswith("spark.sql.") and session.conf.isModifiable(key):
            session.conf.set(key, value)
    return session
