"""What reading the state costs as it grows: `status`, `history` and the state that `plan` reads, for thousands of intervals.

    python benchmarks/state_growth.py [--intervals 5000] [--attempts 2] [--repeats 3]

It writes the records of a store without Spark, two attempts per interval (one failed, one published). Seconds are of this process and
do not contain its start. `first` has no index yet, `again` has one. Raw numbers and the environment go to
benchmarks/results/state_growth.json.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from firesteel.jobs.cli.main import cli
from firesteel.pipelines.planner.decide import Published
from firesteel.pipelines.publish.lease import Attempt, LeaseRecord
from firesteel.pipelines.publish.ledger import Ledger, encode_record
from firesteel.pipelines.publish.records import LedgerRecord, PublishedFile
from firesteel.pipelines.publish.state_store import SinkInterval, StateStore
from firesteel.pipelines.result import Counts
from firesteel.pipelines.storage.local import LocalStorage
from machine import environment

RESULTS = Path(__file__).parent / "results" / "state_growth.json"
SINK = "scores"
SPEC = """\
spec_version: 1
name: bench
storage: file://{root}/_firesteel
interval: {{column: dt, unit: hour, begin: 2020-01-01}}
sources:
  events: {{path: "file://{root}/events", partitions: {{dt: string}}, select: {{dt: "${{interval.ds}}"}}}}
steps:
  kept: {{sql: "SELECT * FROM events"}}
sinks:
  scores: {{from: kept, path: "file://{root}/scores", partition_by: [dt], mode: replace_partitions}}
"""
PARTS = ("spec", "model", "inputs", "settings", "sql", "operator")


class CountingStorage(LocalStorage):
    """A storage that counts its calls."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()

    def list(self, path: str) -> Any:
        self.calls["list"] += 1
        return super().list(path)

    def read(self, path: str, offset: int = 0, length: int | None = None) -> bytes:
        self.calls["read"] += 1
        return super().read(path, offset, length)


def fill(root: Path, intervals: int, attempts: int) -> list[str]:
    """Write the leases and ledger records of a store; the names of its intervals."""
    store = StateStore(LocalStorage(), f"{root}/_firesteel", "bench", "default")
    begin = datetime(2020, 1, 1)  # noqa: DTZ001 - a name, not a time
    names = [(begin + timedelta(hours=number)).strftime("%Y-%m-%dT%H") for number in range(intervals)]
    for name in names:
        target = SinkInterval(store, SINK, name)
        for kind in ("lease", "ledger", "journal"):
            Path(target.folder(kind)).mkdir(parents=True)
        for token in range(1, attempts + 1):
            attempt = Attempt(f"run-{token}", "f" * 64, "ann", "host-1", f"{name}:00:00+00:00")
            lease = LeaseRecord(token, attempt, "run", 60.0, "machine", 1, "1")
            Path(target.file("lease", token)).write_text(json.dumps(asdict(lease), indent=2))
            Path(target.file("lease", token, "released")).mkdir()
            Path(target.file("journal", token)).write_text("{}")
            record = record_of(name, token, token == attempts)
            Path(target.file("ledger", token)).write_bytes(encode_record(target, record))
    return names


def record_of(interval: str, token: int, published: bool) -> LedgerRecord:
    """A record of the usual size."""
    files = tuple(PublishedFile(f"dt={interval}/part-{number:05d}.zstd.parquet", 1 << 20) for number in range(4))
    return LedgerRecord(
        "bench",
        "default",
        SINK,
        interval,
        token,
        f"20260502T031000-{token:06x}",
        "f" * 64,
        "published" if published else "failed",
        f"{interval}:00:00+00:00",
        f"{interval}:10:00+00:00",
        Counts(rows_in=1000, scored=1000),
        (f"dt={interval}",),
        files if published else (),
        hash_inputs=tuple((part, "0" * 64) for part in PARTS),
    )


def timed(work: Callable[[], object]) -> dict[str, float]:
    """Seconds of one call, by the clock and of CPU: other programs may use the machine."""
    started, cpu = time.perf_counter(), time.process_time()
    work()
    return {"seconds": round(time.perf_counter() - started, 3), "cpu": round(time.process_time() - cpu, 3)}


def command(*words: str) -> Callable[[], None]:
    """A command of the command line, in this process."""

    def run() -> None:
        done = CliRunner().invoke(cli, list(words), catch_exceptions=False)
        if done.exit_code:
            raise SystemExit(done.output)

    return run


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--intervals", type=int, default=5000)
    parser.add_argument("--attempts", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        root = Path(folder)
        names = fill(root, options.intervals, options.attempts)
        spec = root / "pipeline.yaml"
        spec.write_text(SPEC.format(root=root), encoding="utf-8")
        (root / "events").mkdir()
        storage = CountingStorage()
        store = StateStore(storage, f"{root}/_firesteel", "bench", "default")

        def plan() -> None:
            published = Published.of(Ledger(store), (SINK,), names)
            missing = [name for name in names if published.last(SINK, name) is None]
            published.recent()
            if missing:
                raise SystemExit(f"{len(missing)} intervals have no record")

        works = {
            "status": command("status", str(spec)),
            "status --json": command("status", str(spec), "--json"),
            "status --start --end": command("status", str(spec), "--start", names[0], "--end", names[-1], "--json"),
            "history": command("history", str(spec)),
            "history --json": command("history", str(spec), "--json"),
            "state of plan": plan,
        }
        command("validate", "--help")()  # imports
        seconds: dict[str, dict[str, Any]] = {}
        for name, work in works.items():
            shutil.rmtree(root / "_firesteel" / "index", ignore_errors=True)
            first = timed(work)
            seconds[name] = {"first": first, "again": [timed(work) for _ in range(options.repeats)]}
            print(name, seconds[name], flush=True)
        storage.calls.clear()
        plan()
        calls = dict(storage.calls)
    about = {"intervals": options.intervals, "attempts": options.attempts}
    kept = {**about, "seconds": seconds, "calls of the state of plan": calls, "environment": environment()}
    RESULTS.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
