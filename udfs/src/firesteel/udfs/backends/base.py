"""Define the interface of inference backends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import pyarrow as pa

    from firesteel.udfs.backends.matrix import Layout

REFERENCE = "pyfunc"


class InferenceBackend(Protocol):
    """One way to compute a model. `encode` and `predict` are separate to measure conversion and prediction separately.

    `tolerance` is the largest allowed difference from the reference, absolute or relative, whichever is larger. 0 requires identical
    bits.
    """

    @property
    def name(self) -> str:
        """Return the name for reports."""

    @property
    def tolerance(self) -> float:
        """Return the largest allowed difference from the reference."""

    def encode(self, table: pa.Table) -> Any | None:
        """Return the rows in the model's input format, or None if these rows need the reference."""

    def predict(self, batch: Any) -> Any | None:
        """Return the same prediction as the reference, or None if these rows need the reference."""


@dataclass(frozen=True, slots=True)
class NativeModel:
    """A loaded MLflow model, as input for the backends.

    Attributes
    ----------
    flavor
        The native model behind the pyfunc (`get_raw_model`).
    method
        The method of `flavor` to call.
    layout
        The columns in the order in which the reference passes them to `flavor`, or None with `no_layout_reason`.
    threads
        Threads per worker.
    scratch
        Local folder for compiled models.
    digest
        SHA-256 of the model.
    """

    flavor: Any
    method: str
    layout: Layout | None
    no_layout_reason: str
    threads: int
    scratch: str
    digest: str


@dataclass(frozen=True, slots=True)
class Choice:
    """The backend that a worker chose, the reason, the compared rows and the largest difference from the reference."""

    backend: str
    reason: str
    checked_rows: int = 0
    largest_difference: float = 0.0
