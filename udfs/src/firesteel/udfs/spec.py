"""What to score with, and how: plain values that travel to the executors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class ModelRef:
    """A model as the executors find it.

    `archive` is a name under `SparkFiles`, or an absolute local folder; `digest` what its bytes must hash to.
    """

    name: str
    digest: str
    archive: str
    method: str = "predict"


@dataclass(frozen=True, slots=True)
class Output:
    """An output column. `type` is a Spark SQL type; `select` is "" for the whole prediction, `[i]`, or a column's name."""

    name: str
    type: str
    select: str = ""


@dataclass(frozen=True, slots=True)
class ErrorBudget:
    """`fail` on the first row that cannot be scored, or put up to `max_rows` of them aside as dead letters."""

    action: Literal["fail", "dead_letter"] = "fail"
    max_rows: int = 0
    max_fraction: float = 1.0
    retries: int = 0


@dataclass(frozen=True, slots=True)
class Challenger:
    """A second model over the same rows: how far it agrees with the first is counted, and what it does harms no row.

    Attributes
    ----------
    model
        None where there is none to be scored: `off` says why.
    features
        Its own columns of the input, in the order of its signature.
    feature_names
        The model's name of each feature; empty where they are the same.
    tolerance
        Largest absolute difference of two numbers that agree.
    publish
        Columns of its scores in the result, one for each output; none for none.
    off
        Why it is not scored, if so.
    """

    model: ModelRef | None
    features: tuple[str, ...]
    tolerance: float = 0.01
    publish: tuple[Output, ...] = ()
    off: str = ""
    feature_names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ScoreSpec:
    """A whole scoring: batches end at `batch_rows` or `batch_bytes`, whichever comes first; `threads` per worker.

    `features` are columns of the input in the order in which the model takes them; `feature_names` what the model calls them,
    where that differs.

    `backends` says how the model may be computed: `reference` by its pyfunc alone, `guarded` the same in a process for each call,
    `native` by the same library without
    pandas where that gives the same bits, `compiled` by another one where that agrees within a tolerance. `warmup` scores the
    model's input example before the first batch; `timeout_s` is for one call of the model; `models_in_memory` are kept by a
    worker.
    """

    model: ModelRef
    features: tuple[str, ...]
    keep: tuple[str, ...]
    outputs: tuple[Output, ...]
    batch_rows: int = 8192
    batch_bytes: int = 32 << 20
    threads: int = 1
    on_error: ErrorBudget = ErrorBudget()
    backend: Literal["reference", "guarded", "native", "compiled"] = "reference"
    warmup: bool = False
    timeout_s: float | None = None
    models_in_memory: int = 1
    challenger: Challenger | None = None
    feature_names: tuple[str, ...] = ()

    def of_model(self, table: pa.Table) -> pa.Table:
        """The model's columns of a batch, in its order and under its names."""
        selected = table.select(list(self.features))
        return selected.rename_columns(list(self.feature_names)) if self.feature_names else selected

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the input that are needed."""
        more = self.challenger.features if self.challenger and not self.challenger.off else ()
        return tuple(dict.fromkeys((*self.keep, *self.features, *more)))

    @property
    def made(self) -> tuple[Output, ...]:
        """The columns that come out beside those that are kept."""
        return (*self.outputs, *(self.challenger.publish if self.challenger else ()))
