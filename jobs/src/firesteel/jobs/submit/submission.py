"""Run the spark-submit line of a plan, show what becomes of the application, and say how it ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from firesteel.conf.secrets import reveal
from firesteel.conf.yarn import resourcemanager_urls
from firesteel.jobs.spark.secret_settings import REDACTION, delivery_settings, properties_file, secret_keys
from firesteel.jobs.submit.application import Application, ResourceManagers, Watch
from firesteel.jobs.submit.command import HERE, log_settings, submit_conf, submit_environment, submit_line
from firesteel.jobs.submit.handover import Handover
from firesteel.jobs.submit.package import WAIT_KEY, SubmitPackage
from firesteel.jobs.submit.verdict import Verdict, decide, tokens_before
from firesteel.pipelines.publish.process import children
from firesteel.pipelines.result import RunResult

if TYPE_CHECKING:
    from firesteel.pipelines.plan.model import Plan

_ABORT_S = 20.0
"""For an interrupted driver to abort its transaction: less than the 30 that Airflow's operator gives the whole submission."""
_DELIVERED = r"^spark\.firesteel\.secret\."


@dataclass(frozen=True, slots=True)
class Ended:
    """How a submission ended; `result` is what the driver left, in cluster mode."""

    exit_code: int
    text: str = ""
    result: RunResult | None = None


def run_submission(
    plan: Plan,
    plan_file: Path,
    package: SubmitPackage = HERE,
    tell: Callable[[Application], None] = lambda _: None,
    *,
    run_id: str = "",
) -> Ended:
    """Run the line to its end, and the application's.

    Secrets go to spark-submit by a file in memory: `ps` shows command lines.

    Parameters
    ----------
    tell
        Called with each change of an application on YARN.
    run_id
        The run's id, where a scheduler gave it one.
    """
    conf = submit_conf(plan, package)
    remote = package.mode == "cluster"
    before = tokens_before(plan) if remote else {}
    environment = submit_environment(plan)
    if remote:  # it has a JVM of its own, which would log a line a second
        own = environment.get("SPARK_SUBMIT_OPTS", "")
        if "log4j2.configurationFile" not in own:
            environment["SPARK_SUBMIT_OPTS"] = f"{own} -Dlog4j2.configurationFile=file:{log_settings()}".lstrip()
    managers = ResourceManagers(resourcemanager_urls() if plan.master == "yarn" else ())
    with _secrets(plan, conf, carried=remote) as (secrets_file, descriptors):
        line = submit_line(plan, plan_file, package, secrets_file=secrets_file, run_id=run_id)
        with Watch(managers, package.tag, tell) as watch:
            code = _run(line, environment, descriptors, watch, managers if remote else None)
            application = watch.look() if managers.urls else None
    if not remote:
        return Ended(code)
    if conf.get(WAIT_KEY) == "false" and code == 0:
        return Ended(0, f"not waited for: {WAIT_KEY} is false. `firesteel status` says how it ends.")
    left = Handover.of(plan, package.id).take()
    said = f"{application} (spark-submit: {code})" if application else f"spark-submit ended with {code}"
    if application and application.diagnostics:
        said += f": {application.diagnostics}"
    verdict = decide(plan, before, left, said)
    result = left if isinstance(left, RunResult) else None
    return Ended(verdict.exit_code, _text(verdict, result, application), result)


def _text(verdict: Verdict, result: RunResult | None, application: Application | None) -> str:
    if verdict.exit_code == 0 or (result is not None and result.error):
        return ""  # the result says it
    logs = f" The driver's log: {application.driver_logs}" if application and application.driver_logs else ""
    return f"{verdict.text}{logs}"


def _run(
    line: list[str],
    environment: Mapping[str, str],
    descriptors: tuple[int, ...],
    watch: Watch,
    managers: ResourceManagers | None,
) -> int:
    """Run it; an interruption ends the application too, wherever its driver is.

    A driver here is told itself, and has `_ABORT_S` while its JVM still lives: one whose JVM goes first has failed, not been ended.
    So Ctrl-C, which a terminal sends to all, is not for the JVM.
    """
    with _deaf():
        process = subprocess.Popen(line, env=dict(environment), pass_fds=descriptors)
    with process:
        try:
            return process.wait()
        except KeyboardInterrupt:
            application = watch.look() if managers else None
            for driver in children(process.pid)[:1]:  # the others are Python workers, where the JVM is the executor too
                with suppress(ProcessLookupError, subprocess.TimeoutExpired):
                    os.kill(driver, signal.SIGTERM)
                    process.wait(_ABORT_S)
            process.terminate()
            process.wait()
            if managers and application and not application.ended and not managers.kill(application.id):
                sys.stderr.write(f"{application.id} could not be stopped and runs on: yarn application -kill\n")
            raise


@contextmanager
def _deaf() -> Iterator[None]:
    """What is started meanwhile ignores SIGINT. Not by `preexec_fn`: Python between fork and exec may hang where there are threads."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _secrets(plan: Plan, conf: Mapping[str, str], *, carried: bool) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The path of the properties file, and the descriptor to pass on; nothing where there are no secrets."""
    settings = {key: reveal(conf[key]) for key in secret_keys(conf)}
    if carried and (more := delivery_settings([*conf.values(), *_texts(astuple(plan.tracking))])):
        settings |= more
        own = conf.get(REDACTION)
        if own:
            settings[REDACTION] = f"(?:{own})|{_DELIVERED}"
    if not settings:
        yield "", ()
        return
    with properties_file(settings) as (path, descriptor):
        yield path, (descriptor,)


def _texts(values: Any) -> Iterator[str]:
    if isinstance(values, str):
        yield values
    elif isinstance(values, tuple | list):
        for value in values:
            yield from _texts(value)
