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
import re
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Self, cast
from urllib.parse import urlsplit

from firesteel.conf.errors import RuntimeFault
from firesteel.conf.quantities import plural
from firesteel.conf.redaction import redact
from firesteel.jobs.gates.check import DRIFT
from firesteel.jobs.report.agreement import combine_agreements
from firesteel.jobs.tracking.connect import connect, database_folder, mlflow_faults, without_secrets
from firesteel.jobs.tracking.datasets import dataset_inputs
from firesteel.jobs.tracking.dead import ERROR, PIPELINE, PROFILE, mark_dead_runs, process_tags

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from mlflow import MlflowClient
    from mlflow.entities import LoggedModelInput

    from firesteel.pipelines.plan.model import IntervalPlan, Plan
    from firesteel.pipelines.result import Agreement, ExecutorUse, IntervalResult, RunResult

_LOG = logging.getLogger(__name__)

RUN_ID = "firesteel.run_id"
PLAN_HASH = "firesteel.plan_hash"
CODE_HASH = "firesteel.code_hash"
INTERVAL = "firesteel.interval"
PUBLISHED = "firesteel.published"
SHUFFLE = "firesteel.shuffle"
LINEAGE = "firesteel.lineage"
AUDIT_HEAD = "firesteel.audit_head"
_KIND = {"mlflow.experimentKind": "custom_model_development"}
"""Makes MLflow show the experiment as runs with metrics. Otherwise it may show conversations."""
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
        *,
        params: Mapping[str, object] | None = None,
    ) -> Self:
        """Start the parent run, and mark crashed runs of this pipeline as failed.

        Parameters
        ----------
        tracking_uri, experiment
            By default from the plan, else MLflow's default URI and `firesteel/PIPELINE`.
        params
            Values of the spec's params, recorded as `param.NAME`.

        Raises
        ------
        RuntimeFault
            FS9003 if MLflow is required and cannot be reached or rejects the run.
        """
        uri = plan.tracking.uri if tracking_uri is None else tracking_uri
        try:
            name = experiment or _experiment_name(plan)
            client, experiment_id = _open_experiment(uri, name)
            tracker = cls(client, client.tracking_uri, plan, run_id, experiment_id)
            tracker._begin(name, params or {})
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
        client, experiment_id = _open_experiment(plan.tracking.uri, _experiment_name(plan))
        tracker = cls(client, client.tracking_uri, plan, result.run_id, experiment_id)
        tracker._replay(result)
        return tracker

    def _begin(self, experiment: str, params: Mapping[str, object]) -> None:
        plan, uri = self._plan, self._tracking_uri
        mark_dead_runs(plan.pipeline, plan.profile, experiment=experiment, tracking_uri=uri, client=self._client)
        with mlflow_faults(uri, "starting a run"):
            self._start(params)

    def _replay(self, result: RunResult) -> None:
        self._started_ms = int(datetime.fromisoformat(result.started_at).timestamp() * 1000)
        with self._recording(f"recording run {result.run_id}"):
            if not self._find_runs():
                self._start({})
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
            if result.error:
                self._client.set_tag(child, ERROR, result.error[:_TAG_LIMIT])
            self._client.set_terminated(child, "FAILED" if result.state == "failed" else "FINISHED")

    def stamp(self, result: RunResult) -> RunResult:
        """Return the result with the MLflow run ID and link."""
        return replace(result, mlflow_run_id=self.run_id, mlflow_uri=self.url)

    def finish(self, result: RunResult, report: Path | str = "", *, audit_head: str = "") -> RunResult:
        """Record the result and the report, end the run and return the stamped result."""
        from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE

        result = self.stamp(result)
        report = Path(report or result.report)
        partitions = tuple(partition for interval in result.intervals for partition in interval.partitions)
        with self._recording("recording the result"):
            self._log(self._run_id, metrics=run_metrics(result))
            self._client.log_text(self._run_id, result.to_json() + "\n", "result.json")
            if partitions:
                self._client.set_tag(self._run_id, PUBLISHED, self._published(partitions))
            if audit_head:
                self._client.set_tag(self._run_id, AUDIT_HEAD, audit_head)
            if result.shuffle:
                self._client.set_tag(self._run_id, SHUFFLE, str(result.shuffle)[:_TAG_LIMIT])
            if result.lineage:
                self._client.set_tag(self._run_id, LINEAGE, str(result.lineage)[:_TAG_LIMIT])
            if result.error:
                self._client.set_tag(self._run_id, ERROR, result.error[:_TAG_LIMIT])
            self._client.set_tag(self._run_id, MLFLOW_RUN_NOTE, _note(result, self._plan)[:_TAG_LIMIT])
            if report.is_file():
                self._client.log_artifact(self._run_id, str(report))
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

    def _start(self, params: Mapping[str, object]) -> None:
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
        values |= {f"param.{name}": str(value) for name, value in params.items()}
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


def _note(result: RunResult, plan: Plan) -> str:
    """Return the description of the run in Markdown."""
    counts = result.counts
    paths = ", ".join(f"`{sink.path}`" for sink in plan.sinks)
    published = [interval for interval in result.intervals if interval.state == "published"]
    verdict = f"**{result.state.capitalize()}**" + (f": {result.error}" if result.error else "")
    lines = [verdict]
    if published:
        partitions = sum(len(interval.partitions) for interval in published)
        lines.append(
            f"{len(published)} of {plural(len(result.intervals), 'interval')}, {plural(partitions, 'partition')} published to {paths}."
        )
    lines.append(
        f"{counts.rows_in:,} rows in = {counts.scored:,} scored + {counts.dead_letter:,} dead letters "
        f"+ {counts.quarantined:,} quarantined + {counts.dropped:,} dropped."
    )
    lines.append("Artifacts: `report.html` (gates, times and executors), `plan.json` (reasons) and `spec.yaml` (spec).")
    return "\n\n".join(lines)


def _open_experiment(uri: str, experiment: str) -> tuple[MlflowClient, str]:
    """Return a client and the ID of the experiment."""
    client = connect(uri)
    with mlflow_faults(client.tracking_uri, f"opening experiment {experiment}"):
        return client, _experiment(client, experiment, client.tracking_uri)


def _experiment_name(plan: Plan) -> str:
    """Return the name of the experiment."""
    return plan.tracking.experiment or f"firesteel/{plan.pipeline}"


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


_SUMMED = ("challenger.rows", "challenger.failed", "challenger.left_out")


def _agreement_metrics(agreement: Agreement | None) -> dict[str, float]:
    """Return `challenger.rows`, `.failed`, `.left_out`, `challenger.OUTPUT.correlation` and others."""
    if agreement is None:
        return {}
    metrics: dict[str, float] = dict(zip(_SUMMED, (agreement.rows, agreement.failed, agreement.left_out), strict=True))
    for output in agreement.outputs:
        metric_output = _NO_METRIC.sub("_", output.output)
        for name in ("mean_difference", "max_difference", "correlation", "within", "alike"):
            value = getattr(output, name)
            if value is not None:
                metrics[f"challenger.{metric_output}.{name}"] = value
    return metrics


_NO_METRIC = re.compile(r"[^\w ./:-]")
"""Characters that MLflow does not allow in metric names."""
_COUNTED = ("model_loads", "batches", "largest_batch", "resumed_rows")


def interval_metrics(result: IntervalResult) -> dict[str, float]:
    """Return the metrics of one interval by MLflow name."""
    stages = dict(result.seconds)
    total = sum(stages.values())
    metrics: dict[str, float] = {
        **asdict(result.counts),
        "files": result.files,
        "bytes": result.bytes,
        "seconds": total,
    }
    metrics |= {f"seconds.{stage}": seconds for stage, seconds in stages.items()}
    workers = dict(result.worker_seconds)
    metrics |= {f"worker_seconds.{phase.replace(' ', '_')}": seconds for phase, seconds in workers.items()}
    if workers.get("model"):
        metrics["rows_per_model_second"] = result.counts.scored / workers["model"]
    scoring = dict(result.scoring)
    metrics |= {name: float(str(scoring[name])) for name in _COUNTED if name in scoring}
    if total > 0:
        metrics["rows_per_second"] = result.counts.rows_in / total
    if result.gates:
        verdicts = [verdict for gate in result.gates for verdict in gate.expectations]
        metrics["gates_passed"] = sum(gate.success for gate in result.gates)
        metrics["gates_failed"] = sum(not gate.success for gate in result.gates)
        metrics["expectations_passed"] = sum(verdict.success for verdict in verdicts)
        metrics["expectations_failed"] = sum(not verdict.success for verdict in verdicts)
    return metrics | _drift_metrics(result) | _agreement_metrics(result.agreement)


def _drift_metrics(result: IntervalResult) -> dict[str, float]:
    """Return `drift.GATE.COLUMN.psi` and others for compared columns."""
    metrics: dict[str, float] = {}
    for gate in result.gates:
        for expectation in gate.expectations:
            if (
                expectation.type == DRIFT
                and isinstance(expectation.observed, dict)
                and "rows_was" in expectation.observed
            ):
                column = _NO_METRIC.sub("_", expectation.column)
                for name in ("psi", "null_rate", "mean_shift"):
                    value = expectation.observed.get(name)
                    if isinstance(value, int | float):
                        metrics[f"drift.{gate.gate}.{column}.{name}"] = value
    return metrics


def run_metrics(result: RunResult) -> dict[str, float]:
    """Return the metrics of a run: sums over its intervals, and the numbers of published, skipped and failed intervals.

    Drift metrics are maxima. Agreement metrics combine all intervals.
    """
    metrics: dict[str, float] = {}
    agreements = [interval.agreement for interval in result.intervals if interval.agreement is not None]
    for interval in result.intervals:
        for name, value in interval_metrics(replace(interval, agreement=None)).items():
            is_maximum = name == "largest_batch" or name.startswith("drift.")
            metrics[name] = max(metrics.get(name, 0), value) if is_maximum else metrics.get(name, 0) + value
    metrics |= _agreement_metrics(combine_agreements(agreements))
    if metrics.get("worker_seconds.model"):
        metrics["rows_per_model_second"] = result.counts.scored / metrics["worker_seconds.model"]
    metrics |= asdict(result.counts)
    metrics["seconds"] = result.seconds
    metrics["rows_per_second"] = result.counts.rows_in / result.seconds if result.seconds > 0 else 0.0
    if result.executors:
        metrics |= executor_metrics(result.executors)
    for state in ("published", "audited", "skipped", "failed"):
        metrics[f"intervals_{state}"] = sum(interval.state == state for interval in result.intervals)
    return metrics


def executor_metrics(use: ExecutorUse) -> dict[str, float]:
    """Return the executor metrics. Scaling times are maxima."""
    metrics = {
        "executor_seconds": use.executor_seconds,
        "executors_peak": float(use.peak),
        "executors_lost": float(use.lost),
        "executor_utilisation": use.utilisation,
    }
    if use.scale_out_s:
        metrics["seconds_to_scale_out"] = max(use.scale_out_s)
    if use.scale_in_s:
        metrics["seconds_to_scale_in"] = max(use.scale_in_s)
    return metrics


def _experiment(client: MlflowClient, name: str, uri: str) -> str:
    """Return the experiment's ID. For a SQLite store, artifacts are stored beside the database, not in the working directory."""
    from mlflow.exceptions import MlflowException

    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        folder = database_folder(uri)
        location = (folder / "mlartifacts" / name.strip("/")).as_uri() if folder else None
        artifact_uri = location or (uri if urlsplit(uri).scheme in ("", "file") else "")
        if redact(artifact_uri) != artifact_uri:
            raise RuntimeFault(
                "FS9003",
                f"the artifact path of experiment {name}, which MLflow would store, contains a secret: {redact(artifact_uri)}.",
                hint="Create the experiment with another artifact location, or remove the secret from the path.",
            )
        try:
            return client.create_experiment(name, artifact_location=location, tags=_KIND)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            experiment = client.get_experiment_by_name(name)  # another driver has created it
    if experiment is None or experiment.lifecycle_stage != "active":
        raise RuntimeFault(
            "FS9003",
            f"the MLflow experiment {name} is deleted.",
            hint="Restore the experiment, or set another one in tracking.mlflow.experiment.",
        )
    return experiment.experiment_id


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # containers may run as a user without a name
        return "unknown"
