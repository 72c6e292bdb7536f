"""The operator: one task is one run of a pipeline, and a retry of it never does the same work twice."""

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
from firesteel_airflow.call import Call, CannotLook, Mode, NoFiresteel, find_command
from firesteel_airflow.cluster import WrongConnection, cluster_of
from firesteel_airflow.driver import Driver, Handle, Tail, end, log_path, start
from firesteel_airflow.lineage import parent_environment
from firesteel_airflow.outcome import GateFailure, NotReady, Outcome, Policy, by_code, decide
from firesteel_airflow.trigger import FiresteelTrigger

_POLL_S = 0.2
_ANNOUNCED_LOOK_S = 1.0
_LOOKS = 3
_CHOICES = {
    "mode": ("run", "submit", "backfill"),
    "gate_failure": ("fail", "retry", "skip"),
    "not_ready": ("retry", "reschedule", "fail", "skip"),
}
_CODED = re.compile(r"FS\d{4}\b.*")


class FiresteelOperator(BaseOperator):  # type: ignore[misc]
    """Runs a pipeline for an interval, by firesteel's own command in firesteel's own environment.

    The ledger decides what became of a run. A driver is no child that dies with its worker: a retry after a worker's death finds it
    and waits for it, or finds published what it published. What the task returns is small, and its keys are a contract: see
    `docs/how-to/airflow.md`.

    Parameters
    ----------
    spec
        Path of the pipeline's YAML file on the worker.
    profile, arguments
        The spec's profile, and values of its params. (`params` is a word of Airflow's own.)
    interval
        The interval, or an instant in it; the default is the start of the DAG run's data interval.
    end
        The last interval, included, for more than one.
    mode
        `run`: the driver runs on the worker. `submit`: by spark-submit, also in cluster mode. `backfill`: all of a range by one plan.
    conn_id
        A connection of type `spark`: its master, queue, deploy-mode, namespace, principal and keytab go before the spec's. Without
        one the spec says where Spark runs.
    deferrable
        Leave the worker as soon as the run has begun; a trigger waits for its end.
    reconnect
        Let a driver go on when its worker dies, so that the retry waits for it. Otherwise it ends with the worker.
    gate_failure
        `fail` (no retry: the same data fail again), `retry` or `skip`.
    not_ready
        `retry` (by the task's own retries), `reschedule` (after `not_ready_delay`, as often as needed), `fail` or `skip`.
    force
        Also what is published with the same plan.
    poll_interval
        Seconds between looks at a run that is on another machine.
    kill_timeout
        Seconds that a driver has to end in good order before it is killed.
    command, work_folder
        Instead of `[firesteel] command` and `work_folder` of Airflow's configuration.
    folder
        The working directory of firesteel, in which `.firesteel/runs` gets the report; that of the spec by default.
    environment
        Variables for firesteel, e.g. JAVA_HOME or HADOOP_CONF_DIR. No variable of Airflow's own reaches it.
    part, pin, resume
        Of a backfill; see `backfill_group`.
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
                raise ValueError(f"{name}={value!r} of task {self.task_id}: choose one of {', '.join(_CHOICES[name])}")
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
        """Run, or wait for what an earlier try left running; what the task returns."""
        call, task_instance = self._call(context), context["ti"]
        kin = _kin(task_instance)
        if self.reconnect and task_instance.try_number > 1:
            outcome = self._reconnected(context, call, kin)
            if outcome is not None:
                return self._conclude(context, outcome, kin)
        run_id = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{kin}"
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
            self._until_announced(call, run_id, driver, tail)
            if driver.process.poll() is None:
                self._wait_deferred(call, run_id, driver.handle)
        said = self._follow(driver, tail)
        outcome = self._judge(call, run_id, driver.process.returncode, said)
        driver.log.unlink(missing_ok=True)
        return self._conclude(context, outcome, kin)

    def resume_run(
        self, context: Any, event: Mapping[str, Any], call: Mapping[str, Any], run_id: str, handle: list[Any]
    ) -> Any:
        """Go on where the trigger saw the run end."""
        made, there = replace(Call.of(call), environment=tuple(self.environment.items())), Handle(*handle)
        if event["why"] == "late":
            self._running = (made, run_id)
            end(made, run_id, there, self.kill_timeout).wait()
            raise AirflowException(f"run {run_id}: {event['text']}; its driver was ended")
        if event["why"] == "blind":
            raise AirflowException(f"run {run_id}: the storage does not answer: {event['text']}")
        log = log_path(self._work_folder(), run_id)
        said = self._tell(Tail(log).lines(final=True)) if there.here else ""
        outcome = self._judge(made, run_id, None, said)
        if there.here:
            log.unlink(missing_ok=True)
        return self._conclude(context, outcome, _kin(context["ti"]))

    def on_kill(self) -> None:
        """End the driver and release its lease: by a process that goes on when Airflow kills this one, in five seconds."""
        self._killed = True
        if self._driver is None or self._running is None or self._driver.handle.gone:
            return
        call, run_id = self._running
        self.log.info("ending run %s: it has %g s to abort its transaction", run_id, self.kill_timeout)
        end(
            call, run_id, self._driver.handle, self.kill_timeout
        ).wait()  # not the driver's: a signal may find that locked

    def _call(self, context: Any) -> Call:
        """The rendered task as command lines."""
        if not str(self.interval).strip():
            raise AirflowFailException("`interval` is empty: a DAG run without a logical date has no data interval")
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
        found = BaseHook.get_connection(self.conn_id)  # an unknown one is an error here, and not yarn by default
        return cluster_of(
            self.conn_id,
            found.conn_type,
            found.host or "",
            found.port,
            found.extra_dejson,
            submits=self.mode == "submit",
        )

    def _reconnected(self, context: Any, call: Call, kin: str) -> Outcome | None:
        """Wait for the run of an earlier try that still lives; None when there is none, or when it came to nothing."""
        try:
            runs = call.look(kin)["runs"]
        except CannotLook as error:
            self.log.warning("no look at earlier tries: %s", error)
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
        self.log.info("its driver goes on (pid %d on %s): waiting for it", run["pid"], run["host"])
        if self.deferrable:
            self._wait_deferred(call, run["run_id"], handle)
        while not handle.gone and not self._killed:
            time.sleep(_POLL_S if handle.here else self.poll_interval)
            if not handle.here and self._state(call, run["run_id"]) != "running":
                break
        if self._killed:
            end(call, run["run_id"], handle, self.kill_timeout).wait()
            raise AirflowException(f"run {run['run_id']} was ended with its task")
        outcome = self._judge(call, run["run_id"], None, "")
        if outcome.then == "succeed":
            return outcome
        self.log.info("run %s %s", run["run_id"], outcome.text)
        return None

    def _state(self, call: Call, run_id: str) -> str:
        try:
            runs = call.look(run_id)["runs"]
        except CannotLook as error:
            self.log.warning("%s", error)
            return "running"
        return next((str(run["state"]) for run in runs), "unknown")

    def _until_announced(self, call: Call, run_id: str, driver: Driver, tail: Tail) -> None:
        """Wait until the storage knows of the run, so that the trigger can; or until it has ended."""
        while driver.process.poll() is None and not self._killed:
            self._tell(tail.lines())
            try:
                if call.look(run_id)["runs"]:
                    return
            except CannotLook as error:
                self.log.warning("%s", error)
            time.sleep(_ANNOUNCED_LOOK_S)

    def _wait_deferred(self, call: Call, run_id: str, handle: Handle) -> None:
        limit = self.execution_timeout
        words = [handle.machine, handle.pid, handle.process_start]
        self.defer(
            trigger=FiresteelTrigger(
                call.as_dict(),
                run_id,
                words,
                self.poll_interval,
                self.kill_timeout,
                time.time() + limit.total_seconds() if limit else 0.0,
            ),
            method_name="resume_run",
            # Airflow encrypts what a trigger is given, and not this.
            kwargs={"call": replace(call, environment=()).as_dict(), "run_id": run_id, "handle": words},
        )

    def _follow(self, driver: Driver, tail: Tail) -> str:
        """Log what the driver says until it ends; its last coded words."""
        said = ""
        while driver.process.poll() is None:
            said = self._tell(tail.lines()) or said
            time.sleep(_POLL_S)
        return self._tell(tail.lines(final=True)) or said

    def _tell(self, lines: Sequence[str]) -> str:
        """Log lines; the last of them that is an error of firesteel's."""
        said = ""
        for line in lines:
            if line.strip():
                self.log.info("%s", line)
            match = _CODED.match(line)
            said = match[0] if match else said
        return said

    def _judge(self, call: Call, run_id: str, exit_code: int | None, said: str) -> Outcome:
        """What became of a run, by the ledger."""
        if self._killed:
            raise AirflowException(f"run {run_id} was ended with its task")
        policy = Policy(self.gate_failure, self.not_ready)
        if exit_code == 2 and said:  # such a spec may not even say where its storage is
            return by_code(exit_code, said, policy)
        trouble = ""
        for attempt in range(_LOOKS):
            try:
                return decide(call.look(run_id), run_id, exit_code, said, policy, pinned=self.pin)
            except CannotLook as error:
                trouble = str(error)
                self.log.warning("%s", trouble)
                time.sleep(attempt)
        if exit_code:
            return by_code(exit_code, said, policy)
        return Outcome("retry", f"the ledger cannot be read: {trouble}", {})

    def _conclude(self, context: Any, outcome: Outcome, kin: str) -> Any:
        """Return the result, or raise what Airflow acts on."""
        if outcome.then != "succeed":
            self._give_up(outcome)
        self.log.info("%s", outcome.text)
        if self.outlets:
            told = emit(context, self.outlets, outcome.result, kin)
            self.log.info("%d partitions told to %d outlets", told, len(self.outlets))
        return dict(outcome.result)

    def _give_up(self, outcome: Outcome) -> NoReturn:
        if outcome.then == "fail":
            raise AirflowFailException(outcome.text)
        if outcome.then == "skip":
            raise AirflowSkipException(outcome.text)
        if outcome.then == "reschedule":
            self.log.info("%s; looking again in %s", outcome.text, self.not_ready_delay)
            raise AirflowRescheduleException(datetime.now(UTC) + self.not_ready_delay)
        raise AirflowException(outcome.text)

    def _work_folder(self) -> str:
        return self.work_folder or str(conf.get("firesteel", "work_folder", fallback="") or "")


def _kin(task_instance: Any) -> str:
    """What the run ids of all tries of one task instance end in: how a retry knows its own."""
    parts = (task_instance.dag_id, task_instance.task_id, task_instance.run_id, str(task_instance.map_index))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:8]
