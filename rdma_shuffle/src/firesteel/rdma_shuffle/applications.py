"""The applications on this node: secrets, map outputs, memory and leases. Transports serve from them (`Store`)."""

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

from firesteel.rdma_shuffle.memory.application_memory import ApplicationMemory
from firesteel.rdma_shuffle.memory.client_processes import ClientProcesses
from firesteel.rdma_shuffle.memory.slab import Slab
from firesteel.rdma_shuffle.metrics import Metrics
from firesteel.rdma_shuffle.settings import Settings
from firesteel.rdma_shuffle.storage.catalogue import SERVICE, Catalogue, applications
from firesteel.rdma_shuffle.transport.base import ApplicationEnded, Notice, ShuffleRemoved
from firesteel.rdma_shuffle.wire import authentication
from firesteel.rdma_shuffle.wire.blocks import FileExtent, Found, Missing, Piece, Range
from firesteel.rdma_shuffle.wire.fault import Reason, ShuffleFault, malformed
from firesteel.rdma_shuffle.wire.message import MAX_NAME, SECRET_BYTES

_LOG = logging.getLogger(__name__)
_NAME = re.compile(rf"[A-Za-z0-9_-][A-Za-z0-9._-]{{0,{MAX_NAME - 1}}}")
_MODE = 0o600


class Connection(Protocol):
    """A client's connection, as its application sees it."""

    def end(self) -> None:
        """Close after the current answers."""
        ...


class Application:
    """One application on this node."""

    def __init__(
        self, name: str, secret: bytes, settings: Settings, metrics: Metrics, discard: Callable[[Path], None]
    ) -> None:
        self.name = name
        self.secret = secret
        self.catalogue = Catalogue(settings.folders, name, discard, settings.limits.table_bytes)
        self.memory = ApplicationMemory(
            None, self.catalogue.spool, wait_s=settings.slab_wait_s, spool_limit=settings.limits.spool_bytes
        )
        self.clients = ClientProcesses(lambda: metrics.add("clients_died"))
        self.connections: set[Connection] = set()
        self.last_heard = time.monotonic()
        self.slab_decided = False

    @property
    def slab_bytes(self) -> int:
        return self.memory.slab.name.size if self.memory.slab else 0

    def end(self) -> None:
        """Delete all data of the application on this node."""
        self.clients.close()
        self.memory.close()
        self.catalogue.destroy()

    def stop(self) -> None:
        """Remove the shared memory and keep the outputs on disk, for a restart of the service."""
        self.clients.close()
        self.memory.close()
        self.catalogue.close()


class Applications:
    """All applications of this node, as a `Store`.

    `ending` is called with an application's name before its memory is freed. `otherwise_pinned` returns the bytes that
    other parts of the service have pinned.
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

    # -- start and end -------------------------------------------------------------------------------------------

    def claim(self, name: str, secret: bytes) -> None:
        """Set the secret of an application. Only the first claim sets it; later ones must have the same secret."""
        if not _NAME.fullmatch(name):
            raise malformed(
                f"the application name has invalid characters; expected 1 to {MAX_NAME} letters, digits, `.`, `_` or `-`, without a leading dot"
            )
        existing = self._all.get(name)
        if existing:
            if not authentication.matches(existing.secret, secret):
                raise ShuffleFault(Reason.REFUSED, f"application {name} was claimed with a different secret")
            return
        if len(self._all) >= self._settings.limits.applications:
            raise ShuffleFault(
                Reason.NO_SPACE, f"the limit of {self._settings.limits.applications} applications is reached"
            )
        application = None
        try:
            application = self._new(name, secret)
            self._store_secret(application)
        except OSError as error:
            if application:
                application.end()
            raise ShuffleFault(
                Reason.NO_SPACE, f"the folder of application {name} cannot be created: {error.strerror}"
            ) from error
        self._all[name] = application

    def _new(self, name: str, secret: bytes) -> Application:
        return Application(name, secret, self._settings, self._metrics, self._discard)

    def _secret_file(self, name: str) -> Path:
        return self._settings.folders[0] / name / SERVICE / "secret"

    def _store_secret(self, application: Application) -> None:
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
        """Return the application.

        Raises
        ------
        ShuffleFault
            UNKNOWN_APPLICATION
        """
        application = self._all.get(name)
        if application is None:
            raise ShuffleFault(
                Reason.UNKNOWN_APPLICATION, f"application {name} is not claimed on node {self._settings.node}"
            )
        return application

    def slab(self, application: Application) -> Slab | None:
        """Return the application's slab, or None if its fetched blocks go into files.

        The slab is created at the first HELLO and never later: processes learn of slabs at HELLO only.
        """
        if not application.slab_decided:
            application.slab_decided = True
            try:
                application.memory.slab = self._new_slab()
            except (ShuffleFault, OSError) as error:
                self._metrics.add("slabs_refused")
                _LOG.warning(
                    "application %s has no shared memory, its fetched blocks go into files: %s", application.name, error
                )
        return application.memory.slab

    def _new_slab(self) -> Slab:
        limits = self._settings.limits
        if self.pinned_bytes + limits.slab_bytes > limits.pinned_bytes:
            raise ShuffleFault(Reason.NO_SPACE, f"the limit of {limits.pinned_bytes} pinned bytes is reached")
        self._slabs += 1
        return Slab(self._settings.shm, slab_owner(self._settings), self._slabs, limits.slab_bytes)

    def end(self, name: str) -> None:
        """End the application on this node. Its connections close after their current answers."""
        application = self._all.pop(name, None)
        if application is None:
            return
        self.ending(name)
        application.end()
        for connection in list(application.connections):
            connection.end()

    def expire(self, now: float) -> None:
        """End the applications whose lease has expired."""
        for application in self.all:
            if application.connections:
                application.last_heard = now
            elif now - application.last_heard > self._settings.lease_s:
                _LOG.warning(
                    "application %s ends on this node: no sign of life for %g s",
                    application.name,
                    self._settings.lease_s,
                )
                self._metrics.add("applications_expired")
                self.end(application.name)

    def recover(self) -> None:
        """Recover the applications that an earlier process left in the folders."""
        first = self._settings.folders[0]
        for name in applications(first):
            secret = b""
            with contextlib.suppress(FileNotFoundError):
                secret = self._secret_file(name).read_bytes()
            if not _NAME.fullmatch(name) or not (first / name / SERVICE).is_dir():
                _LOG.warning("%s is not a folder of this service and is ignored", first / name)
                continue
            application = self._new(name, secret)
            if len(secret) != SECRET_BYTES:
                application.end()  # the earlier process was killed during CLAIM or END
                continue
            recovered, dropped = application.catalogue.recover()
            self._metrics.add("recovered_outputs", recovered)
            self._metrics.add("dropped_outputs", dropped)
            _LOG.info("application %s: %d map outputs recovered, %d dropped", name, recovered, dropped)
            self._all[name] = application

    def stop(self) -> None:
        for application in self.all:
            application.stop()
        self._all.clear()

    # -- usage ---------------------------------------------------------------------------------------------------

    @property
    def pinned_bytes(self) -> int:
        return sum(application.slab_bytes for application in self._all.values()) + self.otherwise_pinned()

    @property
    def disk_bytes_left(self) -> int | None:
        """Bytes of map outputs that still fit the disk limit, or None without a limit."""
        limit = self._settings.limits.disk_bytes
        return None if limit is None else max(0, limit - self.disk_bytes)

    @property
    def disk_bytes(self) -> int:
        return sum(application.catalogue.size for application in self._all.values())

    # -- Store ---------------------------------------------------------------------------------------------------

    def secret(self, application: str) -> bytes:
        return self.of(application).secret

    def locate(self, application: str, asked: Range) -> Found | Missing:
        return self.of(application).catalogue.locate(asked)

    def piece(self, application: str, piece: Piece) -> FileExtent | None:
        return self.of(application).catalogue.piece(piece)

    def notice(self, application: str, notice: Notice) -> None:
        known = self.of(application)
        known.last_heard = time.monotonic()
        if isinstance(notice, ShuffleRemoved):
            known.catalogue.remove(notice.shuffle)
        elif isinstance(notice, ApplicationEnded):
            self.end(application)

    def slab_view(self, application: str) -> memoryview | None:
        slab = self.of(application).memory.slab
        return slab.whole() if slab else None


def slab_owner(settings: Settings) -> str:
    """Return a name of node and folder, so that two services of one machine do not remove each other's slabs."""
    return f"{settings.node}-{zlib.crc32(os.fsencode(settings.folders[0])):08x}"
