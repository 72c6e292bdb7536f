"""One of two machines on a link, run in a guest: `python two_machines.py owner|reader`. Its output goes to /run/share.

The owner serves outputs with computable content until its machine is stopped. The reader reads them, reports the transport, and
continues until the owner is lost.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from pathlib import Path

from firesteel.rdma_shuffle.client import Client, status, wait_until_up
from firesteel.rdma_shuffle.wire.blocks import Found, Missing, Range
from firesteel.rdma_shuffle.wire.fault import ShuffleFault
from support.shuffle_node import table_of

SHARE = Path("/run/share")
BASE = Path("/tmp/node")
APP, KEY, CLUSTER = "two-machines", b"a" * 32, b"c" * 32
MAPS = 4
SIZES = (6 << 20, 1, 0, 70_000)
ADDRESSES = {"node-a": "10.77.0.1", "node-b": "10.77.0.2"}


def blocks(map_id: int) -> list[bytes]:
    source = random.Random(map_id)
    return [source.randbytes(size) for size in SIZES]


def start(name: str) -> subprocess.Popen[bytes]:
    BASE.mkdir()
    secret = BASE / "secret"
    secret.touch(0o600)
    secret.write_bytes(CLUSTER)
    args = ["--node", name, "--socket", str(BASE / "s"), "--folder", str(BASE / "folder"), "--transport", "verbs"]
    args += ["--listen", f"{ADDRESSES[name]}:7447", "--cluster-secret", str(secret), "--stall", "10"]
    args += [word for other, address in ADDRESSES.items() for word in ("--peer", f"{other}={address}:7447")]
    with (SHARE / "service.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "firesteel.rdma_shuffle.service", *args], stdout=log, stderr=log
        )
    wait_until_up(BASE / "s", 60)
    return process


def client() -> Client:
    made = Client(BASE / "s", timeout_s=90)
    made.claim(APP, KEY)
    made.hello(APP, KEY)
    return made


def tell(name: str, what: object) -> None:
    part = SHARE / f"{name}.part"
    part.write_text(json.dumps(what))
    part.rename(SHARE / name)


def own() -> None:
    start("node-b")
    with client() as mine:
        for map_id in range(MAPS):
            data = BASE / "folder" / APP / f"{map_id}.data"
            data.write_bytes(b"".join(blocks(map_id)))
            mine.register(0, map_id, str(data), "", table_of(blocks(map_id)))
        tell("ready", True)
        time.sleep(600)


def read() -> None:
    process = start("node-a")
    asked = [Range(0, map_id, reduce, reduce + 1) for map_id in range(MAPS) for reduce in range(len(SIZES))]
    with client() as mine:
        got = mine.fetch("node-b", asked, 60)
        right = [mine.read(result) for result in got.results] == [
            block for map_id in range(MAPS) for block in blocks(map_id)
        ]
        mine.release(got.lease)
        tell("whole", {"right": right, "status": json.loads(status(BASE / "s"))})
        reasons: set[str] = set()
        deadline = time.monotonic() + 120
        while not reasons and time.monotonic() < deadline:
            began = time.monotonic()
            try:
                got = mine.fetch("node-b", asked, 60)
            except ShuffleFault as fault:
                reasons.add(fault.reason.name)
                continue
            reasons |= {result.reason.name for result in got.results if isinstance(result, Missing)}
            whole = all(mine.read(result) is not None for result in got.results if isinstance(result, Found))
            mine.release(got.lease)
            if not whole:
                reasons.add("BYTES ARE WRONG")
            tell("reading", True)
        took = time.monotonic() - began
        while json.loads(status(BASE / "s"))["gauges"]["fenced_bytes"] and time.monotonic() < deadline:
            time.sleep(0.05)
        tell("lost", {"reasons": sorted(reasons), "took": took, "status": json.loads(status(BASE / "s"))})
    process.terminate()
    tell("ended", process.wait(60))


if __name__ == "__main__":
    {"owner": own, "reader": read}[sys.argv[1]]()
