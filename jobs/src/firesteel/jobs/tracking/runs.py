"""One MLflow run per pipeline run, a child per interval: what was asked, what came out, from what, by which model.

::

    open ---> RUNNING --finish(published | skipped)--> FINISHED
                 |------finish(failed), exception----> FAILED
                 |------exit code 130, Ctrl-C--------> KILLED
                 `------(process died)---------------> FAILED, by the next start (dead.py)

A tracking server that cannot be reached stops a run before anything is written (FS9003 from `open`), unless the spec says
`required: false`. One that goes away later does not: data that is published stays published. What could not be recorded is
logged once and kept in `problems`; the record as a whole goes to the storage then, and to MLflow later (spool.py).
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
_KIND = {"mlflow.experimentKind": "custom_model_development"}
"""MLflow's page shows experiments of this kind as runs with metrics, and else may take them for conversations."""
_TAG_LIMIT = 5000
_PARAM_LIMIT = 6000
_CANCELLED = 130


class RunTracker:
    """The MLflow record of one run. A context manager: leaving it by an exception ends the run FAILED or KILLED.

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
        """Start the parent run, and mark runs of this pipeline failed that died before.

        Parameters
        ----------
        tracking_uri, experiment
            By default the plan's; without one, MLflow's own default and `firesteel/PIPELINE`.
        params
            Values of the spec's params, recorded as `param.NAME`.

        Raises
        ------
        RuntimeFault
            FS9003 when MLflow is required and cannot be reached or refuses: before anything is read or written.
        """
        uri = plan.tracking.uri if tracking_uri is None else tracking_uri
        try:
            name = experiment or _name(plan)
            client, experiment_id = _reach(uri, name)
            tracker = cls(client, client.tracking_uri, plan, run_id, experiment_id)
            tracker._begin(name, params or {})
        except RuntimeFault as fault:
            if plan.tracking.required:
                raise
            tracker = cls(cast("MlflowClient", _Away(str(fault))), uri, plan, run_id, "")
            tracker._remember(str(fault))
        return tracker

    @classmethod
    def again(cls, plan: Plan, result: RunResult) -> Self:
        """Record a run that has ended, as far as MLflow does not have it. What it refuses is in `problems`.

        Raises
        ------
        RuntimeFault
            FS9003 when MLflow cannot be reached.
        """
        client, experiment_id = _reach(plan.tracking.uri, _name(plan))
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
            if not self._found():
                self._start({})
            for each in result.intervals:
                if each.interval not in self._children and each.state != "skipped":
                    self.interval_started(each.interval)
                self.interval_finished(each)
            if not result.error:  # whoever started next may have taken it for dead
                self._client.set_tag(self._run_id, ERROR, "")
            self.finish(result)

    def _found(self) -> bool:
        """Take up the run, and the children, that MLflow has already."""
        for run in self._client.search_runs([self._experiment_id], f"tags.`{RUN_ID}` = '{self._firesteel_run_id}'"):
            interval = run.data.tags.get(INTERVAL)
            if interval is None:
                self._run_id = run.info.run_id
            else:
                self._children[interval] = run.info.run_id
        return bool(self._run_id)

    @property
    def run_id(self) -> str:
        """MLflow's id of the parent run."""
        return self._run_id

    @property
    def tracking_uri(self) -> str:
        """The tracking server or store, without what is secret in its URI."""
        return without_secrets(self._tracking_uri)

    @property
    def url(self) -> str:
        """Where the run is seen: a link for a server, the database for a local store; nothing when MLflow has no run."""
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
        """Record what became of an interval and end its run. A skipped one that was never started has none."""
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
        """The result with the id and the place of this run in it: what the report shows."""
        return replace(result, mlflow_run_id=self.run_id, mlflow_uri=self.url)

    def finish(self, result: RunResult, report: Path | str = "") -> RunResult:
        """Record the whole run, its result and its report, and end it. Returns the stamped result."""
        from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE

        result = self.stamp(result)
        report = Path(report or result.report)
        partitions = tuple(partition for each in result.intervals for partition in each.partitions)
        with self._recording("recording the result"):
            self._log(self._run_id, metrics=run_metrics(result))
            self._client.log_text(self._run_id, result.to_json() + "\n", "result.json")
            if partitions:
                self._client.set_tag(self._run_id, PUBLISHED, self._published(partitions))
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
        """Links to the registered versions: the model's page shows the runs that scored with it."""
        from mlflow.entities import LoggedModelInput

        found = []
        for model in self._plan.models:
            name, _, version = model.resolved_uri.removeprefix("models:/").partition("/")
            if not model.resolved_uri.startswith("models:/"):
                continue
            # A link for readers: a registry that lost the version since it was pinned, or is another server's, stops nothing.
            try:
                with mlflow_faults(self._tracking_uri, f"linking {model.resolved_uri}"):
                    source = self._client.get_model_version(name, version).source or ""
            except RuntimeFault as fault:
                _LOG.warning("the MLflow run has no link to its model: %s", fault)
                continue
            if source.startswith("models:/m-"):
                found.append(LoggedModelInput(source.removeprefix("models:/")))
        return found

    def _interval(self, interval: str) -> IntervalPlan | None:
        return next((each for each in self._plan.intervals if each.id == interval), None)

    def _published(self, partitions: tuple[str, ...]) -> str:
        """Sinks' paths and the partitions below them: searching runs for a path finds who wrote it."""
        places = " ".join(sink.path for sink in self._plan.sinks)
        return f"{places}: {' '.join(partitions)}"[:_TAG_LIMIT]

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
        return _Recording(self._tracking_uri, doing, self._remember)

    def _remember(self, problem: str) -> None:
        if not self.problems:
            _LOG.warning("the run goes on without all of its MLflow record: %s", problem)
        self.problems.append(problem)


def _note(result: RunResult, plan: Plan) -> str:
    """The run's description, in Markdown: what whoever opens its page wants to know first."""
    counts = result.counts
    places = ", ".join(f"`{sink.path}`" for sink in plan.sinks)
    done = [each for each in result.intervals if each.state == "published"]
    verdict = f"**{result.state.capitalize()}**" + (f": {result.error}" if result.error else "")
    lines = [verdict]
    if done:
        partitions = sum(len(each.partitions) for each in done)
        lines.append(
            f"{len(done)} of {len(result.intervals)} intervals, {partitions} partitions published to {places}."
        )
    lines.append(
        f"{counts.rows_in:,} rows in = {counts.scored:,} scored + {counts.dead_letter:,} dead letter "
        f"+ {counts.quarantined:,} quarantined + {counts.dropped:,} dropped."
    )
    lines.append(
        "Under Artifacts: `report.html` has gates, times and executors; `plan.json` says why, `spec.yaml` what."
    )
    return "\n\n".join(lines)


def _reach(uri: str, experiment: str) -> tuple[MlflowClient, str]:
    """A client, and the id of the experiment."""
    client = connect(uri)
    with mlflow_faults(client.tracking_uri, f"opening experiment {experiment}"):
        return client, _experiment(client, experiment, client.tracking_uri)


def _name(plan: Plan) -> str:
    """The experiment."""
    return plan.tracking.experiment or f"firesteel/{plan.pipeline}"


class _Away:
    """In the place of a client for an MLflow that could not be reached when the run began: nothing is tried again."""

    def __init__(self, why: str) -> None:
        self._why = why

    def __getattr__(self, name: str) -> object:
        from mlflow.exceptions import MlflowException

        raise MlflowException(self._why)


class _Recording:
    """Remember what MLflow refuses while a run is under way: a record is not worth a day's scores."""

    def __init__(self, tracking_uri: str, doing: str, remember: Callable[[str], None]) -> None:
        self._faults = mlflow_faults(tracking_uri, doing)
        self._remember = remember

    def __enter__(self) -> None:
        self._faults.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        try:
            self._faults.__exit__(kind, error, trace)
        except RuntimeFault as fault:
            self._remember(str(fault))
            return True
        return False


_SUMMED = ("challenger.rows", "challenger.failed", "challenger.left_out")


def _agreement_metrics(agreement: Agreement | None) -> dict[str, float]:
    """`challenger.rows`, `.failed`, `.left_out`, and `challenger.OUTPUT.correlation` and others."""
    if agreement is None:
        return {}
    found: dict[str, float] = dict(zip(_SUMMED, (agreement.rows, agreement.failed, agreement.left_out), strict=True))
    for each in agreement.outputs:
        output = _NO_METRIC.sub("_", each.output)
        for name in ("mean_difference", "max_difference", "correlation", "within", "alike"):
            value = getattr(each, name)
            if value is not None:
                found[f"challenger.{output}.{name}"] = value
    return found


_NO_METRIC = re.compile(r"[^\w ./:-]")
"""What MLflow takes in no name."""
_COUNTED = ("model_loads", "batches", "largest_batch", "resumed_rows")


def interval_metrics(result: IntervalResult) -> dict[str, float]:
    """The numbers of one interval, by MLflow metric name."""
    stages = dict(result.seconds)
    total = sum(stages.values())
    found: dict[str, float] = {**asdict(result.counts), "files": result.files, "bytes": result.bytes, "seconds": total}
    found |= {f"seconds.{stage}": seconds for stage, seconds in stages.items()}
    workers = dict(result.worker_seconds)
    found |= {f"worker_seconds.{phase.replace(' ', '_')}": seconds for phase, seconds in workers.items()}
    if workers.get("model"):
        found["rows_per_model_second"] = result.counts.scored / workers["model"]
    scoring = dict(result.scoring)
    found |= {name: float(str(scoring[name])) for name in _COUNTED if name in scoring}
    if total > 0:
        found["rows_per_second"] = result.counts.rows_in / total
    if result.gates:
        verdicts = [each for gate in result.gates for each in gate.expectations]
        found["gates_passed"] = sum(gate.success for gate in result.gates)
        found["gates_failed"] = sum(not gate.success for gate in result.gates)
        found["expectations_passed"] = sum(each.success for each in verdicts)
        found["expectations_failed"] = sum(not each.success for each in verdicts)
    return found | _drift_metrics(result) | _agreement_metrics(result.agreement)


def _drift_metrics(result: IntervalResult) -> dict[str, float]:
    """`drift.GATE.COLUMN.psi` and others, for what was compared."""
    found: dict[str, float] = {}
    for gate in result.gates:
        for each in gate.expectations:
            if each.type == DRIFT and isinstance(each.observed, dict) and "rows_was" in each.observed:
                column = _NO_METRIC.sub("_", each.column)
                for name in ("psi", "null_rate", "mean_shift"):
                    value = each.observed.get(name)
                    if isinstance(value, int | float):
                        found[f"drift.{gate.gate}.{column}.{name}"] = value
    return found


def run_metrics(result: RunResult) -> dict[str, float]:
    """The numbers of a run: sums over its intervals, and how many of them were published, skipped and failed.

    Of drift the largest, of a challenger the agreement over all intervals.
    """
    found: dict[str, float] = {}
    agreements = [each.agreement for each in result.intervals if each.agreement is not None]
    for interval in result.intervals:
        for name, value in interval_metrics(replace(interval, agreement=None)).items():
            largest = name == "largest_batch" or name.startswith("drift.")
            found[name] = max(found.get(name, 0), value) if largest else found.get(name, 0) + value
    found |= _agreement_metrics(combine_agreements(agreements))
    if found.get("worker_seconds.model"):
        found["rows_per_model_second"] = result.counts.scored / found["worker_seconds.model"]
    found |= asdict(result.counts)
    found["seconds"] = result.seconds
    found["rows_per_second"] = result.counts.rows_in / result.seconds if result.seconds > 0 else 0.0
    if result.executors:
        found |= executor_metrics(result.executors)
    for state in ("published", "skipped", "failed"):
        found[f"intervals_{state}"] = sum(interval.state == state for interval in result.intervals)
    return found


def executor_metrics(use: ExecutorUse) -> dict[str, float]:
    """What a run had of executors; times that are long are bad, so that the longest counts."""
    found = {
        "executor_seconds": use.executor_seconds,
        "executors_peak": float(use.peak),
        "executors_lost": float(use.lost),
        "executor_utilisation": use.utilisation,
    }
    if use.scale_out_s:
        found["seconds_to_scale_out"] = max(use.scale_out_s)
    if use.scale_in_s:
        found["seconds_to_scale_in"] = max(use.scale_in_s)
    return found


def _experiment(client: MlflowClient, name: str, uri: str) -> str:
    """The experiment's id. Beside a SQLite store its artefacts go, too: never into the working directory."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        folder = database_folder(uri)
        location = (folder / "mlartifacts" / name.strip("/")).as_uri() if folder else None
        place = location or (uri if urlsplit(uri).scheme in ("", "file") else "")
        if redact(place) != place:
            raise RuntimeFault(
                "FS9003",
                f"MLflow would record the place of experiment {name}, and its path holds a secret: {redact(place)}.",
                hint="Create the experiment with an artifact location of its own, or keep the secret out of the folder.",
            )
        try:
            return client.create_experiment(name, artifact_location=location, tags=_KIND)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            found = client.get_experiment_by_name(name)  # another driver was faster
    if found is None or found.lifecycle_stage != "active":
        raise RuntimeFault(
            "FS9003",
            f"MLflow experiment {name} is deleted.",
            hint="Restore it, or name another under tracking.mlflow.experiment.",
        )
    return found.experiment_id


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # containers run as users without a name
        return "unknown"
