"""Define a scoring as plain values that travel to the executors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class ModelRef:
    """A distributed model.

    `archive` is a name in `SparkFiles`, or an absolute local folder. `digest` is the SHA-256 of the model's files. `format` is the
    format that the spec trusts this model in: it decides what loads the model. `skops_types` are the types that a skops file may have
    besides those that skops trusts. `requirements` is the policy for packages that differ from those that the model requires.
    """

    name: str
    digest: str
    archive: str
    method: str = "predict"
    format: str = field(kw_only=True)
    skops_types: tuple[str, ...] = ()
    requirements: Literal["enforce", "warn", "ignore"] = "enforce"


@dataclass(frozen=True, slots=True)
class Output:
    """An output column. `type` is a Spark SQL type; `select` is empty for the whole prediction, `[i]` for a column index, or a column name."""

    name: str
    type: str
    select: str = ""


@dataclass(frozen=True, slots=True)
class ErrorBudget:
    """`fail` on the first row that the model fails on, or write up to `max_rows` such rows to dead letters."""

    action: Literal["fail", "dead_letter"] = "fail"
    max_rows: int = 0
    max_fraction: float = 1.0
    retries: int = 0


@dataclass(frozen=True, slots=True)
class Challenger:
    """A second model that scores the same rows for comparison, without effect on the published rows.

    Attributes
    ----------
    model
        The model, or None with a reason in `off`.
    features
        Input columns of the challenger, in the order of its signature.
    feature_names
        The model's names of the features, or empty if they are the same.
    tolerance
        Largest absolute difference of scores that agree.
    publish
        Result columns of the challenger's scores, one per output, or empty.
    off
        Why the challenger does not score, or empty.
    """

    model: ModelRef | None
    features: tuple[str, ...]
    tolerance: float = 0.01
    publish: tuple[Output, ...] = ()
    off: str = ""
    feature_names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ScoreSpec:
    """The definition of a scoring.

    Attributes
    ----------
    features
        Input columns in the order of the model's signature.
    keep
        Input columns that the result keeps.
    outputs
        Result columns of the prediction.
    batch_rows, batch_bytes
        Maximum rows and bytes of a batch.
    threads
        Threads per worker.
    on_error
        Handling of rows that the model fails on.
    backend
        `reference`: the pyfunc. `guarded`: the pyfunc in one process per call. `native`: the model's library without pandas, if the
        results are bit-identical. `compiled`: another library, if the results agree within a tolerance.
    warmup
        Score the model's input example before the first batch.
    timeout_s
        Timeout of one model call in seconds.
    models_in_memory
        Maximum number of models that a worker caches.
    challenger
        A second model for comparison.
    feature_names
        The model's names of the features, or empty if they are the same.
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

    def model_inputs(self, table: pa.Table) -> pa.Table:
        """Return the model's columns of a batch, in its order and with its names."""
        selected = table.select(list(self.features))
        return selected.rename_columns(list(self.feature_names)) if self.feature_names else selected

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the required input columns."""
        challenger_features = self.challenger.features if self.challenger and not self.challenger.off else ()
        return tuple(dict.fromkeys((*self.keep, *self.features, *challenger_features)))

    @property
    def result_columns(self) -> tuple[Output, ...]:
        """Return the result columns without the kept columns."""
        return (*self.outputs, *(self.challenger.publish if self.challenger else ()))
