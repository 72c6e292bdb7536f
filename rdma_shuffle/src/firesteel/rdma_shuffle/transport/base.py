"""The interface between the service and its transports.

`tests/contract/test_shuffle_transport.py` checks each transport against it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from firesteel.rdma_shuffle.wire.blocks import FileExtent, Found, Missing, Piece, Range


@dataclass(frozen=True, slots=True)
class LeaseRenewed:
    """The application is alive: renew its lease."""


@dataclass(frozen=True, slots=True)
class ShuffleRemoved:
    """A shuffle was removed: delete its outputs."""

    shuffle: int


@dataclass(frozen=True, slots=True)
class ApplicationEnded:
    """The application has ended: delete all its data."""


Notice = LeaseRenewed | ShuffleRemoved | ApplicationEnded


class Store(Protocol):
    """The data that a transport serves. Each call is limited to one application.

    All methods raise `ShuffleFault` UNKNOWN_APPLICATION for an unknown application.
    """

    def secret(self, application: str) -> bytes:
        """Return the secret that authenticates peers for the application."""
        ...

    def locate(self, application: str, block_range: Range) -> Found | Missing: ...

    def piece(self, application: str, piece: Piece) -> FileExtent | None: ...

    def notice(self, application: str, notice: Notice) -> None: ...

    def slab_view(self, application: str) -> memoryview | None:
        """Return the whole slab of the application, or None without one. It stays valid until the application ends."""
        ...


class Transport(Protocol):
    """Moves blocks from the services of their owners to this one.

    All methods raise `ShuffleFault`: UNREACHABLE if the peer cannot be reached or is lost, REFUSED if it is another node
    or refuses us, UNKNOWN_APPLICATION if it does not know the application. No method retries. The caller sets the
    deadline: it may cancel any method at any time, and the transport stays usable.
    """

    @property
    def name(self) -> str: ...

    async def locate(self, owner: str, application: str, ranges: Sequence[Range]) -> tuple[Found | Missing, ...]:
        """Return the lengths and checksums of ranges of the owner's map outputs, in order and without extents."""
        ...

    async def read(self, owner: str, application: str, pieces: Sequence[Piece], into: memoryview) -> None:
        """Read the pieces into `into`, one after the other.

        The fence: after this has returned, raised or been cancelled, nothing is written into `into` any more.

        Raises
        ------
        ShuffleFault
            Also NOT_HERE and MALFORMED. The content of `into` is then undefined.
        """
        ...

    async def notify(self, owner: str, application: str, notice: Notice) -> None:
        """Send a notice about the application to an owner."""
        ...

    async def close(self) -> None:
        """Close all connections. Idempotent."""
        ...
