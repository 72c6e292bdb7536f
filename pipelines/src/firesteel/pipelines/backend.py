"""The interface through which planning uses MLflow, Great Expectations and Spark.

`firesteel.jobs` registers its implementation as the entry point `firesteel.backends: spark`. So this package imports neither Spark
nor MLflow.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any, Protocol

from firesteel.conf.errors import RuntimeFault, Where
from firesteel.pipelines.events import OnEvent, ignore
from firesteel.pipelines.plan.model import ModelPlan, Plan
from firesteel.pipelines.result import RunResult
from firesteel.pipelines.spec.model import Model

GROUP = "firesteel.backends"


class Backend(Protocol):
    """The checks that `validate` and `plan` need in addition to the spec and the storage."""

    def resolve_model(self, name: str, model: Model, tracking_uri: str, where: Where) -> ModelPlan:
        """Return the model with its version, the digest of its files and its signature. Raise FS3xxx if it cannot be pinned."""

    def check_expectation(self, type_: str, kwargs: Mapping[str, object]) -> str | None:
        """Return the error in an expectation's type or arguments, or None. Does not import Great Expectations."""

    def check_failing_rows(self, type_: str, kwargs: Mapping[str, object]) -> str | None:
        """Return the reason why an expectation cannot identify its failing rows, or None."""

    def environment(self) -> str:
        """Return the versions that results depend on, for the plan hash."""


class RunBackend(Backend, Protocol):
    """A backend that also executes plans."""

    def run(
        self,
        plan: Plan,
        *,
        spark: object | None = None,
        run_id: str = "",
        keep_going: bool = False,
        on_event: OnEvent = ignore,
    ) -> RunResult:
        """Execute a plan; see `Pipeline.run`."""

    def frame(
        self, plan: Plan, relation: str, *, sample: float | None = None, spark: object | None = None
    ) -> Any:  # pyspark's DataFrame
        """Return the rows of a source or step for the plan's last interval; see `Pipeline.frame`."""


def default_backend() -> RunBackend:
    """Return the backend that is installed beside this package. FS9004 when there is none."""
    for entry in entry_points(group=GROUP):
        backend: RunBackend = entry.load()()
        return backend
    raise RuntimeFault("FS9004", "no firesteel backend is installed.", hint="pip install firesteel")
