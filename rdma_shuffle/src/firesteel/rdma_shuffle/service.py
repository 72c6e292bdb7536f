"""`firesteel-shuffled`: the shuffle service of one node.

::

    python -m firesteel.rdma_shuffle.service --socket S --folder F --node NAME --listen HOST:PORT --cluster-secret FILE
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import logging
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from firesteel.rdma_shuffle.applications import Applications, slab_owner
from firesteel.rdma_shuffle.client_connection import ClientConnection
from firesteel.rdma_shuffle.fetcher import Fetcher
from firesteel.rdma_shuffle.memory import slab as slabs
from firesteel.rdma_shuffle.metrics import Metrics, prometheus
from firesteel.rdma_shuffle.settings import Settings, parser, read
from firesteel.rdma_shuffle.storage.trash import Trash
from firesteel.rdma_shuffle.transport.base import Transport
from firesteel.rdma_shuffle.transport.tcp import TcpTransport
from firesteel.rdma_shuffle.transport.verbs.transport import VerbsTransport
from firesteel.rdma_shuffle.transport.verbs.unavailable import FallbackReason, VerbsUnavailable
from firesteel.rdma_shuffle.wire.credits import Credits
from firesteel.rdma_shuffle.wire.fault import ServiceNotStarted
from firesteel.rdma_shuffle.wire.frame_stream import FrameStream

_LOG = logging.getLogger("firesteel.shuffled")
_FOLDER_MODE = 0o700
_SOCKET_MASK = 0o177
_MAX_REQUESTS_IN_FLIGHT = 4096
_HTTP_S = 5.0


class Service:
    """The service of a node, as a context manager."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.applications: Applications
        self.transport: Transport | None = None
        self.fetcher: Fetcher | None = None
        self.port: int | None = None
        self.connections: set[ClientConnection] = set()
        self._tcp: TcpTransport | None = None
        self._verbs: VerbsTransport | None = None
        self._no_verbs: VerbsUnavailable | None = None
        self._cleanup = contextlib.AsyncExitStack()
        self._since = time.monotonic()

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._cleanup.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._cleanup.aclose()

    async def _start(self) -> None:
        """Start folders first, then peers, then executors, so that everything is ready for the first connection."""
        self._own_folders()
        trash = Trash(self.settings.folders)
        self._cleanup.callback(trash.close)
        self.applications = Applications(self.settings, self.metrics, trash.discard)
        slabs.sweep(self.settings.shm, slab_owner(self.settings))
        self.applications.recover()
        self._cleanup.callback(self.applications.stop)
        await self._listen_to_peers()
        await self._listen_to_executors()
        if self.settings.metrics:
            await self._listen_to_prometheus(self.settings.metrics)
        janitor = asyncio.create_task(self._expire())
        self._cleanup.callback(janitor.cancel)

    def _own_folders(self) -> None:
        """Lock the folders: a second service would delete files that it does not know."""
        for folder in self.settings.folders:
            try:
                folder.mkdir(_FOLDER_MODE, parents=True, exist_ok=True)
                lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                self._cleanup.callback(os.close, lock)
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ServiceNotStarted(
                    f"the folder {folder} is in use by another service.", "Stop that service, or set another --folder."
                ) from error
            except OSError as error:
                raise ServiceNotStarted(
                    f"the folder {folder} cannot be created or locked: {error.strerror}."
                ) from error

    async def _listen_to_peers(self) -> None:
        settings = self.settings
        if not settings.cluster:
            return
        self._tcp = TcpTransport(self.applications, settings.cluster, settings.names, settings.resolve, settings.tcp)
        self._cleanup.push_async_callback(self._tcp.close)
        self.transport = self._open_verbs(self._tcp) or self._tcp
        if settings.listen:
            try:
                self.port = await self._tcp.listen(*settings.listen)
            except OSError as error:
                raise ServiceNotStarted(f"cannot listen on {settings.listen}: {error.strerror}.") from error
        credits_in_flight = Credits(_MAX_REQUESTS_IN_FLIGHT, settings.limits.in_flight_bytes)
        self.fetcher = Fetcher(self.transport, self.metrics, credits_in_flight)

    def _open_verbs(self, tcp: TcpTransport) -> VerbsTransport | None:
        """Return the verbs transport, or None if it is off or unavailable. The reason is logged once, here."""
        settings, applications = self.settings, self.applications
        if settings.transport == "tcp":
            self._no_verbs = VerbsUnavailable(FallbackReason.SWITCHED_OFF, "--transport tcp", "")
            return None
        try:
            verbs = VerbsTransport.open(tcp, applications, settings.verbs)
        except VerbsUnavailable as unavailable:
            if settings.transport == "verbs":
                raise
            self._no_verbs = unavailable
            _LOG.info("peers are read by TCP: %s", unavailable.what)
            return None
        self._cleanup.push_async_callback(verbs.close)
        self.metrics.fallbacks = verbs.fallbacks
        verbs.pinnable = lambda: settings.limits.pinned_bytes - applications.pinned_bytes
        applications.otherwise_pinned = lambda: verbs.staging_bytes
        applications.ending = verbs.forget
        self._verbs = verbs
        return verbs

    async def _listen_to_executors(self) -> None:
        listener = _bound(self.settings.socket)
        server = await asyncio.get_running_loop().create_unix_server(
            lambda: FrameStream(ClientConnection(self)), sock=listener
        )
        self._cleanup.callback(self._close_executors, server)

    def _close_executors(self, server: asyncio.Server) -> None:
        self.settings.socket.unlink(missing_ok=True)
        server.close()
        for connection in list(self.connections):
            connection.stream.abort()

    async def _expire(self) -> None:
        while True:
            await asyncio.sleep(min(self.settings.lease_s / 4, 30.0))
            self.applications.expire(time.monotonic())

    # -- status --------------------------------------------------------------------------------------------------

    def gauges(self) -> dict[str, float]:
        """Return the usage of resources and their limits."""
        limits, applications = self.settings.limits, self.applications.all
        memories = [(application.memory, application.memory.slab) for application in applications]
        return {
            "applications": len(applications),
            "applications_limit": limits.applications,
            "connections": len(self.connections),
            "connections_limit": limits.connections,
            "outputs": sum(len(application.catalogue) for application in applications),
            "disk_bytes": self.applications.disk_bytes,
            "disk_bytes_limit": float("inf") if limits.disk_bytes is None else limits.disk_bytes,
            "table_bytes": sum(application.catalogue.memory for application in applications),
            "pinned_bytes": self.applications.pinned_bytes,
            "pinned_bytes_limit": limits.pinned_bytes,
            "lent_bytes": sum(slab.extents.lent_bytes for _, slab in memories if slab),
            "fenced_bytes": sum(slab.extents.fenced_bytes for _, slab in memories if slab),
            "spool_bytes": sum(memory.spooled_bytes for memory, _ in memories),
            "spool_bytes_limit": limits.spool_bytes,
            "leases": sum(application.clients.leases for application in applications),
            "in_flight_bytes": self.fetcher.in_flight.used_bytes if self.fetcher else 0,
            "in_flight_bytes_limit": limits.in_flight_bytes,
            "peer_links": self._tcp.link_count if self._tcp else 0,
            "peer_links_limit": self.settings.tcp.links,
            "peers_accepted": self._tcp.accepted_count if self._tcp else 0,
            "peers_accepted_limit": self.settings.tcp.accepted,
            "peers_refused": self._tcp.refused if self._tcp else 0,
            **(self._verbs.gauges() if self._verbs else {}),
            "open_files": sum(1 for _ in Path("/proc/self/fd").iterdir()),
            "resident_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "cpu_seconds": time.process_time(),
            "up_seconds": time.monotonic() - self._since,
        }

    def status(self) -> str:
        """Return the status as JSON, without secrets."""
        now = time.monotonic()
        gauges = {key: None if value == float("inf") else value for key, value in self.gauges().items()}
        status = {
            "node": self.settings.node,
            "names": self.settings.names,
            "pid": os.getpid(),
            "socket": str(self.settings.socket),
            "folders": [str(folder) for folder in self.settings.folders],
            "port": self.port,
            "transport": self.transport.name if self.transport else None,
            "verbs": self._verbs.about() if self._verbs else self._without_verbs(),
            "gauges": gauges,
            "counters": dict(self.metrics.counts),
            "faults": dict(self.metrics.faults),
            "applications": [
                {
                    "name": application.name,
                    "outputs": len(application.catalogue),
                    "bytes": application.catalogue.size,
                    "slab_bytes": application.slab_bytes,
                    "lent_bytes": application.clients.held_bytes,
                    "leases": application.clients.leases,
                    "processes": len(application.clients),
                    "connections": len(application.connections),
                    "silent_s": round(now - application.last_heard, 3),
                }
                for application in self.applications.all
            ],
        }
        return json.dumps(status)

    def _without_verbs(self) -> dict[str, str]:
        unavailable = self._no_verbs
        if not unavailable:
            return {}
        return {"reason": unavailable.reason, "detail": unavailable.what, "hint": unavailable.hint}

    async def _listen_to_prometheus(self, path: Path) -> None:
        async def scrape(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                async with asyncio.timeout(_HTTP_S):
                    await reader.readuntil(b"\r\n\r\n")
                    text = prometheus(self.metrics, self.gauges()).encode()
                    head = f"HTTP/1.0 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {len(text)}\r\n\r\n"
                    writer.write(head.encode() + text)
                    await writer.drain()
            writer.close()

        server = await asyncio.start_unix_server(scrape, sock=_bound(path))
        self._cleanup.callback(server.close)
        self._cleanup.callback(path.unlink, missing_ok=True)


def _allow_files() -> None:
    """Raise the limit of open files to the hard limit: each connection and each block in flight needs a file."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _bound(path: Path) -> socket.socket:
    """Return a listening socket that was never open to other users, not even between bind and chmod."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    mask = os.umask(_SOCKET_MASK)
    try:
        path.unlink(missing_ok=True)  # of a killed service: the folder lock excludes a running one
        listener.bind(str(path))
        listener.listen(256)
    except OSError as error:
        listener.close()
        raise ServiceNotStarted(f"the socket {path} cannot be created: {error.strerror}.") from error
    finally:
        os.umask(mask)
    return listener


async def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with Service(settings) as service:
        _LOG.info("node %s serves %s, port %s", settings.node, settings.socket, service.port)
        await stop.wait()


def main(args: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parsed = parser().parse_args(args)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    from firesteel.conf.errors import FiresteelError

    try:
        if parsed.status:
            from firesteel.rdma_shuffle.client import status

            sys.stdout.write(json.dumps(json.loads(status(parsed.socket)), indent=2) + "\n")
            return 0
        _allow_files()
        asyncio.run(serve(read(parsed)))
    except FiresteelError as error:
        sys.stderr.write(f"firesteel-shuffled: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
