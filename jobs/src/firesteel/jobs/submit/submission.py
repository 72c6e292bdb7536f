"""Run the spark-submit command of a plan, report the states of the application, and return its result."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from firesteel.conf.secrets import reveal
from firesteel.conf.yarn import resourcemanager_urls
from firesteel.jobs.spark.secret_settings import (
    REDACTION,
    delivery_settings,
    plan_secrets,
    properties_file,
    secret_keys,
)
from firesteel.jobs.submit.application import Application, ApplicationMonitor, ResourceManagers
from firesteel.jobs.submit.command import CLIENT_PACKAGE, log_settings, submit_conf, submit_environment, submit_line
from firesteel.jobs.submit.package import WAIT_KEY, SubmitPackage
from firesteel.jobs.submit.result_store import ResultStore
from firesteel.jobs.submit.verdict import Verdict, decide, latest_tokens
from firesteel.pipelines.publish.process import children
from firesteel.pipelines.result import RunResult

if TYPE_CHECKING:
    from firesteel.pipelines.plan.model import Plan

_ABORT_S = 20.0
"""Time for an interrupted driver to abort its transaction. Airflow's operator gives the whole submission 30 s."""
_DELIVERED = r"^spark\.firesteel\.secret\."


@dataclass(frozen=True, slots=True)
class SubmissionResult:
    """How a submission ended. `result` is that of a driver on the cluster."""

    exit_code: int
    text: str = ""
    result: RunResult | None = None


def run_submission(
    plan: Plan,
    plan_file: Path,
    package: SubmitPackage = CLIENT_PACKAGE,
    on_change: Callable[[Application], None] = lambda _: None,
    *,
    run_id: str = "",
) -> SubmissionResult:
    """Run spark-submit and wait for the end of the application.

    spark-submit reads secrets from a file in memory, because `ps` shows command lines.

    Parameters
    ----------
    on_change
        Called with each new state of an application on YARN.
    run_id
        The run's id if a scheduler has set one.
    """
    conf = submit_conf(plan, package)
    remote = package.mode == "cluster"
    before = latest_tokens(plan) if remote else {}
    environment = submit_environment(plan)
    if remote:  # the JVM of spark-submit would log a line per second
        own = environment.get("SPARK_SUBMIT_OPTS", "")
        if "log4j2.configurationFile" not in own:
            environment["SPARK_SUBMIT_OPTS"] = f"{own} -Dlog4j2.configurationFile=file:{log_settings()}".lstrip()
    managers = ResourceManagers(resourcemanager_urls() if plan.master == "yarn" else ())
    with _secrets_file(plan, conf, deliver=remote) as (secrets_file, descriptors):
        line = submit_line(plan, plan_file, package, secrets_file=secrets_file, run_id=run_id)
        with ApplicationMonitor(managers, package.tag, on_change) as monitor:
            code = _run(line, environment, descriptors, monitor, managers if remote else None)
            application = monitor.poll() if managers.urls else None
    if not remote:
        return SubmissionResult(code)
    if conf.get(WAIT_KEY) == "false" and code == 0:
        return SubmissionResult(
            0,
            f"the application was not waited for, because {WAIT_KEY} is false. Run `firesteel status` to see its result.",
        )
    outcome = ResultStore.of(plan, package.id).fetch()
    state = f"{application} (spark-submit: {code})" if application else f"spark-submit ended with {code}"
    if application and application.diagnostics:
        state += f": {application.diagnostics}"
    verdict = decide(plan, before, outcome, state)
    result = outcome if isinstance(outcome, RunResult) else None
    return SubmissionResult(verdict.exit_code, _text(verdict, result, application), result)


def _text(verdict: Verdict, result: RunResult | None, application: Application | None) -> str:
    if verdict.exit_code == 0 or (result is not None and result.error):
        return ""  # the result has the error
    logs = f" The driver's log: {application.driver_logs}" if application and application.driver_logs else ""
    return f"{verdict.text}{logs}"


def _run(
    line: list[str],
    environment: Mapping[str, str],
    descriptors: tuple[int, ...],
    monitor: ApplicationMonitor,
    managers: ResourceManagers | None,
) -> int:
    """Run spark-submit. An interrupt ends the application too, wherever its driver runs.

    A local driver gets SIGTERM and has `_ABORT_S` to abort while its JVM still runs; a driver whose JVM ends first fails.
    So the JVM ignores Ctrl-C, which a terminal sends to all processes.
    """
    with _ignored_sigint():
        process = subprocess.Popen(line, env=dict(environment), pass_fds=descriptors)
    with process:
        try:
            return process.wait()
        except KeyboardInterrupt:
            application = monitor.poll() if managers else None
            for driver in children(process.pid)[
                :1
            ]:  # the first is the driver; in local mode the others are Python workers
                with suppress(ProcessLookupError, subprocess.TimeoutExpired):
                    os.kill(driver, signal.SIGTERM)
                    process.wait(_ABORT_S)
            process.terminate()
            process.wait()
            if managers and application and not application.ended and not managers.kill(application.id):
                sys.stderr.write(
                    f"{application.id} could not be killed and still runs. Run `yarn application -kill {application.id}`.\n"
                )
            raise


@contextmanager
def _ignored_sigint() -> Iterator[None]:
    """Start processes that ignore SIGINT. `preexec_fn` is not used: with threads, Python between fork and exec may hang."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _secrets_file(plan: Plan, conf: Mapping[str, str], *, deliver: bool) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Create the properties file; yield its path and the descriptor to pass, both empty if there are no secrets."""
    settings = {key: reveal(conf[key]) for key in secret_keys(conf)}
    if deliver and (more := delivery_settings(plan_secrets(plan, conf))):
        settings |= more
        own = conf.get(REDACTION)
        if own:
            settings[REDACTION] = f"(?:{own})|{_DELIVERED}"
    if not settings:
        yield "", ()
        return
    with properties_file(settings) as (path, descriptor):
        yield path, (descriptor,)
