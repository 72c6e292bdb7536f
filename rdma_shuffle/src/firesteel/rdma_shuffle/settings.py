"""What a node's service is told at its start: the options of `firesteel-shuffled`, read once and checked."""

from __future__ import annotations

import argparse
import os
import re
import socket
import stat
from dataclasses import dataclass
from pathlib import Path

from firesteel.rdma_shuffle.devices import SHM
from firesteel.rdma_shuffle.fault import ServiceNotStarted
from firesteel.rdma_shuffle.transport.tcp import TcpLimits
from firesteel.rdma_shuffle.transport.verbs.limits import VerbsLimits

DEFAULT_PORT = 7447
_LEAST_SECRET = 32
_LONGEST_SOCKET = 107
_AT_LEAST_ONE = (
    "connections",
    "applications",
    "links",
    "links_per_peer",
    "accepted",
    "credit_reads",
    "credit_bytes",
    "lanes",
    "lane_bytes",
    "stage_bytes",
)
_SIZE = re.compile(r"(\d+)([kmgt]?)", re.IGNORECASE)
_POWERS = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}


@dataclass(frozen=True, slots=True)
class Limits:
    """What the service may use.

    Parameters
    ----------
    slab_bytes
        Shared memory of one application; 0: none, everything fetched is spooled.
    pinned_bytes
        Shared memory of all applications.
    disk_bytes
        Map outputs of all applications; None: any number.
    spool_bytes
        Fetched bytes of one application in files at once.
    in_flight_bytes
        Bytes asked of all peers at once.
    connections
        Clients' connections; further ones are told NO_SPACE.
    applications
        Applications at once.
    """

    slab_bytes: int = 64 << 20
    pinned_bytes: int = 1 << 30
    disk_bytes: int | None = None
    spool_bytes: int = 16 << 30
    in_flight_bytes: int = 256 << 20
    connections: int = 1024
    applications: int = 256


@dataclass(frozen=True, slots=True, repr=False)
class Settings:
    """A service's settings. Not shown whole: the cluster's secret is in them."""

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
        """The node's name and the address of its service."""
        host, port = split(owner, self.peer_port)
        return host, self.peers.get(owner) or self.peers.get(host) or (host, port)

    def is_here(self, owner: str, port: int | None) -> bool:
        """Whether an owner is this node; `port`: where we listen."""
        host, asked = split(owner, -1)
        return host in self.names and asked in {-1, port}


def split(owner: str, port: int) -> tuple[str, int]:
    """`host`, `host:port` or `[v6]:port` as host and port."""
    found = re.fullmatch(r"(?:\[(?P<v6>[^\]]+)\]|(?P<host>[^:]+))(?::(?P<port>\d{1,5}))?", owner)
    if found is None:
        return owner, port
    return found["v6"] or found["host"], int(found["port"] or port)


def default_socket() -> Path:
    """Where a node's service listens when nothing says otherwise: FIRESTEEL_SHUFFLE_SOCKET, else below /run."""
    return Path(os.environ.get("FIRESTEEL_SHUFFLE_SOCKET", "/run/firesteel/shuffle.sock"))


def parser() -> argparse.ArgumentParser:
    """The command line."""
    own, tcp, verbs = Limits(), TcpLimits(), VerbsLimits()
    parse = argparse.ArgumentParser("firesteel-shuffled", description="The shuffle service of one node.")
    parse.add_argument("--status", action="store_true", help="ask the service at --socket how it is, as JSON, and end")
    parse.add_argument(
        "--socket",
        type=Path,
        default=default_socket(),
        help="Unix socket for the executors of this node (default: FIRESTEEL_SHUFFLE_SOCKET, else %(default)s)",
    )
    parse.add_argument("--folder", type=Path, action="append", help="folder for map outputs; one for each file system")
    parse.add_argument(
        "--node", default=socket.gethostname(), help="this node's name, as Spark has it for its executors"
    )
    parse.add_argument("--alias", action="append", default=[], help="another name of this node")
    parse.add_argument(
        "--listen", metavar="HOST:PORT", help="where peers connect; without it, this node alone is served"
    )
    parse.add_argument("--peer-port", type=int, default=DEFAULT_PORT, help="port of peers that have none (%(default)s)")
    parse.add_argument("--peer", action="append", default=[], metavar="NODE=HOST:PORT", help="where a peer is found")
    parse.add_argument("--cluster-secret", type=Path, help="file with the secret of all services, of mode 0600")
    parse.add_argument("--metrics", type=Path, help="Unix socket for Prometheus")
    parse.add_argument("--shm", type=Path, default=SHM, help=argparse.SUPPRESS)
    parse.add_argument("--allow-user", type=int, action="append", default=[], help="a further uid that may connect")
    parse.add_argument(
        "--lease", type=float, default=7200, help="seconds an application lives unheard of (%(default)s)"
    )
    parse.add_argument(
        "--slab-wait", type=float, default=1.0, help="seconds to wait for the slab before spooling (%(default)s)"
    )
    parse.add_argument(
        "--transport",
        choices=("auto", "verbs", "tcp"),
        default="auto",
        help="how blocks come from peers: `auto` takes verbs where a device can be used, `verbs` does not start without one",
    )
    parse.add_argument("--device", help="RDMA device (default: the first whose port is up)")
    parse.add_argument("--gid-index", type=int, help="which address of its port (default: a RoCE v2 one of IPv4)")
    sizes = {
        "slab-bytes": (own.slab_bytes, "shared memory of one application; 0: none"),
        "pinned-bytes": (own.pinned_bytes, "shared memory of all applications"),
        "disk-bytes": (own.disk_bytes, "map outputs of all applications"),
        "spool-bytes": (own.spool_bytes, "fetched bytes of one application in files"),
        "in-flight-bytes": (own.in_flight_bytes, "bytes asked of all peers at once"),
        "stage-bytes": (verbs.stage_bytes, "pinned memory in which outputs of one application stand for RDMA READ"),
        "lane-bytes": (verbs.lane_bytes, "of that, what one lane of a peer may hold at once"),
        "credit-bytes": (tcp.bytes, "bytes that one connection of a peer may ask for at once"),
    }
    for name, (size, doc) in sizes.items():
        parse.add_argument(f"--{name}", type=_size, default=size, help=f"{doc} (default: {size or 'no limit'})")
    counts = {
        "connections": (own.connections, "connections of executors"),
        "applications": (own.applications, "applications at once"),
        "links": (tcp.links, "connections to peers"),
        "links-per-peer": (tcp.links_per_peer, "connections to one peer"),
        "accepted": (tcp.accepted, "connections of peers"),
        "lanes": (verbs.lanes, "RDMA queue pairs, those of peers included"),
        "credit-reads": (tcp.reads, "READs that one connection of a peer may have outstanding"),
    }
    for name, (count, doc) in counts.items():
        parse.add_argument(f"--{name}", type=int, default=count, help=f"{doc} (default: %(default)s)")
    parse.add_argument(
        "--stall", type=float, default=tcp.stall_s, help="seconds a peer may owe an answer (%(default)s)"
    )
    return parse


def read(words: argparse.Namespace) -> Settings:
    """The settings of a command line.

    Raises
    ------
    ServiceNotStarted
        An option is missing or wrong.
    """
    if not words.folder:
        raise ServiceNotStarted("no folder for map outputs", "give --folder, on the file system of spark.local.dir")
    if len(os.fsencode(words.socket)) > _LONGEST_SOCKET:
        raise ServiceNotStarted(f"the socket's path is longer than {_LONGEST_SOCKET} bytes", "give a shorter --socket")
    if words.listen and not words.cluster_secret:
        raise ServiceNotStarted("--listen without --cluster-secret", "peers must prove themselves: give both")
    for name in _AT_LEAST_ONE:
        if getattr(words, name) < 1:
            raise ServiceNotStarted(f"--{name.replace('_', '-')} must be at least 1")
    if words.lease <= 0 or words.in_flight_bytes < 1 or words.stall <= 0:
        raise ServiceNotStarted("--lease, --stall and --in-flight-bytes must be more than 0")
    return Settings(
        node=words.node,
        names=(words.node, *words.alias),
        socket=words.socket.absolute(),
        folders=tuple(Path(os.path.realpath(each)) for each in words.folder),
        shm=words.shm,
        listen=_address(words.listen, "--listen") if words.listen else None,
        peer_port=words.peer_port,
        peers=dict(map(_peer, words.peer)),
        cluster=_secret(words.cluster_secret) if words.cluster_secret else b"",
        metrics=words.metrics,
        users=frozenset({os.geteuid(), *words.allow_user}),
        lease_s=words.lease,
        slab_wait_s=words.slab_wait,
        limits=Limits(
            slab_bytes=words.slab_bytes,
            pinned_bytes=words.pinned_bytes,
            disk_bytes=words.disk_bytes,
            spool_bytes=words.spool_bytes,
            in_flight_bytes=words.in_flight_bytes,
            connections=words.connections,
            applications=words.applications,
        ),
        tcp=TcpLimits(
            links_per_peer=words.links_per_peer,
            links=words.links,
            accepted=words.accepted,
            reads=words.credit_reads,
            bytes=words.credit_bytes,
            stall_s=words.stall,
        ),
        transport=words.transport,
        verbs=VerbsLimits(
            device=words.device,
            gid_index=words.gid_index,
            stage_bytes=words.stage_bytes,
            lane_bytes=words.lane_bytes,
            lanes=words.lanes,
        ),
    )


def _size(word: str) -> int:
    found = _SIZE.fullmatch(word)
    if found is None:
        raise argparse.ArgumentTypeError(f"{word} is no size: digits, then k, m, g or t")
    return int(found[1]) << _POWERS[found[2].lower()]


def _address(word: str, option: str) -> tuple[str, int]:
    host, port = split(word, -1)
    if not 0 <= port <= 0xFFFF:
        raise ServiceNotStarted(f"{option} {word} is no HOST:PORT")
    return host, port


def _peer(word: str) -> tuple[str, tuple[str, int]]:
    node, _, address = word.partition("=")
    return node, _address(address, "--peer")


def _secret(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            secret = file.read().strip()
    except OSError as error:
        raise ServiceNotStarted(f"the cluster's secret {path}: {error.strerror}") from error
    if stat.S_IMODE(mode) & 0o077:
        raise ServiceNotStarted(f"the cluster's secret {path} can be read by others", f"chmod 600 {path}")
    if len(secret) < _LEAST_SECRET:
        raise ServiceNotStarted(f"the cluster's secret {path} is shorter than {_LEAST_SECRET} bytes")
    return secret
