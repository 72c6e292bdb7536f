"""The shuffle by its services, over TCP and from local files, against Spark's own shuffle on the same jobs.

    python benchmarks/shuffle_spark.py [--rounds 3]

A standalone cluster has two executors with one core: on two addresses of this machine, which are two nodes for Spark, and on one.
The applications of all contenders run at once and take turns with each job, so that other load affects all alike. The first
contender changes from round to round. The first round, in which code is compiled, does not count. Rows are random bytes and do not
compress. The time is that of the whole job, with maps and reduces. CPU seconds are those of the whole machine, with services and
drivers. All contenders must have the same digest. Raw numbers and the environment go to benchmarks/results/shuffle_spark.json.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
os.environ["PYSPARK_PYTHON"] = os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from firesteel.jobs.embedded.standalone import EmbeddedStandalone
from machine import cpu_seconds, environment
from support.shuffle import Application, plugin_conf, worker_on
from support.shuffle_services import NODES, Services

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "shuffle_spark.json"


@dataclass(frozen=True)
class Shuffle:
    """A job with a number of bytes in maps x reduces blocks."""

    name: str
    mib: int
    maps: int
    reduces: int
    row_bytes: int = 4096
    kind: str = "group"


SHUFFLES = (
    Shuffle("blocks of 1 KiB", 64, 256, 256, row_bytes=256),
    Shuffle("blocks of 16 KiB", 256, 128, 128),
    Shuffle("blocks of 64 KiB", 1024, 128, 128),
    Shuffle("blocks of 1 MiB", 1024, 32, 32),
    Shuffle("blocks of 16 MiB", 1024, 8, 8),
    Shuffle("group, 2 GiB", 2048, 32, 32),
    Shuffle("sort, 2 GiB", 2048, 32, 32, kind="sort"),
)
ORDINARY = {
    "spark.cores.max": "2",
    "spark.executor.cores": "1",
    "spark.executor.memory": "2g",
    "spark.driver.extraJavaOptions": "",
    "spark.executor.extraJavaOptions": "",
}
"""The second compiler is on, as for everybody."""


@contextlib.contextmanager
def two_nodes(folder: Path) -> Iterator[tuple[str, Services]]:
    """Start a Worker and a service on each of two addresses."""
    with (
        EmbeddedStandalone(folder / "cluster", workers=1, cores=3, memory="9g") as cluster,
        Services(folder / "services") as services,
        worker_on(NODES[1], cluster, folder, cores=3, memory="9g"),
    ):
        yield cluster.master, services


@contextlib.contextmanager
def one_node(folder: Path) -> Iterator[tuple[str, Services]]:
    """Start two Workers and a service on one address."""
    with (
        EmbeddedStandalone(folder / "cluster", workers=2, cores=3, memory="9g") as cluster,
        Services(folder / "services", NODES[:1]) as services,
    ):
        yield cluster.master, services


def contenders(place: str, services: Services) -> dict[str, dict[str, str]]:
    """Return the Spark settings of each contender."""
    found = {"Netty": {"spark.shuffle.readHostLocalDisk": "false"}}
    if place == "one node":
        found["Spark, the other's files"] = {}  # its default
    return found | {"firesteel": plugin_conf(services.socket, nettyFallback="false")}


def settled(folder: Path) -> None:
    """Wait until the outputs of the last job are deleted, so that the next job does not pay for them."""
    deadline = time.monotonic() + 60
    while left := outputs(folder):
        if time.monotonic() > deadline:
            raise RuntimeError(f"{left} bytes of outputs are still there")
        time.sleep(0.2)


def outputs(folder: Path) -> int:
    """Return the bytes of map outputs of all contenders."""
    left = 0
    for inside, _, names in os.walk(folder):  # pathlib's own stops at a folder that goes meanwhile
        for name in names:
            if name.endswith(".data"):
                with contextlib.suppress(OSError):
                    left += Path(inside, name).stat().st_size
    return left


def measured(place: str, rounds: int) -> list[dict[str, Any]]:
    """Run all jobs with all contenders."""
    rows: list[dict[str, Any]] = []
    made = {"two nodes": two_nodes, "one node": one_node}[place]
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        master, services = stack.enter_context(made(folder))
        applications = {
            name: stack.enter_context(
                Application(folder / f"app-{number}", master, ORDINARY | conf, HERE / "contenders" / "shuffle_app.py")
            )
            for number, (name, conf) in enumerate(contenders(place, services).items())
        }
        for number in range(-1, rounds):
            for job in SHUFFLES:
                names = list(applications)
                names = names[number % len(names) :] + names[: number % len(names)]
                digests = set()
                for name in names:
                    settled(folder)
                    cpu = cpu_seconds()
                    told = applications[name].run(json.dumps(asdict(job)))
                    cpu = cpu_seconds() - cpu
                    digests.add(tuple(told["found"]))
                    row = {"place": place, "round": number, "job": job.name, "contender": name}
                    row |= {"seconds": told["seconds"], "cpu_seconds": round(cpu, 2)}
                    print(row, flush=True)
                    if number >= 0:
                        rows.append(row)
                assert len(digests) == 1, digests
        told = {name: services.total(name) for name in ("local_blocks", "remote_blocks")}
        print(place, told, flush=True)
        assert told["local_blocks" if place == "one node" else "remote_blocks"] > 0, told
    return rows


def ratios(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the medians, and the median ratio of firesteel to each contender per round."""
    found = []
    for place in dict.fromkeys(row["place"] for row in rows):
        for job in SHUFFLES:
            mine = [row for row in rows if (row["place"], row["job"]) == (place, job.name)]
            each: dict[str, Any] = {"place": place, "job": job.name, "mib": job.mib, "blocks": job.maps * job.reduces}
            names = list(dict.fromkeys(row["contender"] for row in mine))
            ours = {row["round"]: row for row in mine if row["contender"] == "firesteel"}
            for name in sorted(names):
                own = [row for row in mine if row["contender"] == name]
                each[name] = {
                    "seconds": round(median(row["seconds"] for row in own), 2),
                    "cpu_seconds_per_gib": round(median(row["cpu_seconds"] for row in own) / (job.mib / 1024), 2),
                }
                if name != "firesteel":
                    for what in ("seconds", "cpu_seconds"):
                        over = median(ours[row["round"]][what] / row[what] for row in own)
                        each[name][f"firesteel / it, {what}"] = round(over, 3)
            found.append(each)
    return found


def main() -> None:
    """Measure both clusters."""
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("--rounds", type=int, default=3)
    parse.add_argument("--place", choices=("two nodes", "one node"), action="append")
    parse.add_argument("--out", type=Path, default=RESULTS)
    asked = parse.parse_args()
    before = environment()
    rows = [row for place in asked.place or ("two nodes", "one node") for row in measured(place, asked.rounds)]
    found = {
        "environment": before,
        "ratios": ratios(rows),
        "rows": rows,
    }
    asked.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found["ratios"], indent=1))


if __name__ == "__main__":
    main()
