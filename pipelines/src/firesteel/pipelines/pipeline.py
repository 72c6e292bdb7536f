"""`Pipeline`: load, plan and run a spec from Python."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from firesteel.conf.errors import SpecError
from firesteel.pipelines.analysis import Analysis
from firesteel.pipelines.backend import Backend, default_backend
from firesteel.pipelines.events import OnEvent, Progress, ignore, no_progress
from firesteel.pipelines.plan.model import Plan, SinkPlan
from firesteel.pipelines.planner.check import check
from firesteel.pipelines.result import RunResult
from firesteel.pipelines.spec.load import LoadedSpec, load_spec


class Pipeline:
    """A loaded, valid pipeline spec. `Pipeline.load` makes one.

    Attributes
    ----------
    loaded : LoadedSpec
        The spec with its profile and params applied.
    analysis : Analysis
        The relations of the spec with their columns and types.

    Examples
    --------
    >>> pipeline = firesteel.Pipeline.load("pipeline.yaml")
    >>> plan = pipeline.plan("2013-06-01")
    >>> result = pipeline.run(plan, spark=spark)
    >>> result.state, result.counts.scored
    ('published', 60)
    """

    def __init__(self, loaded: LoadedSpec, analysis: Analysis, backend: Backend) -> None:
        self.loaded = loaded
        self.analysis = analysis
        self._backend = backend

    @classmethod
    def load(
        cls,
        path: Path | str,
        *,
        profile: str = "",
        params: Mapping[str, str] | None = None,
        backend: Backend | None = None,
    ) -> Pipeline:
        """Return the pipeline of a spec file. No data is read, and no JVM starts.

        Parameters
        ----------
        path : str or Path
            The YAML file.
        profile : str, optional
            The profile of the spec to apply.
        params : mapping of str to str, optional
            Values of the spec's params, as `--param` of the command line takes them.
        backend : Backend, optional
            What resolves models and checks expectations, for tests. Default: MLflow and Great Expectations.

        Returns
        -------
        Pipeline

        Raises
        ------
        SpecErrors
            All errors of the spec, in the order of the file.

        Examples
        --------
        >>> pipeline = firesteel.Pipeline.load("pipeline.yaml", params={"min_distance": "500"})
        >>> pipeline.name
        'flight_delay_scores'
        """
        loaded = load_spec(path, profile=profile, params=params)
        backend = backend or default_backend()
        return cls(loaded, check(loaded, backend), backend)

    @property
    def name(self) -> str:
        """The name of the pipeline."""
        return self.loaded.spec.name

    @property
    def sinks(self) -> Mapping[str, SinkPlan]:
        """The sinks by name, with path, columns and types, for `firesteel.read`."""
        return {sink.name: sink for sink in self.sketch().sinks}

    def on_master(self, master: str) -> Pipeline:
        """Return the same pipeline for another Spark master, with the resources that fit it. No hash changes.

        Parameters
        ----------
        master : str
            A Spark master: ``local[2]``, ``spark://HOST:PORT``, ``yarn``.

        Returns
        -------
        Pipeline

        Raises
        ------
        SpecErrors
            If the spec asks for something that this master does not support.
        """
        spec = self.loaded.spec
        resources = spec.resources.model_copy(update={"master": master})
        loaded = replace(self.loaded, spec=spec.model_copy(update={"resources": resources}))
        return Pipeline(loaded, check(loaded, self._backend), self._backend)

    def plan(
        self,
        start: str,
        end: str | None = None,
        *,
        force: bool = False,
        wait: bool = False,
        other_python: bool = False,
        on_progress: Progress = no_progress,
    ) -> Plan:
        """Return the plan for the intervals from `start` to `end`, both inclusive. Nothing is written.

        Parameters
        ----------
        start : str
            The first interval, such as ``2013-06-01``.
        end : str, optional
            The last interval. Default: `start`.
        force : bool, optional
            Score intervals again that are already published with the same plan hash.
        wait : bool, optional
            Wait for ready markers, up to each source's `ready.timeout`.
        other_python : bool, optional
            The executors have another Python environment than this process. Their packages, and not those of this process, are compared
            with those that a model requires, when the executors load it.
        on_progress : callable, optional
            Called with a text, the number of finished parts, and the number of all parts.

        Returns
        -------
        Plan

        Raises
        ------
        SpecErrors
            If the data does not fit the spec, or the interval is not valid.
        ModelError
            If a model cannot be pinned.
        InputNotReady
            If a partition is missing.
        StorageError
            If the storage does not answer.

        Examples
        --------
        >>> plan = firesteel.Pipeline.load("pipeline.yaml").plan("2013-06-01", "2013-06-03", force=True)
        >>> [(interval.id, interval.action) for interval in plan.intervals]
        [('2013-06-01', 'score'), ('2013-06-02', 'score'), ('2013-06-03', 'score')]
        """
        from firesteel.pipelines.planner.builder import (  # storage clients: `validate` needs none
            PlanRequest,
            build_plan,
        )

        timeouts = [source.ready.timeout for source in self.loaded.spec.sources.values() if source.ready]
        request = PlanRequest(start, end or start, force, max(timeouts, default=0.0) if wait else 0.0, other_python)
        return build_plan(self.loaded, self.analysis, request, self._backend, on_progress)

    def sketch(self) -> Plan:
        """Return what the spec alone says: a plan without intervals and pinned models, to draw or compare."""
        from firesteel.pipelines.planner.builder import sketch

        return sketch(self.loaded, self.analysis, self._backend)

    @staticmethod
    def run(
        plan: Plan,
        *,
        spark: object | None = None,
        run_id: str = "",
        keep_going: bool = False,
        on_event: OnEvent = ignore,
    ) -> RunResult:
        """Execute a plan: score, check and publish each of its intervals. `run`, `backfill` and `apply` call this.

        A plan is complete without its spec: ``Pipeline.run(Plan.from_json(text))`` runs one from a file.

        Parameters
        ----------
        plan : Plan
            The plan, of this or any other pipeline.
        spark : SparkSession, optional
            A session to use. It is left as it was. Default: Spark is started, and stopped at the end.
        run_id : str, optional
            The run's id, which no other run may have. Default: a new one.
        keep_going : bool, optional
            Go on with the other intervals after one has failed. The result has the first failure.
        on_event : callable, optional
            Called with each `firesteel.pipelines.events.Event` of the run.

        Returns
        -------
        RunResult
            One result for each interval. Failures of intervals are in it and not raised: look at `state` and `exit_code`.

        Raises
        ------
        FiresteelError
            What stops a run before its first interval: PlanDrift (the plan is of another version of firesteel, or its model has
            changed), ModelError, NotAllowed (a policy refuses it), RuntimeFault (Spark or MLflow cannot be reached).

        Examples
        --------
        >>> pipeline = firesteel.Pipeline.load("pipeline.yaml")
        >>> result = firesteel.Pipeline.run(pipeline.plan("2013-06-01", "2013-06-02"), spark=spark, keep_going=True)
        >>> [(interval.interval, interval.state) for interval in result.intervals]
        [('2013-06-01', 'skipped'), ('2013-06-02', 'published')]
        """
        return default_backend().run(plan, spark=spark, run_id=run_id, keep_going=keep_going, on_event=on_event)

    def frame(self, step: str, interval: str, *, sample: float | None = None, spark: object | None = None) -> Any:
        """Return the rows of a step or source for one interval, for a notebook. Nothing is published.

        The rows are computed by the same SQL and the same operator as in a run. Gates are not evaluated: rows that a gate would
        quarantine or drop are there. Rows that the model fails on are missing, or fail the job, as `on_error` of the step says.

        Parameters
        ----------
        step : str
            The name of a step or source of the spec.
        interval : str
            The interval, such as ``2013-06-01``.
        sample : float, optional
            The fraction of rows to take, more than 0 and at most 1: of the rows that the model scores where `step` needs scores, and
            else of the step's own rows. Default: all rows.
        spark : SparkSession, optional
            The session to use. Default: the active session, or a new one, which stays open.

        Returns
        -------
        pyspark.sql.DataFrame
            The rows with the step's columns, in no particular order. It is lazy: each action computes it again.

        Raises
        ------
        SpecError
            FS1010 if the spec has no such step or source; FS1004 if `sample` is not a fraction; FS1014 if the interval is not valid.
        ModelError, InputNotReady, StorageError
            As `plan`.

        Examples
        --------
        >>> pipeline = firesteel.Pipeline.load("pipeline.yaml")
        >>> features = pipeline.frame("features", "2013-06-01", spark=spark)
        >>> features.count()
        60
        >>> pipeline.frame("scored", "2013-06-01", sample=0.5, spark=spark).columns
        ['flight_id', 'dt', 'origin', 'p_delay']
        """
        if sample is not None and not 0 < sample <= 1:
            raise SpecError(
                "FS1004", f"sample is {sample}; it must be more than 0 and at most 1.", hint="Write 0.01 for 1%."
            )
        return default_backend().frame(self.plan(interval, force=True), step, sample=sample, spark=spark)
