"""`Pipeline`: load a spec, plan it, run it. The Python face of the command line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from firesteel.pipelines.analysis import Logical
from firesteel.pipelines.backend import Backend, default_backend
from firesteel.pipelines.events import OnEvent, Progress, ignore, no_progress
from firesteel.pipelines.plan.model import Plan
from firesteel.pipelines.planner.check import check
from firesteel.pipelines.result import RunResult
from firesteel.pipelines.spec.load import LoadedSpec, load_spec


class Pipeline:
    """A loaded, valid pipeline spec.

    Examples
    --------
    >>> pipeline = Pipeline.load("pipeline.yaml", params={"root": "hdfs://nn:8020/ml"})  # doctest: +SKIP
    >>> plan = pipeline.plan("2013-06-01", "2013-06-07")  # doctest: +SKIP
    >>> pipeline.run(plan).counts.scored  # doctest: +SKIP
    6528
    """

    def __init__(self, loaded: LoadedSpec, logical: Logical, backend: Backend) -> None:
        self.loaded = loaded
        self.logical = logical
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
        """Read and check a spec.

        Raises
        ------
        SpecErrors
            Everything that is wrong with it.
        """
        loaded = load_spec(path, profile=profile, params=params)
        backend = backend or default_backend()
        return cls(loaded, check(loaded, backend), backend)

    @property
    def name(self) -> str:
        """The pipeline's name."""
        return self.loaded.spec.name

    def on_master(self, master: str) -> Pipeline:
        """The same pipeline for another Spark master: what it asks for follows from where it runs. No hash changes.

        Raises
        ------
        SpecErrors
            What that master cannot do.
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
        on_progress: Progress = no_progress,
    ) -> Plan:
        """Compile for the intervals from `start` to `end`, both included.

        Parameters
        ----------
        force
            Plan intervals that are already published with the same plan hash, too.
        wait
            Wait for ready markers up to each source's `ready.timeout`.

        Raises
        ------
        SpecErrors, ModelError, InputNotReady, StorageError
        """
        from firesteel.pipelines.planner.builder import (  # storage clients: `validate` needs none
            PlanRequest,
            build_plan,
        )

        timeouts = [source.ready.timeout for source in self.loaded.spec.sources.values() if source.ready]
        request = PlanRequest(start, end or start, force, max(timeouts, default=0.0) if wait else 0.0)
        return build_plan(self.loaded, self.logical, request, self._backend, on_progress)

    def sketch(self) -> Plan:
        """What can be said without models and data, to be drawn or compared: a plan without intervals."""
        from firesteel.pipelines.planner.builder import sketch

        return sketch(self.loaded, self.logical, self._backend)

    def run(self, plan: Plan, *, spark: object | None = None, on_event: OnEvent = ignore) -> RunResult:
        """Execute a plan of this pipeline; a SparkSession of yours is used and left as it was."""
        return self._backend.run(plan, spark=spark, on_event=on_event)
