"""The applications on this node: their secrets, outputs, memory and leases. What transports serve from (`Store`)."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from firesteel.rdma_shuffle import proof
from firesteel.rdma_shuffle.blocks import FileExtent, Found, Missing, Piece, Range
from firesteel.rdma_shuffle.catalogue import SERVICE, Catalogue, applications
from firesteel.rdma_shuffle.fault import Reason, ShuffleFault, malformed
from firesteel.rdma_shuffle.holders import Holders
from firesteel.rdma_shuffle.memory import Memory
from firesteel.rdma_shuffle.messages import MAX_NAME, SECRET_BYTES
from firesteel.rdma_shuffle.metrics import Metrics
from firesteel.rdma_shuffle.settings import Settings
from firesteel.rdma_shuffle.slab import Slab
from firesteel.rdma_shuffle.transport.base import Forgotten, Notice, Over

_LOG = logging.getLogger(__name__)
_NAME = re.compile(rf"[A-Za-z0-9_-][A-Za-z0-9._-]{{0,{MAX_NAME - 1}}}")
_MODE = 0o600


class Connection(Protocol):
    """A client's connection, as far as its application goes."""

    def part(self) -> None:
        """End after the current answers."""
        ...


class Application:
    """One application on this node."""

    def __init__(
        self, name: str, secret: bytes, settings: Settings, metrics: Metrics, discard: Callable[[Path], None]
    ) -> None:
        self.name = name
        self.secret = secret
        self.catalogue = Catalogue(settings.folders, name, discard)
        self.memory = Memory(
            None, self.catalogue.spool, wait_s=settings.slab_wait_s, spool_limit=settings.limits.spool_bytes
        )
        self.holders = Holders(lambda: metrics.add("holders_died"))
        self.connections: set[Connection] = set()
        self.heard = time.monotonic()
        self.slab_decided = False

    @property
    def slab_bytes(self) -> int:
        return self.memory.slab.name.size if self.memory.slab else 0

    def end(self) -> None:
        """Delete all of it on this node."""
        self.holders.close()
        self.memory.close()
        self.catalogue.destroy()

    def stop(self) -> None:
        """The service stops: shared memory goes, outputs stay for the next life."""
        self.holders.close()
        self.memory.close()
        self.catalogue.close()


class Applications:
    """All of them. A `Store`.

    `ending` is called with the name of an application before its memory goes; `otherwise_pinned` says what others have pinned.
    """

    def __init__(self, settings: Settings, metrics: Metrics, discard: Callable[[Path], None]) -> None:
        self._settings, self._metrics, self._discard = settings, metrics, discard
        self._all: dict[str, Application] = {}
        self._slabs = 0
        self.ending: Callable[[str], None] = lambda _name: None
        self.otherwise_pinned: Callable[[], int] = lambda: 0

    @property
    def all(self) -> list[Application]:
        return list(self._all.values())

    # -- coming and going ----------------------------------------------------------------------------------------

    def claim(self, name: str, secret: bytes) -> None:
        """Set an application's secret; the first who claims it decides."""
        if not _NAME.fullmatch(name):
            raise malformed("an application's name has letters, digits, `.`, `_` and `-`, and begins with no dot")
        known = self._all.get(name)
        if known:
            if not proof.same(known.secret, secret):
                raise ShuffleFault(Reason.REFUSED, f"{name} was claimed with another secret")
            return
        if len(self._all) >= self._settings.limits.applications:
            raise ShuffleFault(Reason.NO_SPACE, f"there are {len(self._all)} applications, the most that are allowed")
        application = None
        try:
            application = self._new(name, secret)
            self._keep(application)
        except OSError as error:
            if application:
                application.end()
            raise ShuffleFault(Reason.NO_SPACE, f"the folder of {name}: {error.strerror}") from error
        self._all[name] = application

    def _new(self, name: str, secret: bytes) -> Application:
        return Application(name, secret, self._settings, self._metrics, self._discard)

    def _secret_file(self, name: str) -> Path:
        return self._settings.folders[0] / name / SERVICE / "secret"

    def _keep(self, application: Application) -> None:
        path = self._secret_file(application.name)
        fresh = path.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE)
        try:
            os.write(descriptor, application.secret)
        finally:
            os.close(descriptor)
        fresh.rename(path)

    def of(self, name: str) -> Application:
        """The application.

        Raises
        ------
        ShuffleFault
            UNKNOWN_APPLICATION
        """
        application = self._all.get(name)
        if application is None:
            raise ShuffleFault(Reason.UNKNOWN_APPLICATION, f"nobody has claimed {name} on {self._settings.node}")
        return application

    def slab(self, application: Application) -> Slab | None:
        """Its slab, made when the first process says HELLO. Without one it is served from files.

        Decided once: processes learn of slabs at HELLO, and a later one would be unknown to those that came before.
        """
        if not application.slab_decided:
            application.slab_decided = True
            try:
                application.memory.slab = self._new_slab()
            except (ShuffleFault, OSError) as error:
                self._metrics.add("slabs_refused")
                _LOG.warning(
                    "%s has no shared memory, and what it fetches goes into files: %s", application.name, error
                )
        return application.memory.slab

    def _new_slab(self) -> Slab:
        limits = self._settings.limits
        if self.pinned_bytes + limits.slab_bytes > limits.pinned_bytes:
            raise ShuffleFault(Reason.NO_SPACE, f"the limit of {limits.pinned_bytes} pinned bytes is reached")
        self._slabs += 1
        return Slab(self._settings.shm, slab_owner(self._settings), self._slabs, limits.slab_bytes)

    def end(self, name: str) -> None:
        """The application is over here. Its connections end after their current answers."""
        application = self._all.pop(name, None)
        if application is None:
            return
        self.ending(name)
        application.end()
        for connection in list(application.connections):
            connection.part()

    def expire(self, now: float) -> None:
        """End the applications of which nothing was heard."""
        for application in self.all:
            if application.connections:
                application.heard = now
            elif now - application.heard > self._settings.lease_s:
                _LOG.warning("%s ends here: nothing was heard of it for %g s", application.name, self._settings.lease_s)
                self._metrics.add("applications_expired")
                self.end(application.name)

    def adopt(self) -> None:
        """After a restart: take up what the folders hold."""
        first = self._settings.folders[0]
        for name in applications(first):
            secret = b""
            with contextlib.suppress(FileNotFoundError):
                secret = self._secret_file(name).read_bytes()
            if not _NAME.fullmatch(name) or not (first / name / SERVICE).is_dir():
                _LOG.warning("%s is no folder of ours and stays as it is", first / name)
                continue
            application = self._new(name, secret)
            if len(secret) != SECRET_BYTES:
                application.end()  # killed in the middle of a CLAIM or an END
                continue
            adopted, dropped = application.catalogue.adopt()
            self._metrics.add("adopted_outputs", adopted)
            self._metrics.add("dropped_outputs", dropped)
            _LOG.info("%s: %d map outputs adopted, %d dropped", name, adopted, dropped)
            self._all[name] = application

    def stop(self) -> None:
        for application in self.all:
            application.stop()
        self._all.clear()

    # -- figures -------------------------------------------------------------------------------------------------

    @property
    def pinned_bytes(self) -> int:
        return sum(each.slab_bytes for each in self._all.values()) + self.otherwise_pinned()

    @property
    def disk_room(self) -> int | None:
        """Bytes of map outputs that may still be taken over; None: any number."""
        most = self._settings.limits.disk_bytes
        return None if most is None else max(0, most - self.disk_bytes)

    @property
    def disk_bytes(self) -> int:
        return sum(each.catalogue.size for each in self._all.values())

    # -- Store ---------------------------------------------------------------------------------------------------

    def secret(self, application: str) -> bytes:
        return self.of(application).secret

    def locate(self, application: str, asked: Range) -> Found | Missing:
        return self.of(application).catalogue.locate(asked)

    def piece(self, application: str, piece: Piece) -> FileExtent | None:
        return self.of(application).catalogue.piece(piece)

    def notice(self, application: str, notice: Notice) -> None:
        found = self.of(application)
        found.heard = time.monotonic()
        if isinstance(notice, Forgotten):
            found.catalogue.remove(notice.shuffle)
        elif isinstance(notice, Over):
            self.end(application)

    def landing(self, application: str) -> memoryview | None:
        slab = self.of(application).memory.slab
        return slab.whole() if slab else None


def slab_owner(settings: Settings) -> str:
    """Node and folder: two services of one machine do not sweep each other's slabs."""
    return f"{settings.node}-{zlib.crc32(os.fsencode(settings.folders[0])):08x}"
