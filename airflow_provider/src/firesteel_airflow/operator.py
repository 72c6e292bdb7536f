"""The operator: one task is one run of a pipeline. A retry does not repeat finished work."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

from airflow.sdk import BaseHook, BaseOperator
from airflow.sdk.configuration import conf
from airflow.sdk.exceptions import (
    AirflowException,
    AirflowFailException,
    AirflowRescheduleException,
    AirflowSkipException,
)

from firesteel_airflow.assets import emit
from firesteel_airflow.call import Call, Mode, NoFiresteel, StatusUnavailable, find_command
from firesteel_airflow.cluster import WrongConnection, cluster_of
from firesteel_airflow.driver import Driver, Handle, Tail, end, log_path, start
from firesteel_airflow.lineage import parent_environment
from firesteel_airflow.outcome import GateFailure, NotReady, Outcome, Policy, decide, decide_by_code
from firesteel_airflow.trigger import FiresteelTrigger

_POLL_S = 0.2
_REGISTERED_POLL_S = 1.0
_STATUS_ATTEMPTS = 3
_CHOICES = {
    "mode": ("run", "submit", "backfill"),
    "gate_failure": ("fail", "retry", "skip"),
    "not_ready": ("retry", "reschedule", "fail", "skip"),
}
_ERROR = re.compile(r"FS\d{4}\b.*")


class FiresteelOperator(BaseOperator):  # type: ignore[misc]
    """Runs a pipeline for an interval with the firesteel command, in firesteel's own environment.

    The ledger decides the outcome of a run. A driver outlives its worker: a retry after the worker's death waits for the driver, or
    finds its intervals published. The task returns a small result with documented keys: see `docs/how-to/airflow.md`.

    Parameters
    ----------
    spec
        Path of the pipeline's YAML file on the worker.
    profile, arguments
        The spec's profile, and values of its params. (`params` has another meaning in Airflow.)
    interval
        The interval, or a time in it; by default, the start of the DAG run's data interval.
    end
        The last interval (inclusive), for more than one.
    mode
        `run`: the driver runs on the worker. `submit`: spark-submit runs it, also in cluster mode. `backfill`: a long range with one plan.
    conn_id
        A connection of type `spark`: its master, queue, deploy-mode, namespace, principal and keytab override those of the
        spec. Without one the spec decides.
    deferrable
        Free the worker when the run has started; a trigger waits for its end.
    reconnect
        Let the driver continue when its worker dies; the retry waits for it. Otherwise the driver ends with the worker.
    gate_failure
        `fail` (without a retry: the same data fails again), `retry` or `skip`.
    not_ready
        `retry` (with the task's retries), `reschedule` (after `not_ready_delay`, as often as needed), `fail` or `skip`.
    force
        Score intervals again that are published with the same plan.
    poll_interval
        Seconds between checks of a run on another machine.
    kill_timeout
        Seconds for a driver to abort its transaction before it is killed.
    command, work_folder
        Override `[firesteel] command` and `work_folder` of Airflow's configuration.
    folder
        The working directory of firesteel, in which it writes reports to `.firesteel/runs`. Default: the folder of the spec.
    environment
        Environment variables for firesteel, such as JAVA_HOME or HADOOP_CONF_DIR. Airflow's own variables are not passed on.
    part, pin, resume
        Parts of a backfill; see `backfill_group`.
    """

    template_fields: Sequence[str] = ("spec", "profile", "interval", "end", "arguments", "folder", "environment")
    template_fields_renderers = {"arguments": "json", "environment": "json"}  # noqa: RUF012 - Airflow's own form
    ui_color = "#f6d5c3"
    ui_fgcolor = "#5b1a00"

    def __init__(
        self,
        *,
        spec: str,
        profile: str = "",
        interval: str = "{{ data_interval_start }}",
        end: str = "",
        arguments: Mapping[str, Any] | None = None,
        mode: Mode = "run",
        conn_id: str | None = None,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        reconnect: bool = True,
        gate_failure: GateFailure = "fail",
        not_ready: NotReady = "retry",
        not_ready_delay: timedelta = timedelta(minutes=5),
        force: bool = False,
        poll_interval: float = 30.0,
        kill_timeout: float = 30.0,
        command: str | None = None,
        work_folder: str | None = None,
        folder: str = "",
        environment: Mapping[str, str] | None = None,
        part: str = "",
        pin: bool = False,
        resume: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        for name, value in (("mode", mode), ("gate_failure", gate_failure), ("not_ready", not_ready)):
            if value not in _CHOICES[name]:
                raise ValueError(
                    f"task {self.task_id}: {name} is {value!r}; expected one of {', '.join(_CHOICES[name])}"
                )
        self.spec = spec
        self.profile = profile
        self.interval = interval
        self.end = end
        self.arguments = dict(arguments or {})
        self.mode: Mode = mode
        self.conn_id = conn_id
        self.deferrable = deferrable
        self.reconnect = reconnect
        self.gate_failure: GateFailure = gate_failure
        self.not_ready: NotReady = not_ready
        self.not_ready_delay = not_ready_delay
        self.force = force
        self.poll_interval = poll_interval
        self.kill_timeout = kill_timeout
        self.command = command
        self.work_folder = work_folder
        self.folder = folder
        self.environment = dict(environment or {})
        self.part = part
        self.pin = pin
        self.resume = resume
        self._driver: Driver | None = None
        self._running: tuple[Call, str] | None = None
        self._killed = False

    def execute(self, context: Any) -> Any:
        """Run the pipeline, or wait for the run of an earlier try. Return the summary of the run."""
        call, task_instance = self._call(context), context["ti"]
        task_key = _task_key(task_instance)
        if self.reconnect and task_instance.try_number > 1:
            outcome = self._wait_for_earlier_run(context, call, task_key)
            if outcome is not None:
                return self._conclude(context, outcome, task_key)
        run_id = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{task_key}"
        task_instance.xcom_push(key="firesteel_run_id", value=run_id)
        bound = not (self.reconnect or self.deferrable)
        try:
            driver = start(call, run_id, self._work_folder(), bound=bound)
        except NoFiresteel as error:
            raise AirflowFailException(str(error)) from None
        self._driver, self._running = driver, (call, run_id)
        self.log.info("run %s of %s (%s), pid %d", run_id, call.spec, call.profile or "no profile", driver.handle.pid)
        tail = Tail(driver.log)
        if self.deferrable:
            self._wait_until_registered(call, run_id, driver, tail)
            if driver.process.poll() is None:
                self._wait_deferred(call, run_id, driver.handle)
        last_error = self._follow(driver, tail)
        outcome = self._decide(call, run_id, driver.process.returncode, last_error)
        driver.log.unlink(missing_ok=True)
        return self._conclude(context, outcome, task_key)

    def resume_run(
        self, context: Any, event: Mapping[str, Any], call: Mapping[str, Any], run_id: str, handle: list[Any]
    ) -> Any:
        """Resume the task after the trigger has seen the end of the run."""
        resumed, driver = replace(Call.of(call), environment=tuple(self.environment.items())), Handle(*handle)
        if event["why"] == "late":
            self._running = (resumed, run_id)
            end(resumed, run_id, driver, self.kill_timeout).wait()
            raise AirflowException(f"run {run_id}: {event['text']}; its driver was stopped")
        if event["why"] == "blind":
            raise AirflowException(f"run {run_id}: the storage does not answer: {event['text']}")
        log = log_path(self._work_folder(), run_id)
        last_error = self._log_lines(Tail(log).lines(final=True)) if driver.here else ""
        outcome = self._decide(resumed, run_id, None, last_error)
        if driver.here:
            log.unlink(missing_ok=True)
        return self._conclude(context, outcome, _task_key(context["ti"]))

    def on_kill(self) -> None:
        """End the driver and release its lease, in a process that continues when Airflow kills this one after five seconds."""
        self._killed = True
        if self._driver is None or self._running is None or self._driver.handle.gone:
            return
        call, run_id = self._running
        self.log.info("stopping run %s: it has %g s to abort its transaction", run_id, self.kill_timeout)
        # Wait for the reaper, not for the driver: a signal handler may find the lock of its Popen taken.
        end(call, run_id, self._driver.handle, self.kill_timeout).wait()

    def _call(self, context: Any) -> Call:
        """Return the call for the rendered task."""
        if not str(self.interval).strip():
            raise AirflowFailException(
                "`interval` is empty, because a DAG run without a logical date has no data interval. Set `interval`."
            )
        try:
            command = find_command(self.command or conf.get("firesteel", "command", fallback="firesteel"))
            master, settings = self._cluster()
        except (NoFiresteel, WrongConnection) as error:
            raise AirflowFailException(str(error)) from None
        return Call(
            command,
            spec=str(self.spec),
            start=str(self.interval),
            end=str(self.end),
            profile=self.profile,
            arguments=tuple((str(key), str(value)) for key, value in self.arguments.items()),
            mode=self.mode,
            part=self.part,
            pin=self.pin,
            resume=self.resume,
            force=self.force,
            master=master,
            settings=tuple(sorted(settings.items())),
            folder=self.folder or str(Path(self.spec).resolve().parent),
            environment=tuple({**parent_environment(context["ti"]), **self.environment}.items()),
        )

    def _cluster(self) -> tuple[str, dict[str, str]]:
        if self.conn_id is None:
            return "", {}
        connection = BaseHook.get_connection(self.conn_id)  # an unknown connection is an error, not a default
        return cluster_of(
            self.conn_id,
            connection.conn_type,
            connection.host or "",
            connection.port,
            connection.extra_dejson,
            submits=self.mode == "submit",
        )

    def _wait_for_earlier_run(self, context: Any, call: Call, task_key: str) -> Outcome | None:
        """Wait for a run of an earlier try that is still running; return None if there is none or it did not succeed."""
        try:
            runs = call.read_status(task_key)["runs"]
        except StatusUnavailable as error:
            self.log.warning("the runs of earlier tries are unknown: %s", error)
            return None
        for run in runs:
            code = "" if run["exit_code"] is None else f", exit {run['exit_code']}"
            self.log.info("earlier try: run %s %s%s, on %s", run["run_id"], run["state"], code, run["host"])
        alive = [run for run in runs if run["state"] == "running"]
        if not alive:
            return None
        run = alive[-1]
        handle = Handle(run["machine"], run["pid"], run["process_start"])
        context["ti"].xcom_push(key="firesteel_run_id", value=run["run_id"])
        self.log.info("its driver is running (pid %d on %s): waiting for its end", run["pid"], run["host"])
        if self.deferrable:
            self._wait_deferred(call, run["run_id"], handle)
        while not handle.gone and not self._killed:
            time.sleep(_POLL_S if handle.here else self.poll_interval)
            if not handle.here and self._state(call, run["run_id"]) != "running":
                break
        if self._killed:
            end(call, run["run_id"], handle, self.kill_timeout).wait()
            raise AirflowException(f"run {run['run_id']} was stopped with its task")
        outcome = self._decide(call, run["run_id"], None, "")
        if outcome.action == "succeed":
            return outcome
        self.log.info("run %s %s", run["run_id"], outcome.text)
        return None

    def _state(self, call: Call, run_id: str) -> str:
        try:
            runs = call.read_status(run_id)["runs"]
        except StatusUnavailable as error:
            self.log.warning("%s", error)
            return "running"
        return next((str(run["state"]) for run in runs), "unknown")

    def _wait_until_registered(self, call: Call, run_id: str, driver: Driver, tail: Tail) -> None:
        """Wait until the run is registered in the storage, where the trigger reads it, or until it has ended."""
        while driver.process.poll() is None and not self._killed:
            self._log_lines(tail.lines())
            try:
                if call.read_status(run_id)["runs"]:
                    return
            except StatusUnavailable as error:
                self.log.warning("%s", error)
            time.sleep(_REGISTERED_POLL_S)

    def _wait_deferred(self, call: Call, run_id: str, handle: Handle) -> None:
        limit = self.execution_timeout
        handle_values = [handle.machine, handle.pid, handle.process_start]
        self.defer(
            trigger=FiresteelTrigger(
                call.as_dict(),
                run_id,
                handle_values,
                self.poll_interval,
                self.kill_timeout,
                time.time() + limit.total_seconds() if limit else 0.0,
            ),
            method_name="resume_run",
            # Airflow encrypts the arguments of a trigger, but not these.
            kwargs={"call": replace(call, environment=()).as_dict(), "run_id": run_id, "handle": handle_values},
        )

    def _follow(self, driver: Driver, tail: Tail) -> str:
        """Log the output of the driver until it ends; return its last firesteel error."""
        last_error = ""
        while driver.process.poll() is None:
            last_error = self._log_lines(tail.lines()) or last_error
            time.sleep(_POLL_S)
        return self._log_lines(tail.lines(final=True)) or last_error

    def _log_lines(self, lines: Sequence[str]) -> str:
        """Log lines; return the last firesteel error among them."""
        last_error = ""
        for line in lines:
            if line.strip():
                self.log.info("%s", line)
            match = _ERROR.match(line)
            last_error = match[0] if match else last_error
        return last_error

    def _decide(self, call: Call, run_id: str, exit_code: int | None, last_error: str) -> Outcome:
        """Return the outcome of a run, by the ledger."""
        if self._killed:
            raise AirflowException(f"run {run_id} was stopped with its task")
        policy = Policy(self.gate_failure, self.not_ready)
        if exit_code == 2 and last_error:  # a wrong spec may not even name its storage
            return decide_by_code(exit_code, last_error, policy)
        problem = ""
        for attempt in range(_STATUS_ATTEMPTS):
            try:
                return decide(call.read_status(run_id), run_id, exit_code, last_error, policy, pinned=self.pin)
            except StatusUnavailable as error:
                problem = str(error)
                self.log.warning("%s", problem)
                time.sleep(attempt)
        if exit_code:
            return decide_by_code(exit_code, last_error, policy)
        return Outcome("retry", f"the ledger cannot be read: {problem}", {})

    def _conclude(self, context: Any, outcome: Outcome, task_key: str) -> Any:
        """Return the result, or raise the exception for Airflow."""
        if outcome.action != "succeed":
            self._raise(outcome)
        self.log.info("%s", outcome.text)
        if self.outlets:
            partitions = emit(context, self.outlets, outcome.result, task_key)
            self.log.info("emitted events of %d partitions to %d outlets", partitions, len(self.outlets))
        return dict(outcome.result)

    def _raise(self, outcome: Outcome) -> NoReturn:
        if outcome.action == "fail":
            raise AirflowFailException(outcome.text)
        if outcome.action == "skip":
            raise AirflowSkipException(outcome.text)
        if outcome.action == "reschedule":
            self.log.info("%s; checking again in %s", outcome.text, self.not_ready_delay)
            raise AirflowRescheduleException(datetime.now(UTC) + self.not_ready_delay)
        raise AirflowException(outcome.text)

    def _work_folder(self) -> str:
        return self.work_folder or str(conf.get("firesteel", "work_folder", fallback="") or "")


def _task_key(task_instance: Any) -> str:
    """Return the end of the run ids of all tries of a task instance, by which a retry finds them."""
    parts = (task_instance.dag_id, task_instance.task_id, task_instance.run_id, str(task_instance.map_index))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:8]
