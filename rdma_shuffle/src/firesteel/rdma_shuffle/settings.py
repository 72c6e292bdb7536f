"""The settings of the service: the options of `firesteel-shuffled`, parsed and validated once."""

from __future__ import annotations

import argparse
import os
import re
import socket
import stat
from dataclasses import dataclass, fields
from pathlib import Path

from firesteel.conf.files import UnusableFileError, read_user_file
from firesteel.rdma_shuffle.transport.tcp import TcpLimits
from firesteel.rdma_shuffle.transport.verbs.limits import VerbsLimits
from firesteel.rdma_shuffle.transport.verbs.rdma_state import SHM
from firesteel.rdma_shuffle.wire.fault import ServiceNotStarted

DEFAULT_PORT = 7447
_MIN_SECRET_BYTES = 32
_MAX_SECRET_BYTES = 64 << 10
_MAX_SOCKET_BYTES = 107
_AT_LEAST_ONE = (
    "connections",
    "applications",
    "links",
    "links_per_peer",
    "accepted",
    "credit_reads",
    "credit_bytes",
    "channels",
    "channel_bytes",
    "stage_bytes",
)
_SIZE = re.compile(r"(\d+)([kmgt]?)", re.IGNORECASE)
_POWERS = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of the service.

    Parameters
    ----------
    slab_bytes
        Shared memory of one application. With 0 all fetched blocks go into spool files.
    pinned_bytes
        Pinned memory of all applications.
    disk_bytes
        Map outputs of all applications, or None without a limit.
    table_bytes
        Memory for the lengths and checksums of the map outputs of one application.
    spool_bytes
        Spool files of one application.
    in_flight_bytes
        Bytes in flight from all peers.
    connections
        Connections of clients. Further ones get NO_SPACE.
    applications
        Concurrent applications.
    """

    slab_bytes: int = 64 << 20
    pinned_bytes: int = 1 << 30
    disk_bytes: int | None = None
    table_bytes: int = 2 << 30
    spool_bytes: int = 16 << 30
    in_flight_bytes: int = 256 << 20
    connections: int = 1024
    applications: int = 256


@dataclass(frozen=True, slots=True, repr=False)
class Settings:
    """The settings of a service. They have no repr because they contain the cluster secret."""

    node: str
    names: tuple[str, ...]
    socket: Path
    folders: tuple[Path, ...]
    shm: Path
    listen: tuple[str, int] | None
    peer_port: int
    peers: dict[str, tuple[str, int]]
    cluster: bytes
    metrics: Path | None
    users: frozenset[int]
    lease_s: float
    slab_wait_s: float
    limits: Limits
    tcp: TcpLimits
    transport: str
    verbs: VerbsLimits

    def resolve(self, owner: str) -> tuple[str, tuple[str, int]]:
        """Return the node name of an owner and the address of its service."""
        host, port = split(owner, self.peer_port)
        return host, self.peers.get(owner) or self.peers.get(host) or (host, port)

    def is_here(self, owner: str, port: int | None) -> bool:
        """Whether an owner is this node, which listens on `port`."""
        host, owner_port = split(owner, -1)
        return host in self.names and owner_port in {-1, port}


def split(owner: str, port: int) -> tuple[str, int]:
    """Split `host`, `host:port` or `[v6]:port` into host and port, with a default port."""
    match = re.fullmatch(r"(?:\[(?P<v6>[^\]]+)\]|(?P<host>[^:]+))(?::(?P<port>\d{1,5}))?", owner)
    if match is None:
        return owner, port
    return match["v6"] or match["host"], int(match["port"] or port)


def default_socket() -> Path:
    """Return the default socket of the service: FIRESTEEL_SHUFFLE_SOCKET, else a path in /run."""
    return Path(os.environ.get("FIRESTEEL_SHUFFLE_SOCKET", "/run/firesteel/shuffle.sock"))


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    own, tcp, verbs = Limits(), TcpLimits(), VerbsLimits()
    parse = argparse.ArgumentParser("firesteel-shuffled", description="Run the shuffle service of this node.")
    parse.add_argument(
        "--status", action="store_true", help="print the status of the service at --socket as JSON and exit"
    )
    parse.add_argument(
        "--socket",
        type=Path,
        default=default_socket(),
        help="set the Unix socket for the executors of this node (default: $FIRESTEEL_SHUFFLE_SOCKET, else /run/firesteel/shuffle.sock)",
    )
    parse.add_argument(
        "--folder", type=Path, action="append", help="store map outputs in this folder; repeat for each file system"
    )
    parse.add_argument(
        "--node",
        default=socket.gethostname(),
        help="set the host name that the executors of this node give to Spark (default: %(default)s)",
    )
    parse.add_argument("--alias", action="append", default=[], help="add another name of this node; may be repeated")
    parse.add_argument(
        "--listen", metavar="HOST:PORT", help="listen for peers at this address; without it only this node is served"
    )
    parse.add_argument(
        "--peer-port", type=int, default=DEFAULT_PORT, help="set the default port of peers (default: %(default)s)"
    )
    parse.add_argument(
        "--peer",
        action="append",
        default=[],
        metavar="NODE=HOST:PORT",
        help="set the address of a peer; may be repeated",
    )
    parse.add_argument("--cluster-secret", type=Path, help="read the secret of all services from this file, mode 0600")
    parse.add_argument("--metrics", type=Path, help="serve Prometheus metrics on this Unix socket")
    parse.add_argument("--shm", type=Path, default=SHM, help=argparse.SUPPRESS)
    parse.add_argument(
        "--allow-user", type=int, action="append", default=[], help="allow another user id to connect; may be repeated"
    )
    parse.add_argument(
        "--lease",
        type=float,
        default=7200,
        help="end an application after this many seconds without a sign of life (default: %(default)s)",
    )
    parse.add_argument(
        "--slab-wait",
        type=float,
        default=1.0,
        help="wait this many seconds for the slab before using files (default: %(default)s)",
    )
    parse.add_argument(
        "--transport",
        choices=("auto", "verbs", "tcp"),
        default="auto",
        help="set how peers are read: `auto` uses verbs if a device is usable, `verbs` requires one, `tcp` never uses one (default: %(default)s)",
    )
    parse.add_argument("--device", help="set the RDMA device (default: the first with an active port)")
    parse.add_argument(
        "--gid-index", type=int, help="set the GID index of its port (default: a RoCE v2 address of IPv4)"
    )
    sizes = {
        "slab-bytes": (own.slab_bytes, "limit the shared memory of one application; 0 disables it"),
        "pinned-bytes": (own.pinned_bytes, "limit the pinned memory of all applications"),
        "disk-bytes": (own.disk_bytes, "limit the map outputs of all applications"),
        "table-bytes": (
            own.table_bytes,
            "limit the memory for the lengths and checksums of the map outputs of one application",
        ),
        "spool-bytes": (own.spool_bytes, "limit the spool files of one application"),
        "in-flight-bytes": (own.in_flight_bytes, "limit the bytes in flight from all peers"),
        "stage-bytes": (verbs.stage_bytes, "set the pinned staging area of one application for RDMA READ"),
        "channel-bytes": (
            verbs.channel_bytes,
            "limit the part of the staging area that one channel of a peer may hold",
        ),
        "credit-bytes": (tcp.bytes, "limit the outstanding bytes of one connection of a peer"),
    }
    for name, (size, doc) in sizes.items():
        parse.add_argument(
            f"--{name}", type=_size, default=size, help=f"{doc} in bytes (default: {size or 'no limit'})"
        )
    counts = {
        "connections": (own.connections, "limit the connections of executors"),
        "applications": (own.applications, "limit the concurrent applications"),
        "links": (tcp.links, "limit the connections to peers"),
        "links-per-peer": (tcp.links_per_peer, "limit the connections to one peer"),
        "accepted": (tcp.accepted, "limit the connections from peers"),
        "channels": (verbs.channels, "limit the RDMA queue pairs, including those for peers"),
        "credit-reads": (tcp.reads, "limit the outstanding READs of one connection of a peer"),
    }
    for name, (count, doc) in counts.items():
        parse.add_argument(f"--{name}", type=int, default=count, help=f"{doc} (default: %(default)s)")
    parse.add_argument(
        "--stall",
        type=float,
        default=tcp.stall_s,
        help="close a connection to a peer that sends nothing for this many seconds (default: %(default)s)",
    )
    return parse


def read(args: argparse.Namespace) -> Settings:
    """Return the settings of a parsed command line.

    Raises
    ------
    ServiceNotStarted
        An option is missing or wrong.
    """
    if not args.folder:
        raise ServiceNotStarted(
            "--folder is missing.", "Set --folder to a folder on the file system of spark.local.dir."
        )
    if len(os.fsencode(args.socket)) > _MAX_SOCKET_BYTES:
        raise ServiceNotStarted(
            f"the path of --socket is longer than {_MAX_SOCKET_BYTES} bytes.", "Set a shorter --socket."
        )
    if args.listen and not args.cluster_secret:
        raise ServiceNotStarted(
            "--listen is set without --cluster-secret.", "Set --cluster-secret: peers must authenticate."
        )
    for name in _AT_LEAST_ONE:
        if getattr(args, name) < 1:
            raise ServiceNotStarted(f"--{name.replace('_', '-')} must be at least 1.")
    if args.lease <= 0 or args.in_flight_bytes < 1 or args.stall <= 0:
        raise ServiceNotStarted("--lease, --stall and --in-flight-bytes must be greater than 0.")
    return Settings(
        node=args.node,
        names=(args.node, *args.alias),
        socket=args.socket.absolute(),
        folders=tuple(Path(os.path.realpath(folder)) for folder in args.folder),
        shm=args.shm,
        listen=_address(args.listen, "--listen") if args.listen else None,
        peer_port=args.peer_port,
        peers=dict(map(_peer, args.peer)),
        cluster=_secret(args.cluster_secret) if args.cluster_secret else b"",
        metrics=args.metrics,
        users=frozenset({os.geteuid(), *args.allow_user}),
        lease_s=args.lease,
        slab_wait_s=args.slab_wait,
        limits=Limits(*(getattr(args, field.name) for field in fields(Limits))),
        tcp=TcpLimits(
            links_per_peer=args.links_per_peer,
            links=args.links,
            accepted=args.accepted,
            reads=args.credit_reads,
            bytes=args.credit_bytes,
            stall_s=args.stall,
        ),
        transport=args.transport,
        verbs=verbs_limits(args),
    )


def verbs_limits(args: argparse.Namespace) -> VerbsLimits:
    """Return the verbs limits of a parsed command line."""
    return VerbsLimits(
        device=args.device,
        gid_index=args.gid_index,
        stage_bytes=args.stage_bytes,
        channel_bytes=args.channel_bytes,
        channels=args.channels,
    )


def _size(text: str) -> int:
    match = _SIZE.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text} is not a size; expected digits and an optional k, m, g or t")
    return int(match[1]) << _POWERS[match[2].lower()]


def _address(text: str, option: str) -> tuple[str, int]:
    host, port = split(text, -1)
    if not 0 <= port <= 0xFFFF:
        raise ServiceNotStarted(f"{option} {text} is not HOST:PORT.")
    return host, port


def _peer(text: str) -> tuple[str, tuple[str, int]]:
    node, _, address = text.partition("=")
    return node, _address(address, "--peer")


def _secret(path: Path) -> bytes:
    try:
        file = read_user_file(path, _MAX_SECRET_BYTES)
    except UnusableFileError as error:
        raise ServiceNotStarted(f"the cluster secret {path} {error.why}.") from None
    secret = file.data.strip()
    if stat.S_IMODE(file.state.st_mode) & 0o077:
        raise ServiceNotStarted(f"other users can read the cluster secret {path}.", f"Run chmod 600 {path}.")
    if len(secret) < _MIN_SECRET_BYTES:
        raise ServiceNotStarted(f"the cluster secret {path} is shorter than {_MIN_SECRET_BYTES} bytes.")
    return secret
