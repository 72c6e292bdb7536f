"""What a request, a block and a MiB cost the shuffle service, in CPU time of two real services that read from each other by TCP.

    python benchmarks/shuffle_costs.py [--measure]

`--measure` measures on this machine, and stores the times and the environment in benchmarks/results/shuffle_costs.json. Without it,
only the table of docs/concepts/rdma-scaling.md is rewritten.
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
from pathlib import Path
from statistics import median
from typing import Any

from google_crc32c import value as crc32c

from firesteel.rdma_shuffle.client import Client, wait_until_up
from firesteel.rdma_shuffle.wire.blocks import Range, Table
from firesteel.rdma_shuffle.wire.messages import Blocks, Fetch, decode

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "shuffle_costs.json"
PAGE = HERE.parent / "docs" / "concepts" / "rdma-scaling.md"
BEGIN, END = "<!-- table: python benchmarks/shuffle_costs.py -->", "<!-- end of table -->"


@dataclass(frozen=True, slots=True)
class Costs:
    """CPU time of one side in microseconds: per request, per block in it, and per MiB."""

    request: float
    block: float
    mib: float


def table(found: dict[str, Any]) -> str:
    """Return the table of the page."""
    lines = ["| side | a request | each block | each MiB |", "|---|---|---|---|"]
    for name in ("reader", "owner"):
        costs = Costs(**found[name])
        lines.append(f"| {name} | {costs.request:.0f} us | {costs.block:.1f} us | {costs.mib:.0f} us |")
    of = found["environment"]
    return "\n".join(
        [*lines, "", f"Python {of['python']}, {of['machine']}, {of['cores']} cores, transport {of['transport']}."]
    )


# -- the constants ---------------------------------------------------------------------------------------------------


def measure(rounds: int) -> dict[str, Any]:
    """Measure three shapes of request, which give the three costs of each side."""
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
    assert all(hasattr(result, "table") for result in blocks.results), blocks.results
    reader.release(blocks.lease)


def _cpu(pid: int) -> float:
    """Return the CPU seconds of all threads of a process, in nanosecond precision."""
    return time.clock_gettime(_clock(pid))


def _clock(pid: int) -> int:
    return (~pid << 3) | 2  # CLOCK_PROCESS_CPUTIME_ID of another process, as clock_getcpuclockid(3) makes it


def main() -> None:
    """Measure if requested, and write the table."""
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("--measure", action="store_true", help="measure anew")
    parse.add_argument("--rounds", type=int, default=7)
    asked = parse.parse_args()
    if asked.measure:
        RESULTS.write_text(json.dumps(measure(asked.rounds), indent=2) + "\n", encoding="utf-8")
    found = json.loads(RESULTS.read_text(encoding="utf-8"))
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{table(found)}\n{END}{rest.partition(END)[2]}", encoding="utf-8")


if __name__ == "__main__":
    main()
