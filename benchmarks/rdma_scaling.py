"""The shuffle service on paper, for clusters that nobody here has: what bounds a node when there are 10, 100, 1,000, 10,000 of them.

    python benchmarks/rdma_scaling.py [--measure]

`--measure` times the constants on this machine, in CPU seconds of two real services on TCP, and keeps them with the environment in
benchmarks/results/rdma_scaling.json. The table goes into docs/concepts/rdma-scaling.md, which says what the model leaves out.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from math import ceil
from pathlib import Path
from statistics import median
from typing import Any

from google_crc32c import value as crc32c

from firesteel.rdma_shuffle.client import Client, wait_until_up
from firesteel.rdma_shuffle.wire.blocks import Range, Table
from firesteel.rdma_shuffle.wire.messages import Blocks, Fetch, decode

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "rdma_scaling.json"
PAGE = HERE.parent / "docs" / "concepts" / "rdma-scaling.md"
BEGIN, END = "<!-- table: python benchmarks/rdma_scaling.py -->", "<!-- end of table -->"

NODES = (10, 100, 1_000, 10_000)
CORES = 32
TASKS_PER_CORE = 2
SHUFFLED = 32_000_000_000
"""Bytes that each node writes and reads in one shuffle: the work grows with the cluster."""
LINK = 12_500_000_000
"""Bytes a second: 100 Gb/s."""
FETCH = 10_066_329
"""Bytes of one request at most: Spark's `spark.reducer.maxSizeInFlight` / 5."""
EXECUTORS = 8
"""Of a node, for the comparison with queue pairs of executors."""
NIC_CACHE, QP_STATE = 2_000_000, 375
"""Bytes of connection state that a NIC of 2018 holds, and of one connection: Kalia, Kaminsky, Andersen, "Datacenter RPCs can be
General and Fast", NSDI 2019, section 2."""


@dataclass(frozen=True, slots=True)
class Costs:
    """Microseconds of CPU at one side, for a request, for a block in it, and for a MiB."""

    request: float
    block: float
    mib: float

    def seconds(self, requests: float, blocks: float, size: float) -> float:
        """What a shuffle costs this side."""
        return (self.request * requests + self.block * blocks + self.mib * size / (1 << 20)) / 1e6


def row(nodes: int, reader: Costs, owner: Costs, partitions_per_core: int = TASKS_PER_CORE) -> dict[str, Any]:
    """One size of cluster, by node."""
    tasks = CORES * TASKS_PER_CORE
    reduces = CORES * partitions_per_core  # of this node
    from_each = SHUFFLED / reduces / nodes
    requests = reduces * nodes * ceil(from_each / FETCH)
    blocks = reduces * tasks * nodes
    moved = SHUFFLED * (nodes - 1) / nodes
    return {
        "nodes": nodes,
        "block": SHUFFLED / reduces / (tasks * nodes),
        "request": min(from_each, FETCH),
        "requests": requests,
        "blocks": blocks,
        "link_s": moved / LINK,
        "reader_s": reader.seconds(requests, blocks, moved),
        "owner_s": owner.seconds(requests, blocks, moved),
        "pairs": 2 * (nodes - 1),
        "pairs_of_executors": EXECUTORS * EXECUTORS * (nodes - 1),
    }


def table(found: dict[str, Any]) -> str:
    """The table of the page."""
    reader, owner = Costs(**found["reader"]), Costs(**found["owner"])
    lines = [
        "| nodes | one block | one request | requests a node | blocks a node | link | CPU, reader + owner | queue pairs a node | of executors |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for nodes in NODES:
        each = row(nodes, reader, owner)
        lines.append(
            f"| {nodes:,} | {_bytes(each['block'])} | {_bytes(each['request'])} | {each['requests']:,} | {each['blocks']:,} "
            f"| {each['link_s']:.1f} s | {each['reader_s']:,.0f} s + {each['owner_s']:,.0f} s "
            f"| {each['pairs']:,} | {each['pairs_of_executors']:,} |"
        )
    said = f"Measured on TCP, microseconds of CPU: reader {_costs(reader)}; owner {_costs(owner)}."
    holds = f"A NIC's cache of {NIC_CACHE / 1e6:.0f} MB holds {NIC_CACHE // QP_STATE:,} connections."
    return "\n".join([*lines, "", f"{said} {holds}"])


def _costs(costs: Costs) -> str:
    return f"{costs.request:.0f} a request, {costs.block:.1f} a block, {costs.mib:.0f} a MiB"


def _bytes(size: float) -> str:
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return f"{size:.0f} B"


# -- the constants ---------------------------------------------------------------------------------------------------


def measure(rounds: int) -> dict[str, Any]:
    """Three shapes of request tell three constants of each side."""
    shapes = {"one small": (1, 1024, 400), "many small": (256, 1024, 100), "one large": (1, 8 << 20, 60)}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        base = Path(folder)
        pids, clients = _services(base, stack)
        asked = {name: _put(clients[1], base / "b-folder", *shape[:2]) for name, shape in shapes.items()}
        taken: dict[str, list[tuple[float, float]]] = {name: [] for name in shapes}
        for _ in range(rounds + 1):  # the first warms up
            for name, (_, _, count) in shapes.items():
                before = [_cpu(pid) for pid in pids]
                for _ in range(count):
                    _fetch(clients[0], asked[name])
                taken[name].append(tuple((_cpu(pid) - at) / count * 1e6 for pid, at in zip(pids, before, strict=True)))
    sides = {}
    for side, name in enumerate(("reader", "owner")):
        us = {shape: median(each[side] for each in rounds_[1:]) for shape, rounds_ in taken.items()}
        block = (us["many small"] - us["one small"]) / 255
        mib = (us["one large"] - us["one small"]) / 8
        sides[name] = asdict(Costs(round(us["one small"] - block, 1), round(block, 2), round(mib, 1)))
    environment = {
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "load": round(os.getloadavg()[0], 1),
        "transport": "tcp",
    }
    return {**sides, "microseconds": taken, "environment": environment}


def _services(base: Path, stack: ExitStack) -> tuple[list[int], list[Client]]:
    secret = base / "secret"
    secret.touch(0o600)
    secret.write_bytes(b"c" * 32)
    pids, clients = [], []
    for port, name in ((7500, "a"), (7501, "b")):
        words = ["--node", name, "--socket", str(base / name), "--folder", str(base / f"{name}-folder")]
        words += ["--listen", f"127.0.0.1:{port}", "--cluster-secret", str(secret), "--transport", "tcp"]
        words += ["--peer", "a=127.0.0.1:7500", "--peer", "b=127.0.0.1:7501"]
        command = [sys.executable, "-m", "firesteel.rdma_shuffle.service", *words]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        stack.callback(process.wait, 30)
        stack.callback(process.terminate)
        wait_until_up(base / name, 60)
        client = Client(base / name, timeout_s=120)
        stack.callback(client.close)
        client.claim("scaling", b"k" * 32)
        client.hello("scaling", b"k" * 32)
        pids.append(process.pid)
        clients.append(client)
    return pids, clients


def _put(owner: Client, folder: Path, blocks: int, size: int) -> list[Range]:
    made = [secrets.token_bytes(size) for _ in range(blocks)]
    data = folder / "scaling" / f"{blocks}-{size}.data"
    data.write_bytes(b"".join(made))
    number = blocks * 100 + (size >> 20)
    owner.register(0, number, str(data), "", Table.of([(len(each), crc32c(each)) for each in made]))
    return [Range(0, number, reduce, reduce + 1) for reduce in range(blocks)]


def _fetch(reader: Client, asked: Sequence[Range]) -> None:
    reader.send(Fetch("b", 120_000, tuple(asked)))
    answer = reader.receive()
    blocks = decode(answer.kind, answer.body)
    assert isinstance(blocks, Blocks), blocks
    assert all(hasattr(each, "table") for each in blocks.results), blocks.results
    reader.release(blocks.lease)


def _cpu(pid: int) -> float:
    """CPU seconds of all threads of a process, to the nanosecond."""
    return time.clock_gettime(_clock(pid))


def _clock(pid: int) -> int:
    return (~pid << 3) | 2  # CLOCK_PROCESS_CPUTIME_ID of another process, as clock_getcpuclockid(3) makes it


def main() -> None:
    """See the module."""
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("--measure", action="store_true", help="time the constants anew")
    parse.add_argument("--rounds", type=int, default=7)
    asked = parse.parse_args()
    if asked.measure:
        RESULTS.write_text(json.dumps(measure(asked.rounds), indent=2) + "\n", encoding="utf-8")
    found = json.loads(RESULTS.read_text(encoding="utf-8"))
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{table(found)}\n{END}{rest.partition(END)[2]}", encoding="utf-8")


if __name__ == "__main__":
    main()
