"""The seam between the service and what moves bytes between nodes.

`tests/contract/test_shuffle_transport.py` holds each transport to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from firesteel.rdma_shuffle.blocks import FileExtent, Found, Missing, Piece, Range


@dataclass(frozen=True, slots=True)
class Renewed:
    """The application lives."""


@dataclass(frozen=True, slots=True)
class Forgotten:
    """A shuffle is needed no more."""

    shuffle: int


@dataclass(frozen=True, slots=True)
class Over:
    """The application is over."""


Notice = Renewed | Forgotten | Over


class Store(Protocol):
    """What a transport serves from. Each call is about one application, and sees nothing of others.

    All raise `ShuffleFault` UNKNOWN_APPLICATION for one that is not here.
    """

    def secret(self, application: str) -> bytes:
        """To check that a peer may speak for it."""
        ...

    def locate(self, application: str, asked: Range) -> Found | Missing: ...

    def piece(self, application: str, piece: Piece) -> FileExtent | None: ...

    def notice(self, application: str, notice: Notice) -> None: ...

    def landing(self, application: str) -> memoryview | None:
        """The memory that most reads of the application go to, whole; None if there is none. Stays until it is over."""
        ...


class Transport(Protocol):
    """Moves blocks from their owners' services to this one.

    All methods raise `ShuffleFault`: UNREACHABLE when the peer cannot be reached or is lost, REFUSED when it is not who
    it should be or does not accept us, UNKNOWN_APPLICATION when it does not know the application. None retries. Times are
    the caller's: every method may be cancelled at any moment, and leaves the transport as good as before.
    """

    @property
    def name(self) -> str: ...

    async def locate(self, owner: str, application: str, ranges: Sequence[Range]) -> tuple[Found | Missing, ...]:
        """Lengths and checksums of ranges of the owner's map outputs, in order; without extents."""
        ...

    async def read(self, owner: str, application: str, pieces: Sequence[Piece], into: memoryview) -> None:
        """Fill `into` with the pieces, one behind the other.

        The fence: when this has returned or raised, also by cancellation, nothing more lands in `into`.

        Raises
        ------
        ShuffleFault
            Also NOT_HERE and MALFORMED. `into` then holds anything.
        """
        ...

    async def tell(self, owner: str, application: str, notice: Notice) -> None:
        """Tell an owner something about the application."""
        ...

    async def close(self) -> None:
        """End all connections. Idempotent."""
        ...
