"""Record a pipeline run as an MLflow run with one child run per interval.

::

    open ---> RUNNING --finish(published | skipped)--> FINISHED
                 |------finish(failed), exception----> FAILED
                 |------exit code 130, Ctrl-C--------> KILLED
                 `------(process died)---------------> what the ledger says, by the next command (settle.py)

If the tracking server cannot be reached at the start, `open` raises FS9003 before anything is written, unless the spec sets
`required: false`. After the parent run exists, a thread sends the calls in order, so that scoring does not wait. If the server fails
later, or the artifact store at any time, the run continues. The tracker logs the first problem and stores all in `problems`. The runner
then writes the record to the storage for a later delivery to MLflow (spool.py).
"""

from __future__ import annotations

import getpass
import hashlib
import logging
import os
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar, cast

from firesteel.conf.errors import FiresteelError, RuntimeFault
from firesteel.conf.files import open_regular
from firesteel.conf.redaction import redact
from firesteel.jobs.tracking.background import BackgroundCalls
from firesteel.jobs.tracking.batch import TAG_LIMIT, log_values
from firesteel.jobs.tracking.connect import mlflow_faults, one_line, without_secrets
from firesteel.jobs.tracking.create import INTERVAL, RUN_ID, create_once, runs_of
from firesteel.jobs.tracking.datasets import dataset_inputs, dataset_outputs
from firesteel.jobs.tracking.driver import process_tags
from firesteel.jobs.tracking.experiment import edit_permission, experiment_name, find_experiment, open_experiment
from firesteel.jobs.tracking.metrics import batches, interval_metrics, points
from firesteel.jobs.tracking.model_links import link_models, link_training_models
from firesteel.jobs.tracking.page import challengers, model_tags, note, published_tag
from firesteel.pipelines.plan.security import held_to_security
from firesteel.pipelines.publish.ledger import Ledger
from firesteel.pipelines.publish.state_store import StateStore

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from concurrent.futures import Future
    from types import TracebackType

    from mlflow import MlflowClient
    from mlflow.entities import Run

    from firesteel.pipelines.plan.model import IntervalPlan, Plan
    from firesteel.pipelines.publish.records import LedgerRecord
    from firesteel.pipelines.result import IntervalResult, RunResult

T = TypeVar("T")

_LOG = logging.getLogger(__name__)

PIPELINE = "firesteel.pipeline"
PROFILE = "firesteel.profile"
ERROR = "firesteel.error"
PLAN_HASH = "firesteel.plan_hash"
CODE_HASH = "firesteel.code_hash"
STORAGE = "firesteel.storage"
INTERVALS = "firesteel.intervals"
"""The number of intervals that the run works on."""
PUBLISHED = "firesteel.published"
SHUFFLE = "firesteel.shuffle"
LINEAGE = "firesteel.lineage"
AUDIT_HEAD = "firesteel.audit_head"
WARNING = "firesteel.warning"
_REPORT = "report.html"
_CANCELLED = 130
_ERROR_WAIT_S = 10.0
"""Seconds that a run with an error waits for its earlier calls to MLflow."""


class RunTracker:
    """The MLflow record of one run. As a context manager, it ends the run as FAILED or KILLED if the block raises an error.

    Examples
    --------
    >>> with RunTracker.open(plan, run_id) as tracker:  # doctest: +SKIP
    ...     tracker.interval_started("2013-06-01")
    ...     tracker.interval_finished(interval_result)
    ...     result = tracker.stamp(result)
    ...     report = write_report(result, plan, path)
    ...     result = tracker.finish(result, report)
    """

    def __init__(self, client: MlflowClient, tracking_uri: str, plan: Plan, run_id: str, experiment_id: str) -> None:
        self.problems: list[str] = []
        self._client = client
        self._tracking_uri = tracking_uri
        self._plan = plan
        self._firesteel_run_id = run_id
        self._experiment_id = experiment_id
        self._run_id = ""
        self._children: dict[str, str] = {}
        self._ended = False
        self._store_failed = False
        self._warnings = list(plan.model_warnings)
        self._started_ms: int | None = None
        self._done: set[str] = set()
        self._background = BackgroundCalls()

    @classmethod
    @held_to_security
    def open(
        cls,
        plan: Plan,
        run_id: str,
        tracking_uri: str | None = None,
        experiment: str | None = None,
    ) -> Self:
        """Start the parent run.

        Parameters
        ----------
        tracking_uri, experiment
            By default from the plan, else MLflow's default URI and `firesteel/PIPELINE`.

        Raises
        ------
        RuntimeFault
            FS9003 if MLflow is required and cannot be reached or rejects the run.
        """
        uri = plan.tracking.uri if tracking_uri is None else tracking_uri
        try:
            name = experiment or experiment_name(plan.tracking.experiment, plan.pipeline)
            client, experiment_id = open_experiment(uri, name)
            tracker = cls(client, client.tracking_uri, plan, run_id, experiment_id)
            tracker._begin()
        except RuntimeFault as fault:
            if plan.tracking.required or fault.code == "FS9041":
                raise
            tracker = cls(cast("MlflowClient", _UnreachableClient(str(fault))), uri, plan, run_id, "")
            tracker._add_problem(str(fault))
        return tracker

    @classmethod
    def again(cls, plan: Plan, result: RunResult, client: MlflowClient) -> Self:
        """Record the missing parts of an ended run. `problems` has the requests that MLflow rejected.

        Raises
        ------
        RuntimeFault
            FS9003 if the experiment cannot be opened.
        """
        experiment_id = find_experiment(client, experiment_name(plan.tracking.experiment, plan.pipeline))
        tracker = cls(client, client.tracking_uri, plan, result.run_id, experiment_id)
        tracker._replay(result)
        return tracker

    def _begin(self) -> None:
        try:
            with mlflow_faults(self._tracking_uri, "starting a run", self._permission):
                self._start()
        except RuntimeFault as fault:
            if self._plan.tracking.required and self._run_id:  # the run stops here
                with self._recording("recording the error"):
                    self._client.set_tag(self._run_id, ERROR, str(fault)[:TAG_LIMIT])
                self._end("FAILED")
            raise
        self._background.add(self._store_plan)

    def _replay(self, result: RunResult) -> None:
        self._started_ms = int(datetime.fromisoformat(result.started_at).timestamp() * 1000)
        with self._recording(f"recording run {result.run_id}"):
            self._start()
            self._background.add(self._store_plan)
            # Another command may have ended the runs from the ledger.
            failed = {interval.interval for interval in result.intervals if interval.error}
            cleared = [child for interval, child in self._children.items() if interval not in failed]
            for run_id in [*cleared, *([] if result.error else [self._run_id])]:
                self._client.set_tag(run_id, ERROR, "")
            for interval in result.intervals:
                if interval.interval not in self._children and interval.state != "skipped":
                    self.interval_started(interval.interval)
                self.interval_finished(interval)
            self.finish(result)

    def _find_runs(self) -> Run | None:
        """Return the parent run, if it exists. A driver that runs again, and a record that is delivered, continue it."""
        parent = None
        for run in runs_of(self._client, self._experiment_id, self._firesteel_run_id):
            interval = run.data.tags.get(INTERVAL)
            if interval is None:
                parent = parent or run
            else:
                self._children.setdefault(interval, run.info.run_id)
        return parent

    @property
    def client(self) -> MlflowClient | None:
        """Return the client; None if MLflow was unreachable at the start."""
        return self._client if self._experiment_id else None

    @property
    def run_id(self) -> str:
        """Return MLflow's ID of the parent run."""
        return self._run_id

    @property
    def tracking_uri(self) -> str:
        """Return the tracking URI without secrets."""
        return without_secrets(self._tracking_uri)

    @property
    def url(self) -> str:
        """Return a link to the run on a server, the URI of a local store, or an empty string if MLflow has no run."""
        if not self._run_id:
            return ""
        if self._tracking_uri.startswith("http"):
            base = without_secrets(self._tracking_uri).rstrip("/")
            return f"{base}/#/experiments/{self._experiment_id}/runs/{self._run_id}"
        return without_secrets(self._tracking_uri)

    def in_background(self, call: Callable[[], T]) -> Future[T]:
        """Call a function after the calls to MLflow that wait, while the pipeline goes on."""
        return self._background.add(call)

    def interval_started(self, interval: str) -> None:
        """Start the child run of an interval, in the background."""
        self._background.add(lambda: self._start_child(interval))

    def interval_finished(self, result: IntervalResult) -> None:
        """Record the result of an interval and end its child run, if it was started, in the background."""
        if result.state != "failed":
            self._done.add(result.interval)
        self._background.add(lambda: self._finish_child(result))

    def _start_child(self, interval: str) -> None:
        from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

        planned = self._interval(interval)
        with self._recording(f"starting {interval}"):
            if interval in self._children:
                self._client.update_run(self._children[interval], status="RUNNING")
                return
            tags = self._tags() | {MLFLOW_PARENT_RUN_ID: self._run_id, INTERVAL: interval}
            if planned is not None:
                tags[PLAN_HASH] = planned.plan_hash
            child = create_once(self._client, self._experiment_id, tags, interval)
            self._children[interval] = child
            if planned is not None:
                log_values(
                    self._client,
                    child,
                    params={"interval": interval, "plan_hash": planned.plan_hash, "reason": planned.reason},
                )
                self._client.log_inputs(child, datasets=dataset_inputs(self._plan, [planned]))

    def _finish_child(self, result: IntervalResult) -> None:
        child = self._children.pop(result.interval, None)
        if child is None:
            return
        with self._recording(f"ending {result.interval}"):
            tags = {PUBLISHED: self._published(result.partitions)} if result.partitions else {}
            if result.error:
                tags[ERROR] = result.error
            log_values(self._client, child, metrics=interval_metrics(result), tags=tags)
            if outputs := dataset_outputs(self._plan, [result]):
                self._client.log_inputs(child, datasets=outputs)
            self._client.set_terminated(child, "FAILED" if result.state == "failed" else "FINISHED")

    def warn(self, text: str) -> None:
        """Log a warning about the run, and add it to the tag `firesteel.warning`."""
        _LOG.warning("%s", text)
        self._warnings.append(text)
        self._background.add(self._tag_warnings)

    def _record_warnings(self, texts: Sequence[str]) -> None:
        """Add texts to the tag `firesteel.warning`. The next run will have the same ones: the log has them as information."""
        for text in texts:
            _LOG.info("%s", text)
        if texts:
            self._warnings += texts
            self._tag_warnings()

    def _tag_warnings(self) -> None:
        with self._recording("recording a warning"):
            log_values(self._client, self._run_id, tags=self._warning_tag())

    def _warning_tag(self) -> dict[str, str]:
        """Return the tag with the plan's warnings about its models and those of the run."""
        return {WARNING: " ".join(self._warnings)[:TAG_LIMIT]} if self._warnings else {}

    def stamp(self, result: RunResult) -> RunResult:
        """Return the result with the MLflow run ID and link."""
        return replace(result, mlflow_run_id=self.run_id, mlflow_uri=self.url)

    def finish(self, result: RunResult, report: Path | str = "", *, audit_head: str = "") -> RunResult:
        """Record the result and the report, end the run and return the stamped result."""
        from mlflow.entities import RunTag
        from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE

        result = self.stamp(result)
        partitions = tuple(partition for interval in result.intervals for partition in interval.partitions)
        metrics = points(result, self._plan)
        self._wait()
        with self._recording("recording the result"):
            tags = {
                PUBLISHED: self._published(partitions) if partitions else "",
                AUDIT_HEAD: audit_head,
                SHUFFLE: str(result.shuffle or ""),
                LINEAGE: str(result.lineage or ""),
                ERROR: result.error,
                MLFLOW_RUN_NOTE: note(result, self._plan),
            }
            run_tags = [RunTag(name, value[:TAG_LIMIT]) for name, value in tags.items() if value]
            for batch in batches(metrics):
                self._client.log_batch(self._run_id, metrics=batch, tags=run_tags)
                run_tags = []
            if outputs := dataset_outputs(self._plan, result.intervals):
                self._client.log_inputs(self._run_id, datasets=outputs)
        if not self.problems:
            self._record_warnings(link_models(self._client, self._run_id, self._plan, metrics))
        self._store(
            "storing the result", {"result.json": result.to_json() + "\n", **_report(Path(report or result.report))}
        )
        status = {"failed": "FAILED"}.get(result.state, "FINISHED")
        self._end("KILLED" if result.exit_code == _CANCELLED else status)
        return result

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._ended:
            return
        self._wait(_ERROR_WAIT_S if error is not None else None)
        if error is not None:
            with self._recording("recording the error"):
                text = redact(str(error)) or type(error).__name__
                self._client.set_tag(self._run_id, ERROR, text[:TAG_LIMIT])
        work = {interval.id for interval in self._plan.intervals if interval.action != "skip"}
        done = self._done | {interval for interval in self._children if self._publish_of(interval) is not None}
        complete = bool(work) and work <= done  # the error came after the last publish
        self._end("FINISHED" if complete else "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")

    def _start(self) -> None:
        plan = self._plan
        found = self._find_runs()
        if found is not None:
            self._run_id = found.info.run_id
            log_values(self._client, self._run_id, tags=process_tags())
            self._client.update_run(self._run_id, status="RUNNING")
        else:
            intervals = sum(interval.action != "skip" for interval in plan.intervals)
            tags = self._tags() | self._warning_tag() | {INTERVALS: str(intervals), PLAN_HASH: self._plan_hash()}
            name = f"{plan.pipeline} {self._firesteel_run_id}"
            self._run_id = create_once(self._client, self._experiment_id, tags, name, self._started_ms)
        if found is None or not found.data.params:
            self._background.add(self._describe)

    def _plan_hash(self) -> str:
        """Return the plan hash of the interval, or a hash of those of all intervals."""
        hashes = [interval.plan_hash for interval in self._plan.intervals if interval.action == "score"]
        return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()

    def _describe(self) -> None:
        """Record what the run works on."""
        with self._recording("describing the run"):
            plan = self._plan
            work = [interval for interval in plan.intervals if interval.action == "score"]
            values = {
                "pipeline": plan.pipeline,
                "profile": plan.profile,
                "code_hash": plan.code_hash,
                "plan_hash": self._plan_hash(),
                "intervals": ", ".join(interval.id for interval in work) or "none",
                "environment": plan.environment,
                "master": plan.master,
            }
            values |= {f"model.{model.name}": f"{model.resolved_uri} sha {model.digest[:12]}" for model in plan.models}
            values |= {
                f"challenger.{model.name}": f"{model.resolved_uri} sha {model.digest[:12]}"
                for model in challengers(plan)
            }
            values |= {f"param.{name}": value for name, value in plan.params}
            log_values(self._client, self._run_id, params=values)
            self._client.log_inputs(self._run_id, datasets=dataset_inputs(plan, work))
            self._record_warnings(link_training_models(self._client, self._run_id, plan))

    def _store_plan(self) -> None:
        spec = {"spec.yaml": self._plan.spec_text} if self._plan.spec_text else {}
        self._store("storing the plan", {"plan.json": self._plan.to_json(), **spec})

    def _store(self, doing: str, texts: Mapping[str, str]) -> None:
        """Upload artifacts. After an error the run uploads no more, because a store may need minutes to fail."""
        if self._store_failed:
            return
        self._store_failed = True
        with self._recording(doing):
            for name, text in texts.items():
                self._client.log_text(self._run_id, text, name)
            self._store_failed = False

    def _tags(self) -> dict[str, str]:
        from mlflow.utils.mlflow_tags import MLFLOW_SOURCE_NAME, MLFLOW_SOURCE_TYPE, MLFLOW_USER

        store = StateStore.of(self._plan)  # it has the ledger of the run
        return {
            RUN_ID: self._firesteel_run_id,
            PIPELINE: self._plan.pipeline,
            PROFILE: self._plan.profile,
            CODE_HASH: self._plan.code_hash,
            STORAGE: store.location(store.base),
            **model_tags(self._plan),
            **process_tags(),
            MLFLOW_SOURCE_NAME: f"firesteel {self._plan.pipeline}",
            MLFLOW_SOURCE_TYPE: "JOB",
            MLFLOW_USER: _user(),
        }

    def _interval(self, interval: str) -> IntervalPlan | None:
        return next((planned for planned in self._plan.intervals if planned.id == interval), None)

    def _published(self, partitions: tuple[str, ...]) -> str:
        """Return the sink paths and partitions as a tag, so that a search for a path finds the run."""
        return published_tag((sink.path for sink in self._plan.sinks), partitions)

    def _wait(self, limit_s: float | None = None) -> None:
        """Wait for the calls in the background."""
        for error in self._background.wait(limit_s):
            self._add_problem(one_line(error))

    def _end(self, status: str) -> None:
        self._wait()
        self._ended = True
        with self._recording("ending the run"):
            for interval, child in self._children.items():
                record = self._publish_of(interval)
                if record is not None:  # the run was interrupted after the publish
                    log_values(self._client, child, tags={PUBLISHED: self._published(record.partitions)})
                self._client.set_terminated(child, status if record is None else "FINISHED")
            self._client.set_terminated(self._run_id, status)

    def _publish_of(self, interval: str) -> LedgerRecord | None:
        """Return the record of an interval if the ledger says that this run has published it."""
        ledger = Ledger(StateStore.of(self._plan))
        try:
            records = [ledger.latest(sink.name, interval) for sink in self._plan.sinks]
        except FiresteelError:
            return None
        own = [record for record in records if record is not None and record.run_id == self._firesteel_run_id]
        return next((record for record in own if record.state == "published"), None)

    def _recording(self, doing: str) -> _Recording:
        return _Recording(self._tracking_uri, doing, self._permission, self._add_problem)

    @property
    def _permission(self) -> str:
        return edit_permission(experiment_name(self._plan.tracking.experiment, self._plan.pipeline))

    def _add_problem(self, problem: str) -> None:
        if not self.problems:
            _LOG.warning("the MLflow record of the run is incomplete: %s", problem)
        self.problems.append(problem)


class _UnreachableClient:
    """Replaces the client if MLflow was unreachable at the start. Every call fails without a retry."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def __getattr__(self, name: str) -> object:
        from mlflow.exceptions import MlflowException

        raise MlflowException(self._reason)


class _Recording:
    """Collects MLflow errors as problems, so that they do not fail the run."""

    def __init__(self, tracking_uri: str, doing: str, needs: str, remember: Callable[[str], None]) -> None:
        self._faults = mlflow_faults(tracking_uri, doing, needs)
        self._add_problem = remember

    def __enter__(self) -> None:
        self._faults.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        try:
            self._faults.__exit__(kind, error, trace)
        except RuntimeFault as fault:
            self._add_problem(str(fault))
            return True
        return False


def _report(path: Path) -> dict[str, str]:
    """Return the text of a report by its name in MLflow; empty if there is none.

    The path may come from a record in the storage, where others may be able to write. Only a report that this user has written counts.
    """
    if path.name != _REPORT:
        return {}
    try:
        with open_regular(path, follow=False) as file:
            own = os.fstat(file.fileno()).st_uid == os.geteuid()
            return {_REPORT: file.read().decode()} if own else {}
    except (OSError, ValueError):
        return {}


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # containers may run as a user without a name
        return "unknown"
