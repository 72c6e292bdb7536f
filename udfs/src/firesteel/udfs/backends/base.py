"""What a backend of a model is, and what was chosen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import pyarrow as pa

    from firesteel.udfs.backends.matrix import Layout

REFERENCE = "pyfunc"


class InferenceBackend(Protocol):
    """One way to compute a model. `encode` and `predict` are apart, so that conversion and model are timed apart.

    `tolerance` is how far its numbers may be from the reference's, absolute or relative, whichever is larger; 0 says
    that they must be the same bits.
    """

    @property
    def name(self) -> str:
        """The name for reports."""

    @property
    def tolerance(self) -> float:
        """See the class."""

    def encode(self, table: pa.Table) -> Any | None:
        """The rows as the model takes them. None when these rows need the reference."""

    def predict(self, batch: Any) -> Any | None:
        """What the reference would return for these rows. None when they need the reference after all."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A loaded MLflow model as the backends see it.

    `flavor` is the model's own object behind the pyfunc (`get_raw_model`); `features` are the columns in the order in which
    the reference gives them to that object.
    """

    flavor: Any
    method: str
    layout: Layout | None
    why_no_layout: str
    threads: int
    scratch: str
    digest: str


@dataclass(frozen=True, slots=True)
class Choice:
    """Which backend a worker chose, why, on how many rows it was held against the reference, and how far apart they were."""

    backend: str
    reason: str
    checked_rows: int = 0
    largest_difference: float = 0.0
