"""Record a pipeline run as an MLflow run with one child run per interval.

::

    open ---> RUNNING --finish(published | skipped)--> FINISHED
                 |------finish(failed), exception----> FAILED
                 |------exit code 130, Ctrl-C--------> KILLED
                 `------(process crashed)------------> FAILED, by the next start (dead.py)

If the tracking server cannot be reached at the start, `open` raises FS9003 before anything is written, unless the spec sets
`required: false`. If the server fails later, the run continues. The tracker logs the first problem and stores all in `problems`.
The runner then writes the record to the storage for a later delivery to MLflow (spool.py).
"""

from __future__ import annotations

import getpass
import hashlib
import logging
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Self, cast

from firesteel.conf.errors import RuntimeFault
from firesteel.conf.redaction import redact
from firesteel.jobs.tracking.connect import mlflow_faults, without_secrets
from firesteel.jobs.tracking.datasets import dataset_inputs, dataset_outputs
from firesteel.jobs.tracking.dead import ERROR, PIPELINE, PROFILE, mark_dead_runs, process_tags
from firesteel.jobs.tracking.experiment import experiment_name, open_experiment
from firesteel.jobs.tracking.metrics import batches, interval_metrics, points
from firesteel.jobs.tracking.model_links import link_models
from firesteel.jobs.tracking.page import model_tags, note

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from mlflow import MlflowClient
    from mlflow.entities import LoggedModelInput

    from firesteel.pipelines.plan.model import IntervalPlan, Plan
    from firesteel.pipelines.result import IntervalResult, RunResult

_LOG = logging.getLogger(__name__)

RUN_ID = "firesteel.run_id"
PLAN_HASH = "firesteel.plan_hash"
CODE_HASH = "firesteel.code_hash"
INTERVAL = "firesteel.interval"
PUBLISHED = "firesteel.published"
SHUFFLE = "firesteel.shuffle"
LINEAGE = "firesteel.lineage"
_TAG_LIMIT = 5000
_PARAM_LIMIT = 6000
_CANCELLED = 130


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
        self._started_ms: int | None = None

    @classmethod
    def open(
        cls,
        plan: Plan,
        run_id: str,
        tracking_uri: str | None = None,
        experiment: str | None = None,
    ) -> Self:
        """Start the parent run, and mark crashed runs of this pipeline as failed.

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
            name = experiment or experiment_name(plan)
            client, experiment_id = open_experiment(uri, name)
            tracker = cls(client, client.tracking_uri, plan, run_id, experiment_id)
            tracker._begin(name)
        except RuntimeFault as fault:
            if plan.tracking.required:
                raise
            tracker = cls(cast("MlflowClient", _UnreachableClient(str(fault))), uri, plan, run_id, "")
            tracker._add_problem(str(fault))
        return tracker

    @classmethod
    def again(cls, plan: Plan, result: RunResult) -> Self:
        """Record the missing parts of an ended run. `problems` has the requests that MLflow rejected.

        Raises
        ------
        RuntimeFault
            FS9003 if MLflow cannot be reached.
        """
        client, experiment_id = open_experiment(plan.tracking.uri, experiment_name(plan))
        tracker = cls(client, client.tracking_uri, plan, result.run_id, experiment_id)
        tracker._replay(result)
        return tracker

    def _begin(self, experiment: str) -> None:
        plan, uri = self._plan, self._tracking_uri
        mark_dead_runs(plan.pipeline, plan.profile, experiment=experiment, tracking_uri=uri, client=self._client)
        with mlflow_faults(uri, "starting a run"):
            self._start()

    def _replay(self, result: RunResult) -> None:
        self._started_ms = int(datetime.fromisoformat(result.started_at).timestamp() * 1000)
        with self._recording(f"recording run {result.run_id}"):
            if not self._find_runs():
                self._start()
            for interval in result.intervals:
                if interval.interval not in self._children and interval.state != "skipped":
                    self.interval_started(interval.interval)
                self.interval_finished(interval)
            if not result.error:  # a later start may have marked the run as crashed
                self._client.set_tag(self._run_id, ERROR, "")
            self.finish(result)

    def _find_runs(self) -> bool:
        """Find the existing parent run and child runs. Return whether the parent run exists."""
        for run in self._client.search_runs([self._experiment_id], f"tags.`{RUN_ID}` = '{self._firesteel_run_id}'"):
            interval = run.data.tags.get(INTERVAL)
            if interval is None:
                self._run_id = run.info.run_id
            else:
                self._children[interval] = run.info.run_id
        return bool(self._run_id)

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

    def interval_started(self, interval: str) -> None:
        """Start the child run of an interval."""
        from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

        planned = self._interval(interval)
        with self._recording(f"starting {interval}"):
            tags = self._tags() | {MLFLOW_PARENT_RUN_ID: self._run_id, INTERVAL: interval}
            child = self._client.create_run(self._experiment_id, tags=tags, run_name=interval).info.run_id
            self._children[interval] = child
            if planned is not None:
                self._log(
                    child, params={"interval": interval, "plan_hash": planned.plan_hash, "reason": planned.reason}
                )
                self._client.set_tag(child, PLAN_HASH, planned.plan_hash)
                self._client.log_inputs(child, datasets=dataset_inputs(self._plan, [planned]))

    def interval_finished(self, result: IntervalResult) -> None:
        """Record the result of an interval and end its child run, if it was started."""
        child = self._children.pop(result.interval, None)
        if child is None:
            return
        with self._recording(f"ending {result.interval}"):
            self._log(child, metrics=interval_metrics(result))
            if result.partitions:
                self._client.set_tag(child, PUBLISHED, self._published(result.partitions))
                self._client.log_inputs(child, datasets=dataset_outputs(self._plan, [result]))
            if result.error:
                self._client.set_tag(child, ERROR, result.error[:_TAG_LIMIT])
            self._client.set_terminated(child, "FAILED" if result.state == "failed" else "FINISHED")

    def stamp(self, result: RunResult) -> RunResult:
        """Return the result with the MLflow run ID and link."""
        return replace(result, mlflow_run_id=self.run_id, mlflow_uri=self.url)

    def finish(self, result: RunResult, report: Path | str = "") -> RunResult:
        """Record the result and the report, end the run and return the stamped result."""
        from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE

        result = self.stamp(result)
        report = Path(report or result.report)
        partitions = tuple(partition for interval in result.intervals for partition in interval.partitions)
        metrics = points(result, self._plan)
        with self._recording("recording the result"):
            for batch in batches(metrics):
                self._client.log_batch(self._run_id, metrics=batch)
            self._client.log_text(self._run_id, result.to_json() + "\n", "result.json")
            if partitions:
                self._client.set_tag(self._run_id, PUBLISHED, self._published(partitions))
                self._client.log_inputs(self._run_id, datasets=dataset_outputs(self._plan, result.intervals))
            if result.shuffle:
                self._client.set_tag(self._run_id, SHUFFLE, str(result.shuffle)[:_TAG_LIMIT])
            if result.lineage:
                self._client.set_tag(self._run_id, LINEAGE, str(result.lineage)[:_TAG_LIMIT])
            if result.error:
                self._client.set_tag(self._run_id, ERROR, result.error[:_TAG_LIMIT])
            self._client.set_tag(self._run_id, MLFLOW_RUN_NOTE, note(result, self._plan)[:_TAG_LIMIT])
            if report.is_file():
                self._client.log_artifact(self._run_id, str(report))
        if not self.problems:
            link_models(self._client, self._run_id, self._plan, metrics)
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
        if error is not None:
            with self._recording("recording the error"):
                text = redact(str(error)) or type(error).__name__
                self._client.set_tag(self._run_id, ERROR, text[:_TAG_LIMIT])
        self._end("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")

    def _start(self) -> None:
        plan = self._plan
        run = self._client.create_run(
            self._experiment_id,
            start_time=self._started_ms,
            tags=self._tags(),
            run_name=f"{plan.pipeline} {self._firesteel_run_id}",
        )
        self._run_id = run.info.run_id
        work = [interval for interval in plan.intervals if interval.action == "score"]
        hashes = [interval.plan_hash for interval in work]
        combined = hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()
        self._client.set_tag(self._run_id, PLAN_HASH, combined)
        values = {
            "pipeline": plan.pipeline,
            "profile": plan.profile,
            "code_hash": plan.code_hash,
            "plan_hash": combined,
            "intervals": ", ".join(interval.id for interval in work) or "none",
            "environment": plan.environment,
            "master": plan.master,
        }
        values |= {f"model.{model.name}": f"{model.resolved_uri} sha {model.digest[:12]}" for model in plan.models}
        challenger = plan.score_step.challenger if plan.score_step else None
        if challenger is not None and challenger.pinned is not None:
            values[f"challenger.{challenger.pinned.name}"] = (
                f"{challenger.pinned.resolved_uri} sha {challenger.pinned.digest[:12]}"
            )
        values |= {f"param.{name}": value for name, value in plan.params}
        self._log(self._run_id, params=values)
        self._client.log_inputs(self._run_id, datasets=dataset_inputs(plan, work), models=self._logged_models())
        self._client.log_text(self._run_id, plan.to_json(), "plan.json")
        if plan.spec_text:
            self._client.log_text(self._run_id, plan.spec_text, "spec.yaml")

    def _tags(self) -> dict[str, str]:
        from mlflow.utils.mlflow_tags import MLFLOW_SOURCE_NAME, MLFLOW_SOURCE_TYPE, MLFLOW_USER

        return {
            RUN_ID: self._firesteel_run_id,
            PIPELINE: self._plan.pipeline,
            PROFILE: self._plan.profile,
            CODE_HASH: self._plan.code_hash,
            **model_tags(self._plan),
            **process_tags(),
            MLFLOW_SOURCE_NAME: f"firesteel {self._plan.pipeline}",
            MLFLOW_SOURCE_TYPE: "JOB",
            MLFLOW_USER: _user(),
        }

    def _logged_models(self) -> list[LoggedModelInput]:
        """Return links to the registered versions, so that a model's page lists its runs."""
        from mlflow.entities import LoggedModelInput

        links = []
        for model in self._plan.models:
            name, _, version = model.resolved_uri.removeprefix("models:/").partition("/")
            if not model.resolved_uri.startswith("models:/"):
                continue
            # The link is optional: the registry may be on another server, or may no longer have the version.
            try:
                with mlflow_faults(self._tracking_uri, f"linking {model.resolved_uri}"):
                    source = self._client.get_model_version(name, version).source or ""
            except RuntimeFault as fault:
                _LOG.warning("the MLflow run has no link to its model: %s", fault)
                continue
            if source.startswith("models:/m-"):
                links.append(LoggedModelInput(source.removeprefix("models:/")))
        return links

    def _interval(self, interval: str) -> IntervalPlan | None:
        return next((planned for planned in self._plan.intervals if planned.id == interval), None)

    def _published(self, partitions: tuple[str, ...]) -> str:
        """Return the sink paths and partitions as a tag, so that a search for a path finds the run."""
        paths = " ".join(sink.path for sink in self._plan.sinks)
        return f"{paths}: {' '.join(partitions)}"[:_TAG_LIMIT]

    def _log(
        self, run_id: str, *, params: Mapping[str, str] | None = None, metrics: Mapping[str, float] | None = None
    ) -> None:
        from mlflow.entities import Metric, Param
        from mlflow.utils.time import get_current_time_millis

        now = get_current_time_millis()
        self._client.log_batch(
            run_id,
            metrics=[Metric(key, value, now, 0) for key, value in (metrics or {}).items()],
            params=[Param(key, redact(value)[:_PARAM_LIMIT]) for key, value in (params or {}).items()],
        )

    def _end(self, status: str) -> None:
        self._ended = True
        with self._recording("ending the run"):
            for child in self._children.values():
                self._client.set_terminated(child, status)
            self._client.set_terminated(self._run_id, status)

    def _recording(self, doing: str) -> _Recording:
        return _Recording(self._tracking_uri, doing, self._add_problem)

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

    def __init__(self, tracking_uri: str, doing: str, remember: Callable[[str], None]) -> None:
        self._faults = mlflow_faults(tracking_uri, doing)
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


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # containers may run as a user without a name
        return "unknown"
