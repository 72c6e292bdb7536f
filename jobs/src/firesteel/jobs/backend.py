"""The backend on MLflow, Great Expectations and Spark, which `firesteel.pipelines` finds by its entry point."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING

from firesteel.conf.redaction import scrubbed
from firesteel.conf.version import FRAMEWORK
from firesteel.pipelines.events import OnEvent, ignore

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from firesteel.conf.errors import Where
    from firesteel.pipelines.plan.model import ModelPlan, Plan
    from firesteel.pipelines.result import RunResult
    from firesteel.pipelines.spec.model import Model


class SparkBackend:
    """See `firesteel.pipelines.backend.RunBackend`."""

    @scrubbed
    def resolve_model(self, name: str, model: Model, tracking_uri: str, where: Where) -> ModelPlan:
        """Pin a model by MLflow's registry."""
        from firesteel.jobs.tracking.registry import resolve_model

        resolved = resolve_model(
            name,
            model.uri,
            method=model.method,
            trust_formats=model.trust.formats,
            skops_types=model.trust.skops_types,
            max_size=model.trust.max_size,
            requirements=model.requirements,
            tracking_uri=tracking_uri,
            where=where,
        )
        return resolved.plan

    def check_expectation(self, type_: str, kwargs: Mapping[str, object]) -> str | None:
        """Check an expectation against the generated table of Great Expectations' types."""
        from firesteel.jobs.gates.check import check_kwargs

        return check_kwargs(type_, kwargs)

    def check_failing_rows(self, type_: str, kwargs: Mapping[str, object]) -> str | None:
        """Accept only expectations that compile to a condition on a row."""
        from firesteel.jobs.gates.check import check_failing_rows

        return check_failing_rows(type_, kwargs)

    def environment(self) -> str:
        """Return major and minor versions: a patch release does not score published intervals again."""
        python = f"{sys.version_info.major}.{sys.version_info.minor}"
        packages = ", ".join(f"{name} {_minor(version(name))}" for name in ("pyspark", "mlflow"))
        return f"{FRAMEWORK}, python {python}, {packages}"

    def run(
        self,
        plan: Plan,
        *,
        spark: object | None = None,
        run_id: str = "",
        keep_going: bool = False,
        on_event: OnEvent = ignore,
    ) -> RunResult:
        """Run on Spark."""
        from firesteel.jobs.run.plan_runner import run_plan

        return run_plan(plan, spark=spark, run_id=run_id, keep_going=keep_going, on_event=on_event)  # type: ignore[arg-type]

    @scrubbed
    def frame(
        self, plan: Plan, relation: str, *, sample: float | None = None, spark: object | None = None
    ) -> DataFrame:
        """Preview a relation in a session that stays open: the caller's, the active one, or a new one."""
        from pyspark.sql import SparkSession

        from firesteel.jobs.preview.relation import preview
        from firesteel.jobs.spark.session import open_session, start_session

        root = spark or SparkSession.getActiveSession() or start_session(plan)
        with open_session(plan, root) as session:  # type: ignore[arg-type]
            return preview(session, plan, relation, sample).frame


def _minor(text: str) -> str:
    return ".".join(text.split(".")[:2])
