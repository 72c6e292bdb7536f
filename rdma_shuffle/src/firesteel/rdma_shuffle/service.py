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

from firesteel.rdma_shuffle import slab as slabs
from firesteel.rdma_shuffle.applications import Applications, slab_owner
from firesteel.rdma_shuffle.fault import ServiceNotStarted
from firesteel.rdma_shuffle.fetching import Fetching
from firesteel.rdma_shuffle.flow import Credits
from firesteel.rdma_shuffle.metrics import Metrics, prometheus
from firesteel.rdma_shuffle.session import Session
from firesteel.rdma_shuffle.settings import Settings, parser, read
from firesteel.rdma_shuffle.stream import FrameStream
from firesteel.rdma_shuffle.transport.base import Transport
from firesteel.rdma_shuffle.transport.tcp import TcpTransport
from firesteel.rdma_shuffle.transport.verbs.absent import VerbsAbsent, Why
from firesteel.rdma_shuffle.transport.verbs.transport import VerbsTransport
from firesteel.rdma_shuffle.trash import Trash

_LOG = logging.getLogger("firesteel.shuffled")
_FOLDER_MODE = 0o700
_SOCKET_MASK = 0o177
_MOST_REQUESTS_AT_ONCE = 4096
_HTTP_S = 5.0


class Service:
    """The service, from `start` to `stop`."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.applications: Applications
        self.transport: Transport | None = None
        self.fetching: Fetching | None = None
        self.port: int | None = None
        self.sessions: set[Session] = set()
        self._tcp: TcpTransport | None = None
        self._verbs: VerbsTransport | None = None
        self._no_verbs: VerbsAbsent | None = None
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
        """Folders first, then peers, then executors: whoever can connect finds everything in its place."""
        self._own_folders()
        trash = Trash(self.settings.folders)
        self._cleanup.callback(trash.close)
        self.applications = Applications(self.settings, self.metrics, trash.discard)
        slabs.sweep(self.settings.shm, slab_owner(self.settings))
        self.applications.adopt()
        self._cleanup.callback(self.applications.stop)
        await self._listen_to_peers()
        await self._listen_to_executors()
        if self.settings.metrics:
            await self._listen_to_prometheus(self.settings.metrics)
        janitor = asyncio.create_task(self._expire())
        self._cleanup.callback(janitor.cancel)

    def _own_folders(self) -> None:
        """One service a folder: a second one would delete what it does not know."""
        for folder in self.settings.folders:
            try:
                folder.mkdir(_FOLDER_MODE, parents=True, exist_ok=True)
                lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                self._cleanup.callback(os.close, lock)
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ServiceNotStarted(
                    f"another service uses {folder}", "stop it, or give another --folder"
                ) from error
            except OSError as error:
                raise ServiceNotStarted(f"the folder {folder}: {error.strerror}") from error

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
                raise ServiceNotStarted(f"cannot listen on {settings.listen}: {error.strerror}") from error
        credits_of_all = Credits(_MOST_REQUESTS_AT_ONCE, settings.limits.in_flight_bytes)
        self.fetching = Fetching(self.transport, self.metrics, credits_of_all)

    def _open_verbs(self, tcp: TcpTransport) -> VerbsTransport | None:
        """Verbs, if they are wanted and can be had. What cannot be had is said once, here."""
        settings, applications = self.settings, self.applications
        if settings.transport == "tcp":
            self._no_verbs = VerbsAbsent(Why.SWITCHED_OFF, "--transport tcp", "")
            return None
        try:
            verbs = VerbsTransport.open(tcp, applications, settings.verbs)
        except VerbsAbsent as absent:
            if settings.transport == "verbs":
                raise
            self._no_verbs = absent
            _LOG.info("blocks of peers come by TCP: %s", absent.what)
            return None
        self._cleanup.push_async_callback(verbs.close)
        self.metrics.falls = verbs.falls
        verbs.pinnable = lambda: settings.limits.pinned_bytes - applications.pinned_bytes
        applications.otherwise_pinned = lambda: verbs.staging_bytes
        applications.ending = verbs.forget
        self._verbs = verbs
        return verbs

    async def _listen_to_executors(self) -> None:
        made = _bound(self.settings.socket)
        server = await asyncio.get_running_loop().create_unix_server(lambda: FrameStream(Session(self)), sock=made)
        self._cleanup.callback(self._part_from_executors, server)

    def _part_from_executors(self, server: asyncio.Server) -> None:
        self.settings.socket.unlink(missing_ok=True)
        server.close()
        for session in list(self.sessions):
            session.stream.abort()

    async def _expire(self) -> None:
        while True:
            await asyncio.sleep(min(self.settings.lease_s / 4, 30.0))
            self.applications.expire(time.monotonic())

    # -- figures -------------------------------------------------------------------------------------------------

    def gauges(self) -> dict[str, float]:
        """What is in use, and beside it what is allowed."""
        limits, applications = self.settings.limits, self.applications.all
        memories = [(each.memory, each.memory.slab) for each in applications]
        return {
            "applications": len(applications),
            "applications_limit": limits.applications,
            "connections": len(self.sessions),
            "connections_limit": limits.connections,
            "outputs": sum(len(each.catalogue) for each in applications),
            "disk_bytes": self.applications.disk_bytes,
            "disk_bytes_limit": float("inf") if limits.disk_bytes is None else limits.disk_bytes,
            "pinned_bytes": self.applications.pinned_bytes,
            "pinned_bytes_limit": limits.pinned_bytes,
            "lent_bytes": sum(slab.extents.lent_bytes for _, slab in memories if slab),
            "fenced_bytes": sum(slab.extents.fenced_bytes for _, slab in memories if slab),
            "spool_bytes": sum(memory.spooled_bytes for memory, _ in memories),
            "spool_bytes_limit": limits.spool_bytes,
            "leases": sum(each.holders.leases for each in applications),
            "in_flight_bytes": self.fetching.in_flight.used_bytes if self.fetching else 0,
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
        """As JSON, without secrets."""
        now = time.monotonic()
        gauges = {key: None if value == float("inf") else value for key, value in self.gauges().items()}
        told = {
            "node": self.settings.node,
            "names": self.settings.names,
            "pid": os.getpid(),
            "socket": str(self.settings.socket),
            "folders": [str(each) for each in self.settings.folders],
            "port": self.port,
            "transport": self.transport.name if self.transport else None,
            "verbs": self._verbs.about() if self._verbs else self._without_verbs(),
            "gauges": gauges,
            "counters": dict(self.metrics.counts),
            "faults": dict(self.metrics.faults),
            "applications": [
                {
                    "name": each.name,
                    "outputs": len(each.catalogue),
                    "bytes": each.catalogue.size,
                    "slab_bytes": each.slab_bytes,
                    "lent_bytes": each.holders.held_bytes,
                    "leases": each.holders.leases,
                    "processes": len(each.holders),
                    "connections": len(each.connections),
                    "unheard_s": round(now - each.heard, 3),
                }
                for each in self.applications.all
            ],
        }
        return json.dumps(told)

    def _without_verbs(self) -> dict[str, str]:
        absent = self._no_verbs
        return {"reason": absent.why, "detail": absent.what, "hint": absent.hint} if absent else {}

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
    """As many open files as the hard limit gives: each connection is one, and each block on its way."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _bound(path: Path) -> socket.socket:
    """A listening socket that was never open to others, not even between bind and chmod."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    mask = os.umask(_SOCKET_MASK)
    try:
        path.unlink(missing_ok=True)  # of a killed service: the folder's lock says that there is no other
        made.bind(str(path))
        made.listen(256)
    except OSError as error:
        made.close()
        raise ServiceNotStarted(f"the socket {path}: {error.strerror}") from error
    finally:
        os.umask(mask)
    return made


async def serve(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with Service(settings) as service:
        _LOG.info("%s serves %s, port %s", settings.node, settings.socket, service.port)
        await stop.wait()


def main(words: Sequence[str] | None = None) -> int:
    """The command."""
    parsed = parser().parse_args(words)
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
