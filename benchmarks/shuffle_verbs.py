"""How much of a device's bandwidth the shuffle service uses: blocks read by verbs through two services, against `ib_read_bw`.

    python benchmarks/shuffle_verbs.py [--rounds 5]

On a machine without RDMA devices it runs in a guest with two Soft-RoCE devices (tools/guest). There the CPU executes a READ: only
the ratios mean something, and they say nothing about hardware. Each round measures, one after the other: `ib_read_bw`, timed from
outside (the guest has no clock for it) by two runs of different length; the services by verbs; the services by TCP. CPU seconds are
those of the whole machine. Each measurement moves 1 GiB, because the start costs as much as a few hundred MiB. Raw numbers and the
environment go to benchmarks/results/shuffle_verbs.json.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import mmap
import os
import platform
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from firesteel.rdma_shuffle.client import Client, status, wait_until_up
from firesteel.rdma_shuffle.transport.verbs.device import Device
from firesteel.rdma_shuffle.transport.verbs.domain import Domain
from firesteel.rdma_shuffle.transport.verbs.queue_pair import QueuePair
from firesteel.rdma_shuffle.wire.blocks import Range, Table
from firesteel.rdma_shuffle.wire.messages import Blocks, Fetch, decode
from machine import cpu_seconds

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "shuffle_verbs.json"
DEVICES = {"node-a": ("rxe0", "10.77.0.1"), "node-b": ("rxe1", "10.77.0.2")}
SIZES = {"1 MiB": 1 << 20, "64 KiB": 1 << 16}
APP, KEY = "benchmark", b"k" * 32
FETCH_BYTES = 8 << 20
"""Of one FETCH: what Spark asks for at a time is `spark.reducer.maxSizeInFlight` / 5, 9.6 MiB."""
OUTSTANDING = 4
READS = 16
"""That ib_read_bw has on their way at a time: as many as a channel may have. Its own 128 lose packets on Soft-RoCE."""
_GIB = 1 << 30


@dataclass(frozen=True)
class Spent:
    """The cost of moving `bytes`."""

    bytes: int
    seconds: float
    cpu_seconds: float

    def minus(self, other: Spent) -> Spent:
        return Spent(self.bytes - other.bytes, self.seconds - other.seconds, self.cpu_seconds - other.cpu_seconds)

    def told(self) -> dict[str, float]:
        return {
            "bytes": self.bytes,
            "seconds": round(self.seconds, 4),
            "cpu_seconds": round(self.cpu_seconds, 3),
            "mib_per_second": round(self.bytes / self.seconds / (1 << 20), 2),
            "cpu_seconds_per_gib": round(self.cpu_seconds / self.bytes * _GIB, 3),
        }


def spent(work: Callable[[], int]) -> Spent:
    cpu, clock = cpu_seconds(), time.monotonic()
    moved = work()
    return Spent(moved, time.monotonic() - clock, cpu_seconds() - cpu)


# -- ib_read_bw ------------------------------------------------------------------------------------------------------


PORT = 18515
"""Of ib_read_bw's own connection, on which its two sides find each other."""


def perftest(size: int, count: int) -> Spent:
    """Run `count` READs by ib_read_bw with completion events: polling would starve Soft-RoCE of the only CPU."""
    words = ["ib_read_bw", "-e", "-F", "-x", "1", "-s", str(size), "-n", str(count), "-p", str(PORT)]
    words += ["-t", str(READS), "-o", str(READS)]
    client = [*words, "-d", DEVICES["node-a"][0], DEVICES["node-b"][1]]
    server = subprocess.Popen([*words, "-d", DEVICES["node-b"][0]], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 30
        while not _listened(PORT):
            if time.monotonic() > deadline or server.poll() is not None:
                raise RuntimeError(f"ib_read_bw does not listen on {PORT}")
            time.sleep(0.05)
        found = spent(lambda: subprocess.run(client, capture_output=True, check=True) and size * count)
        server.wait(30)
    finally:
        server.kill()
        server.wait()
    return found


def _listened(port: int) -> bool:
    lines = [each for name in ("tcp", "tcp6") for each in Path("/proc/net", name).read_text().splitlines()]
    return any(line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "0A" for line in lines[1:])


# -- services --------------------------------------------------------------------------------------------------------


@contextmanager
def services(base: Path, transport: str) -> Iterator[tuple[Client, Client, Path]]:
    """Start two services with a client each, each on one device."""
    secret = base / "secret"
    secret.touch(0o600)
    secret.write_bytes(b"c" * 32)
    processes, clients = [], []
    try:
        for port, (name, (device, _)) in enumerate(DEVICES.items(), 7500):
            words = ["--node", name, "--socket", str(base / name), "--folder", str(base / f"{name}-folder")]
            words += ["--listen", f"127.0.0.1:{port}", "--cluster-secret", str(secret), "--transport", transport]
            words += ["--device", device, "--peer", "node-a=127.0.0.1:7500", "--peer", "node-b=127.0.0.1:7501"]
            words += ["--slab-bytes", "128m"]
            command = [sys.executable, "-m", "firesteel.rdma_shuffle.service", *words]
            processes.append(subprocess.Popen(command, stderr=subprocess.DEVNULL))
            wait_until_up(base / name, 60)
            client = Client(base / name, timeout_s=120)
            client.claim(APP, KEY)
            client.hello(APP, KEY)
            clients.append(client)
        yield clients[0], clients[1], base / "node-b-folder"
    finally:
        for client in clients:
            client.close()
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(30)


def put(owner: Client, folder: Path, size: int) -> list[Range]:
    """Register a map output with the bytes of one FETCH, in blocks of `size`."""
    from google_crc32c import value as crc32c

    blocks = [secrets.token_bytes(size) for _ in range(FETCH_BYTES // size)]
    data = folder / APP / f"{size}.data"
    data.write_bytes(b"".join(blocks))
    owner.register(0, size, str(data), "", Table.of([(len(block), crc32c(block)) for block in blocks]))
    return [Range(0, size, reduce, reduce + 1) for reduce in range(len(blocks))]


def fetch(reader: Client, asked: Sequence[Range], fetches: int) -> int:
    """Read all blocks `fetches` times, with several concurrent FETCHes. The bytes in shared memory are not checked."""
    sent = 0
    for _ in range(min(OUTSTANDING, fetches)):
        reader.send(Fetch("node-b", 120_000, tuple(asked)))
        sent += 1
    for _ in range(fetches):
        answer = reader.receive()
        blocks = decode(answer.kind, answer.body)
        assert isinstance(blocks, Blocks), blocks
        assert all(hasattr(result, "table") for result in blocks.results), blocks.results
        reader.release(blocks.lease)
        if sent < fetches:
            reader.send(Fetch("node-b", 120_000, tuple(asked)))
            sent += 1
    return fetches * FETCH_BYTES


def through_services(transport: str, size: int, fetches: int) -> Spent:
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        with services(base, transport) as (reader, owner, outputs):
            asked = put(owner, outputs, size)
            fetch(reader, asked, OUTSTANDING)  # channels, slabs, first pages
            before = json.loads(status(base / "node-a"))
            found = spent(lambda: fetch(reader, asked, fetches))
            told = json.loads(status(base / "node-a"))
            if transport == "verbs":
                moved = told["gauges"]["verbs_bytes"] - before["gauges"]["verbs_bytes"]
                assert (moved, told["verbs"]["fallbacks"]) == (found.bytes, {}), told
            return found


# -- what Python costs ------------------------------------------------------------------------------------------------


async def requests(count: int) -> dict[str, float]:
    """READs of 8 bytes one after the other, between two queue pairs of this process: posting, the event, the future."""
    device = Device.open(DEVICES["node-a"][0])
    domain = Domain(device)
    reads, serves = QueuePair(device, domain, serves=False), QueuePair(device, domain, serves=True)
    slab, staging = domain.registered_slab(memoryview(mmap.mmap(-1, 1 << 16))), domain.stage(1 << 16)
    serves.connect(reads.end)
    reads.connect(serves.end)
    cpu = time.process_time()
    for _ in range(count):
        await reads.read(slab.base, slab.lkey, 8, staging.base, staging.rkey)
    cpu = time.process_time() - cpu
    reads.destroy()
    serves.destroy()
    domain.close()
    device.close()
    return {"cpu_us_of_a_read": round(cpu / count * 1e6, 1)}


# -- all of it -------------------------------------------------------------------------------------------------------


def measure(rounds: int, mib: int) -> dict[str, Any]:
    found: dict[str, Any] = {name: [] for name in SIZES}
    for _ in range(rounds):
        for name, size in SIZES.items():
            count = (mib << 20) // size
            short, long = perftest(size, count // 4), perftest(size, count + count // 4)
            each = {
                "ib_read_bw": long.minus(short).told(),
                "verbs": through_services("verbs", size, (mib << 20) // FETCH_BYTES).told(),
                "tcp": through_services("tcp", size, (mib << 20) // FETCH_BYTES).told(),
            }
            print(name, each, flush=True)
            found[name].append(each)
    return {
        "rounds": found,
        "python": asyncio.run(requests(2000)),
        "ratios": {
            name: {
                "verbs / ib_read_bw, bytes a second": _ratio(each, "verbs", "ib_read_bw", "mib_per_second"),
                "verbs / ib_read_bw, CPU seconds a GiB": _ratio(each, "verbs", "ib_read_bw", "cpu_seconds_per_gib"),
                "verbs / tcp, bytes a second": _ratio(each, "verbs", "tcp", "mib_per_second"),
                "verbs / tcp, CPU seconds a GiB": _ratio(each, "verbs", "tcp", "cpu_seconds_per_gib"),
            }
            for name, each in found.items()
        },
        "environment": {
            "system_call_us": system_call_us(),
            "what": "Soft-RoCE (rdma_rxe) between two interfaces of one User-Mode Linux guest of one CPU; no hardware",
            "kernel": platform.release(),
            "python": platform.python_version(),
            "outstanding": OUTSTANDING,
            "fetch_bytes": FETCH_BYTES,
        },
    }


def system_call_us() -> float:
    """Return the microseconds of the shortest system call. It is slower in a guest than on an ordinary kernel."""
    began = time.monotonic()
    for _ in range(10_000):
        os.getppid()
    return round((time.monotonic() - began) * 100, 2)


def _ratio(rounds: Sequence[dict[str, dict[str, float]]], over: str, under: str, what: str) -> float:
    return round(median(each[over][what] / each[under][what] for each in rounds), 3)


def main() -> None:
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("--rounds", type=int, default=5)
    parse.add_argument("--mib", type=int, default=1024, help="what each measurement moves (%(default)s)")
    parse.add_argument("--out", type=Path, default=RESULTS)
    parse.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    asked = parse.parse_args()
    if asked.inside:
        asked.out.write_text(json.dumps(measure(asked.rounds, asked.mib), indent=2) + "\n")
        return
    sys.path.insert(0, str(HERE.parent / "tools"))
    from guest.boot import Guest, kernel

    words = [sys.executable, str(Path(__file__)), "--inside", "--out", "/run/share/found.json"]
    words += ["--rounds", str(asked.rounds), "--mib", str(asked.mib)]
    with tempfile.TemporaryDirectory() as folder, Guest(kernel(build=True), Path(folder), memory_mib=2560) as guest:
        print(guest.start(words).wait(3000).check())
        found = json.loads((Path(folder) / "found.json").read_text())
    found["environment"]["load_of_the_host"] = os.getloadavg()[0]
    asked.out.write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found["ratios"], indent=2))


if __name__ == "__main__":
    main()
