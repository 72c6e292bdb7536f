"""Real shuffle services as processes on free ports of 127.0.0.1, and requests to them."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from firesteel.rdma_shuffle.client import Client, status, wait_until_up
from firesteel.rdma_shuffle.memory.slab import sweep
from firesteel.rdma_shuffle.wire.blocks import Range, Table
from support.waiting import wait_for

APP = "app-1"


def free_port() -> int:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        port: int = made.getsockname()[1]
        return port


def table_of(blocks: Sequence[bytes]) -> Table:
    from google_crc32c import value as crc32c

    return Table.of([(len(block), crc32c(block)) for block in blocks])


class Node:
    """A service process. `start` returns when it answers."""

    def __init__(self, cluster: Cluster, name: str, options: Sequence[str] = ()) -> None:
        self.cluster, self.name, self.options = cluster, name, list(options)
        self.port = free_port()
        self.base = cluster.base / name
        self.base.mkdir()
        self.socket = self.base / "s"
        self.folder = self.base / "folder"
        self.log = self.base / "log"
        self.process: subprocess.Popen[bytes] | None = None
        self.wrapper: list[str] = []

    def args(self) -> list[str]:
        args = ["--socket", str(self.socket), "--folder", str(self.folder), "--node", self.name]
        args += ["--listen", f"127.0.0.1:{self.port}", "--cluster-secret", str(self.cluster.secret_file)]
        for other in self.cluster.nodes.values():
            if other is not self:
                args += ["--peer", f"{other.name}=127.0.0.1:{other.port}"]
        return args + self.options

    def start(self) -> Node:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.wrapper, sys.executable, "-m", "firesteel.rdma_shuffle.service", *self.args()],
                stdout=log,
                stderr=log,
            )
        wait_until_up(self.socket, 90)
        return self

    def send(self, number: signal.Signals) -> None:
        assert self.process
        self.process.send_signal(number)

    def kill(self) -> None:
        """Kill the service without a chance to clean up."""
        assert self.process
        self.process.kill()
        self.process.wait(10)

    def stop(self) -> int:
        """Stop the service by SIGTERM, and return its exit status."""
        if self.process is None or self.process.poll() is not None:
            return 0
        self.process.send_signal(signal.SIGCONT)
        self.process.terminate()
        try:
            return self.process.wait(90)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)
            raise

    def client(self, application: str = APP, key: bytes | None = None) -> Client:
        """Return a connection on which the application is claimed and authenticated."""
        key = key or self.cluster.key
        client = Client(self.socket, timeout_s=90)
        client.claim(application, key)
        client.hello(application, key)
        return client

    def put(
        self, client: Client, shuffle: int, map_id: int, blocks: Sequence[bytes], application: str = APP
    ) -> list[Range]:
        """Register a map output, and return a range for each of its reduces."""
        data = self.folder / application / f"shuffle_{shuffle}_{map_id}_0.data"
        data.write_bytes(b"".join(blocks))
        client.register(shuffle, map_id, str(data) if any(blocks) else "", "", table_of(blocks))
        return [Range(shuffle, map_id, reduce, reduce + 1) for reduce in range(len(blocks))]

    def output(self, shuffle: int, map_id: int, application: str = APP) -> Path:
        return self.folder / application / ".service" / "outputs" / f"{shuffle}" / f"{map_id}"

    def contents(self) -> set[str]:
        """Return the content of its folder, except its lock and emptied trash."""
        wait_for(lambda: not list((self.folder / ".trash").iterdir()), "the trash is emptied")
        return {path.name for path in self.folder.iterdir()} - {".lock", ".trash"}

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(status(self.socket))
        return found

    def gauge(self, name: str) -> float:
        found: float = self.status()["gauges"][name]
        return found

    def slabs(self) -> list[Path]:
        """Return the names in shared memory that belong to this process."""
        assert self.process
        found = Path(f"/proc/{self.process.pid}/maps").read_text().splitlines()
        return sorted({Path(line.split()[-1]) for line in found if "/dev/shm/firesteel-" in line})


class Cluster:
    """Nodes that know each other. Ends all of them on exit, and checks their exit status."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.key = secrets.token_bytes(32)
        self.secret = secrets.token_hex(32).encode()
        self.secret_file = base / "cluster-secret"
        self.secret_file.write_bytes(self.secret)
        self.secret_file.chmod(0o600)
        self.nodes: dict[str, Node] = {}
        self._clients: list[Client] = []

    def node(self, name: str, *options: str) -> Node:
        node = self.nodes[name] = Node(self, name, options)
        return node

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        codes = {node.name: node.stop() for node in self.nodes.values()}
        for node in self.nodes.values():  # a killed one leaves its slabs to its next life, which never comes here
            owner = f"{node.name}-{zlib.crc32(os.fsencode(os.path.realpath(node.folder))):08x}"
            sweep(Path("/dev/shm"), owner)
        wrong = {name: code for name, code in codes.items() if code}
        faults = {
            node.name: node.log.read_text()
            for node in self.nodes.values()
            if node.log.exists() and "Traceback" in node.log.read_text()
        }
        assert not wrong, f"services ended with {wrong}"
        assert not faults, faults


def pair(cluster: Cluster, *options: str) -> tuple[Node, Node]:
    """Return two started nodes."""
    first, second = cluster.node("node-a", *options), cluster.node("node-b", *options)
    return first.start(), second.start()


def settled(node: Node) -> None:
    """Wait until no memory is lent and nothing is in transit."""
    names = ("lent_bytes", "fenced_bytes", "spool_bytes", "leases", "in_flight_bytes")
    wait_for(lambda: not any(node.gauge(name) for name in names), f"{node.name} holds nothing")


def open_files(node: Node) -> int:
    assert node.process
    return len(os.listdir(f"/proc/{node.process.pid}/fd"))
