"""What the compiler asks of the world above it: models, expectations, and the running of plans.

`firesteel.jobs` registers its implementation as the entry point `firesteel.backends: spark`. That keeps imports
pointing down, and importing this package free of Spark and MLflow.
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
    """What `validate` and `plan` need beyond the spec and the storage."""

    def resolve_model(self, name: str, model: Model, tracking_uri: str, where: Where) -> ModelPlan:
        """Pin a model: alias -> version, digest of its bytes, signature. FS3xxx when that cannot be."""

    def check_expectation(self, type_: str, kwargs: Mapping[str, object]) -> str | None:
        """What is wrong with an expectation's type or arguments, or None. Fast: no Great Expectations import."""

    def check_failing_rows(self, type_: str, kwargs: Mapping[str, object]) -> str | None:
        """Why the rows that fail an expectation cannot be told from the others, or None."""

    def environment(self) -> str:
        """The versions that results depend on, for the plan hash."""


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
        """Return the rows of a source or step for the plan's only interval; see `Pipeline.frame`."""


def default_backend() -> RunBackend:
    """Return the backend that is installed beside this package. FS9004 when there is none."""
    for entry in entry_points(group=GROUP):
        backend: RunBackend = entry.load()()
        return backend
    raise RuntimeFault("FS9004", "no firesteel backend is installed.", hint="pip install firesteel")
