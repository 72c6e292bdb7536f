"""Real `firesteel-shuffled` processes, one per address of this machine; each address stands for a node."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

from firesteel.jobs.embedded.ports import remembered_ports
from support.waiting import wait_for

NODES = ("127.0.0.1", "127.0.0.2")


class Services:
    """The services of the nodes. `socket` is the value of `spark.firesteel.shuffle.socket` for all of them.

    `{number}` in one of `args` is replaced by the number of the node.
    """

    def __init__(self, folder: Path, nodes: tuple[str, ...] = NODES, *args: str) -> None:
        self.folder, self.nodes, self._args = folder, nodes, args
        self.socket = folder / "{host}"
        self._secret = folder / "secret"
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        folder.mkdir(parents=True, exist_ok=True)
        self._secret.touch(0o600)
        self._secret.write_text(secrets.token_hex(32))
        self._ports = remembered_ports(folder / "ports.json", list(nodes))

    def __enter__(self) -> Self:
        try:
            for node in self.nodes:
                self.start(node)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for node in list(self._processes):
            self._processes[node].terminate()
        for node in list(self._processes):
            self._processes.pop(node).wait(30)

    def start(self, node: str) -> None:
        """Start the node's service. Return when it answers."""
        args = ["--socket", str(self.folder / node), "--folder", str(self.folder / f"outputs-{node}"), "--node", node]
        args += ["--listen", f"{node}:{self._ports[node]}", "--cluster-secret", str(self._secret)]
        for other in self.nodes:
            args += ["--peer", f"{other}={other}:{self._ports[other]}"]
        args += [word.replace("{number}", str(self.nodes.index(node))) for word in self._args]
        (self.folder / f"outputs-{node}").mkdir(exist_ok=True)
        with (self.folder / f"{node}.log").open("a") as log:
            command = [sys.executable, "-m", "firesteel.rdma_shuffle.service", *args]
            process = subprocess.Popen(command, stdout=log, stderr=log, env=dict(os.environ))
        self._processes[node] = process
        wait_for(lambda: process.poll() is not None or bool(self._ask(node)), f"the service of {node} answers")
        assert process.poll() is None, (self.folder / f"{node}.log").read_text()

    def kill(self, node: str) -> None:
        """Kill the service with SIGKILL."""
        process = self._processes.pop(node)
        process.kill()
        process.wait()

    def status(self, node: str) -> dict[str, Any]:
        """Return the output of `--status`."""
        return json.loads(self._ask(node))

    def total(self, counter: str) -> int:
        """Return the sum of a counter over the nodes."""
        return sum(self.status(node)["counters"][counter] for node in self.nodes)

    def gauge(self, name: str) -> int:
        """Return the sum of a gauge over the nodes."""
        return sum(self.status(node)["gauges"][name] for node in self.nodes)

    def _ask(self, node: str) -> str:
        command = [
            sys.executable,
            "-m",
            "firesteel.rdma_shuffle.service",
            "--socket",
            str(self.folder / node),
            "--status",
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        return done.stdout if done.returncode == 0 else ""
