"""The Spark session of a run: a new one, or an isolated child of the caller's."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from firesteel.conf.errors import RuntimeFault
from firesteel.conf.java import find_java
from firesteel.conf.redaction import redact
from firesteel.conf.shuffle import REFUSED
from firesteel.jobs.interrupt import interrupted, without_interrupts
from firesteel.jobs.spark.secret_settings import check_secret_settings, public_settings, revealed_settings, start_jvm
from firesteel.jobs.spark.shuffle import fallback_fault, with_plugin
from firesteel.jobs.timeline.eventlog import ENABLED, local_event_log
from firesteel.jobs.utf8 import use_utf8_locale
from firesteel.pipelines.plan.security import weaknesses
from firesteel.pipelines.plan.settings import ANSI, FIXED, TIME_ZONE, is_inherited, loses_rows

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from firesteel.pipelines.plan.model import Plan

_log = logging.getLogger(__name__)

DEFAULTS = {
    TIME_ZONE: "UTC",  # dates and timestamps mean the same on every machine
    ANSI: "true",  # Spark's default depends on the variable SPARK_ANSI_SQL_MODE
    "spark.sql.adaptive.enabled": "true",
    "spark.sql.parquet.compression.codec": "zstd",
    # This rule removes a stage with an empty shuffle, and its observed row count. That happens when every row fails.
    "spark.sql.adaptive.optimizer.excludedRules": "org.apache.spark.sql.execution.adaptive.AQEPropagateEmptyRelation",
    # Wait a minute or two for a NameNode that starts. Without HA, HDFS's client gives up at once (HDFS-3504).
    "spark.hadoop.dfs.client.retry.policy.enabled": "true",
    "spark.hadoop.dfs.client.retry.policy.spec": "2000,30,10000,6",
}
LOCAL_DEFAULTS = {
    "spark.ui.enabled": "false",  # listens on all interfaces, and a local run is short
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
}

_BIND_ADDRESS = "spark.driver.bindAddress"
_PORT_KEYS = {
    "sparkDriver": "spark.driver.port",
    "SparkUI": "spark.ui.port",
    "NettyBlockTransferService": "spark.driver.blockManager.port",
}
_UNBOUND = re.compile(
    r"Service '(?P<service>[^']+)' failed after \d+ retries \((?:starting from (?P<port>\d+)|on a random)"
)
"""The message of Spark's Utils.startServiceOnPort when it finds no port."""
_RAISED = ("Caused by:", ": ")
"""Start of a line that names an exception, in texts of py4j and Java."""


def launch_conf(plan: Plan) -> dict[str, str]:
    """Return the settings that Spark needs when the JVM starts; `spark-submit --conf` gets them."""
    conf = {
        "spark.app.name": f"firesteel:{plan.pipeline}",
        "spark.ui.showConsoleProgress": "false",
        "spark.executorEnv.LC_MESSAGES": "C",  # otherwise `upper` and `lower` depend on the language of the machine
        "spark.executorEnv.PYTHONUTF8": "1",  # file names of models may have any character
        "spark.executorEnv.MLFLOW_DISABLE_TELEMETRY": "true",  # workers must not open network connections
        **DEFAULTS,
    }
    if plan.master.startswith(("local", "spark://127.0.0.1")):
        conf |= LOCAL_DEFAULTS
    return with_plugin({**conf, **dict(plan.spark_conf)})


@contextlib.contextmanager
def open_session(
    plan: Plan, spark: SparkSession | None = None, *, events: Path | None = None
) -> Iterator[SparkSession]:
    """Open a session for a plan. Its views and settings are separate from the caller's.

    Parameters
    ----------
    spark
        The caller's session. Its context is used and keeps running. Without one a context is started and stopped.
    events
        Folder for the event log of a context that is started here, unless Spark is configured to write one elsewhere.

    Raises
    ------
    RuntimeFault
        FS9001 (no JDK), FS9002 (Spark does not start), FS9041 (the context is less secure than the plan requires) or
        FS9042 (the context has a setting that loses rows).
    """
    if spark is not None:
        check_secured(plan, _settings_of(spark), "the session that was passed in")
        check_secret_settings(spark, dict(plan.spark_conf))
        check_settings(spark)
        check_language(spark, own=False)
        with _muted_loggers(), activated(child_session(spark, plan)) as session:
            yield session
        return
    own = start_session(plan, events)
    with _muted_loggers():
        try:
            check_secured(plan, _settings_of(own), "the Spark context")  # it may have been started before, by others
            check_settings(own)
            check_language(own, own=True)
            with activated(child_session(own, plan)) as session:
                yield session
        except KeyboardInterrupt:
            _turn_off_log(own)
            raise
        finally:
            own.stop()


def check_settings(spark: SparkSession) -> None:
    """Raise FS9042 if a context has a setting that loses rows or changes values. A session cannot override it."""
    settings = [f"{key} = {value}" for key, value in spark.sparkContext.getConf().getAll() if loses_rows(key, value)]
    if settings:
        raise RuntimeFault(
            "FS9042",
            f"the Spark context would lose rows or change values: {', '.join(sorted(settings))}. Nothing was read.",
            hint="Remove the setting from spark-defaults.conf, from --conf, or where the caller's session is created.",
        )


_OWN_CASES = frozenset({"az", "el", "hy", "lt", "nl", "tr"})
"""Languages with their own rules for upper and lower case, in Java or ICU."""


def check_language(spark: SparkSession, *, own: bool) -> None:
    """Check that the driver's JVM has no language with its own rules for upper and lower case, which `upper` and `lower` would use.

    Parameters
    ----------
    own
        The JVM is this run's own, which gets a neutral language. That of a caller is not changed.

    Raises
    ------
    RuntimeFault
        FS9042 when a caller's JVM has such a language.
    """
    jvm = spark._jvm  # noqa: SLF001 - there is no public way to ask
    assert jvm is not None
    locale = jvm.java.util.Locale
    language = locale.getDefault().getLanguage()
    if language not in _OWN_CASES:
        return
    if not own:
        raise RuntimeFault(
            "FS9042",
            f"the JVM of the session that was passed in has the language `{language}`, in which `upper` and `lower` give other values. "
            "Nothing was read.",
            hint="Start it with LC_ALL=C.UTF-8, or with -Duser.language=en.",
        )
    locale.setDefault(locale.ROOT)


@contextlib.contextmanager
def activated(session: SparkSession) -> Iterator[SparkSession]:
    """Make a session the active one of this thread: Spark parses types and expressions by the settings of the active session."""
    from py4j.protocol import Py4JError

    sessions = session._get_j_spark_session_class(session._jvm)  # noqa: SLF001 - no public API deactivates a session
    before = sessions.getActiveSession()
    sessions.setActiveSession(session._jsparkSession)  # noqa: SLF001
    try:
        yield session
    finally:
        with contextlib.suppress(Py4JError):  # an interrupt has closed the connection
            if before.isDefined():
                sessions.setActiveSession(before.get())
            else:
                sessions.clearActiveSession()


def check_secured(plan: Plan, conf: Mapping[str, str], whose: str) -> None:
    """Compare the effective settings of a context with the plan's security mode, whatever brought these settings.

    Raises
    ------
    RuntimeFault
        FS9041 when the plan is strict and the settings are not.
    """
    if plan.security == "strict" and (weak := weaknesses(conf)):
        raise RuntimeFault(
            "FS9041",
            f"security.mode is strict, but {whose} is less secure: {'; '.join(weak)}. Nothing was read.",
            hint="Remove these settings from --conf, spark-defaults.conf and the environment, or from the code of the session.",
        )


def _settings_of(spark: SparkSession) -> dict[str, str]:
    return dict(spark.sparkContext.getConf().getAll())


@contextlib.contextmanager
def _muted_loggers() -> Iterator[None]:
    """Stop pyspark from logging errors as JSON, and py4j from logging interrupts with tracebacks: firesteel reports both."""
    logger = logging.getLogger("SQLQueryContextLogger")
    py4j = [logging.getLogger(name) for name in ("root", "py4j.clientserver", "py4j.java_gateway")]
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    for py4j_logger in py4j:
        py4j_logger.addFilter(without_interrupts)
    try:
        yield
    finally:
        for py4j_logger in py4j:
            py4j_logger.removeFilter(without_interrupts)
        logger.setLevel(before)


def _turn_off_log(spark: SparkSession) -> None:
    """Turn off the JVM's log: the tasks that an interrupt kills would log errors."""
    from py4j.protocol import Py4JError

    with contextlib.suppress(Py4JError, OSError):
        spark.sparkContext.setLogLevel("OFF")


def start_session(plan: Plan, events: Path | None = None) -> SparkSession:
    """Start Spark with the plan's settings. The caller stops it."""
    submitted = "SPARK_ENV_LOADED" in os.environ  # spark-submit has set the master and the settings
    if not submitted:
        find_java()
        use_utf8_locale(os.environ)
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
        os.environ.setdefault("PYSPARK_DRIVER_PYTHON", sys.executable)
        if plan.master.startswith(("local", "spark://127.0.0.1")):
            os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    from pyspark.errors import PySparkException
    from pyspark.sql import SparkSession

    builder = SparkSession.builder
    if submitted:
        settings = launch_conf(plan)
        with _spark_faults(plan.master, settings, PySparkException):
            own = revealed_settings(settings) | _event_log(settings, events)
            return _started(builder, plan, own)
    with resources.as_file(resources.files("firesteel.conf") / "log4j2.properties") as log4j:
        settings = launch_conf(plan) | {
            "spark.master": plan.master,
            "spark.driver.extraJavaOptions": f"-Dlog4j2.configurationFile=file:{log4j}",
        }
        with _spark_faults(plan.master, settings, PySparkException):
            own = public_settings(settings) | revealed_settings(settings) | _event_log(settings, events)
            return _started(builder, plan, own)


def _started(builder: SparkSession.Builder, plan: Plan, settings: Mapping[str, str]) -> SparkSession:
    """Start the context with `settings` over those of the JVM, if together they are as secure as the plan requires."""
    from pyspark import SparkConf

    check_secured(plan, {**dict(SparkConf().getAll()), **settings}, "Spark's configuration")
    for key, value in settings.items():
        builder = builder.config(key, value)
    return builder.getOrCreate()


def _event_log(settings: Mapping[str, str], folder: Path | None) -> dict[str, str]:
    """Return the settings for an event log in `folder`, unless the plan or spark-defaults.conf configures one."""
    from pyspark import SparkConf

    start_jvm(settings)
    if folder is None or ENABLED in settings or SparkConf().get(ENABLED, None) is not None:
        return {}
    try:
        return local_event_log(folder)
    except OSError as error:
        _log.warning("the run has no event log: %s", error)
        return {}


@contextlib.contextmanager
def _spark_faults(master: str, settings: Mapping[str, str], kind: type[Exception]) -> Iterator[None]:
    """Raise the error with which Spark fails to start as a RuntimeFault."""
    from py4j.protocol import Py4JError

    try:
        with _restored_sigint(), _muted_loggers():
            yield
    except (kind, Py4JError, OSError, RuntimeError) as error:
        if interrupted(error):
            raise KeyboardInterrupt from error
        raise start_fault(redact(str(error)), master, settings) from error


@contextlib.contextmanager
def _restored_sigint() -> Iterator[None]:
    """Restore the handler of SIGINT. A SparkContext replaces it with one that calls the JVM over a connection in use."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        if before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, before)


def start_fault(text: str, master: str, settings: Mapping[str, str]) -> RuntimeFault:
    """Return an error that says why Spark did not start.

    Parameters
    ----------
    text
        The text of the error of pyspark or py4j.
    """
    if REFUSED in text:
        return fallback_fault(text.rsplit(REFUSED, maxsplit=1)[-1].splitlines()[0])
    if match := _UNBOUND.search(text):
        return _listen_fault(settings, **match.groupdict())
    if port := _occupied_ui_port(text, settings):
        return _listen_fault(settings, "SparkUI", port)
    return RuntimeFault(
        "FS9002",
        f"Spark did not start on {master}: {_cause(text)}",
        hint="Run `firesteel doctor` to check Java and Spark. Check that the master is reachable.",
    )


def _cause(text: str) -> str:
    """Return the innermost Java exception of a text; without one, the first line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    causes = [line.removeprefix("Caused by:").removeprefix(":").strip() for line in lines if line.startswith(_RAISED)]
    return causes[-1] if causes else lines[0] if lines else "no reason was given"


def _listen_fault(settings: Mapping[str, str], service: str, port: str | None) -> RuntimeFault:
    key = next((key for name, key in _PORT_KEYS.items() if service.endswith(name)), f"the port of {service}")
    if port is None:  # a random port is always free, so the address is wrong
        address = settings.get(_BIND_ADDRESS, settings.get("spark.driver.host", "of this machine's host name"))
        return RuntimeFault(
            "FS9007",
            f"Spark cannot listen on the address {address} ({_BIND_ADDRESS}): no interface of this machine has it.",
            hint=f"Set {_BIND_ADDRESS} to an address of this machine, such as 0.0.0.0 or 127.0.0.1.",
        )
    return RuntimeFault(
        "FS9007",
        f"Spark cannot listen on port {port} ({key}): another process uses it.",
        hint=f"Set {key} to a free port, remove it so that Spark chooses one, or raise spark.port.maxRetries.",
    )


def _occupied_ui_port(text: str, settings: Mapping[str, str]) -> str | None:
    """Return the UI's port if all its ports are in use: the JVM then exits, and Python sees only a closed connection."""
    gone = "Connection refused" in text or "Answer from Java side is empty" in text or "while sending" in text
    if not gone or settings.get("spark.ui.enabled", "true") != "true":
        return None
    try:
        first = int(settings.get("spark.ui.port", "4040"))
        last = first + int(settings.get("spark.port.maxRetries", "16"))
    except ValueError:
        return None
    host = settings.get(_BIND_ADDRESS, "")
    return str(first) if first and all(_is_occupied(host, port) for port in range(first, last + 1)) else None


def _is_occupied(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return True
    return False


def child_session(spark: SparkSession, plan: Plan) -> SparkSession:
    """Return a session of the same context, with the plan's SQL settings and without views.

    Settings of the context that could change a row are not inherited: see `firesteel.pipelines.plan.settings`.
    """
    from pyspark.errors import PySparkException

    session, planned = spark.newSession(), dict(plan.spark_conf)
    for key, _ in spark.sparkContext.getConf().getAll():
        if not is_inherited(key) and key not in planned:
            with contextlib.suppress(PySparkException):  # a static setting
                session.conf.unset(key)
    # Settings with secrets belong to the context, and each of its sessions has them.
    for key, value in public_settings({**DEFAULTS, **planned, **FIXED}).items():
        if key.startswith("spark.sql.") and session.conf.isModifiable(key):
            session.conf.set(key, value)
    return session
