"""The speed of the compiler: cold commands, specs with many steps, plans over many partitions of a real NameNode.

    python benchmarks/compile.py [--small]

Every value is measured in a new process. Raw seconds and the environment go to benchmarks/results/compile.json.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

from firesteel.jobs.embedded.hdfs import EmbeddedHdfs

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "compile.json"
EXAMPLE = HERE.parent / "examples" / "flights" / "pipeline.yaml"
ORIGINS = 274
FOOTER_FILES = 2000
REPEATS = 5
ENVIRON = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
"""As people run it: with byte code kept."""

PLAN = """
import json, resource, sys, time
from firesteel.pipelines import Pipeline
from firesteel.pipelines.planner.listing import Listing
Listing.check_contracts = lambda *_: None  # the files are empty: footers are measured by themselves
pipeline = Pipeline.load(sys.argv[1])
started = time.perf_counter()
plan = pipeline.plan("2013-01-01", sys.argv[2])
files = sum(len(read.files) for interval in plan.intervals for read in interval.inputs)
seconds = time.perf_counter() - started
usage = resource.getrusage(resource.RUSAGE_SELF)
cpu, peak = usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024
print(json.dumps({"files": files, "seconds": round(seconds, 3), "cpu_s": round(cpu, 3), "peak_mib": round(peak)}))
"""
FOOTERS = """
import json, sys, time
from concurrent.futures import ThreadPoolExecutor
from firesteel.pipelines.planner.contract import read_schema
from firesteel.pipelines.planner.listing import LISTING_THREADS
from firesteel.pipelines.storage.open import locate
storage, path = locate(sys.argv[1])
files = storage.scan([path])
started = time.perf_counter()
with ThreadPoolExecutor(LISTING_THREADS) as pool:
    list(pool.map(lambda file: read_schema("t", storage, file.path, file.length), files))
print(json.dumps({"files": len(files), "seconds": round(time.perf_counter() - started, 3)}))
"""
COMPILE = """
import json, sys, time
from firesteel.pipelines import Pipeline
started = time.perf_counter()
Pipeline.load(sys.argv[1]).sketch()
print(json.dumps({"seconds": round(time.perf_counter() - started, 3)}))
"""


def cold(*words: str) -> float:
    """Return the seconds of a command in a new process."""
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "firesteel.jobs.cli.main", *words], check=True, capture_output=True, env=ENVIRON
    )
    return round(time.perf_counter() - started, 3)


def measured(code: str, *words: str, environ: dict[str, str] | None = None) -> dict[str, float]:
    """Return what a small program prints about itself."""
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        check=True,
        capture_output=True,
        text=True,
        env={**ENVIRON, **(environ or {})},
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def spec_of_steps(count: int) -> str:
    """Return a chain of projections with filters; every tenth step has a group and a join."""
    lines = [
        "spec_version: 1",
        "name: many",
        "storage: file:///tmp/none",
        "interval: {column: dt, begin: 2013-01-01}",
        "sources:",
        "  flights:",
        "    path: file:///tmp/none/flights",
        "    partitions: {dt: date, origin: string}",
        '    select: {dt: "${interval.ds}"}',
        "    contract: {columns: {id: string!, delay: double, distance: int, hour: int, tail: string}}",
        "steps:",
    ]
    before = "flights"
    for number in range(count):
        sql = (
            f"WITH g AS (SELECT dt, origin, avg(delay) AS m FROM {before} GROUP BY dt, origin) "
            f"SELECT p.dt, p.origin, p.id, p.delay - g.m AS delay, p.distance, p.hour, p.tail FROM {before} p "
            "LEFT JOIN g ON p.dt = g.dt AND p.origin = g.origin"
            if number % 10 == 5
            else f"SELECT dt, origin, id, delay + {number} AS delay, CAST(distance * 2 AS INT) AS distance, hour, "
            f"upper(tail) AS tail FROM {before} WHERE hour > {number % 24}"
        )
        lines.append(f'  s{number}: {{sql: "{sql}"}}')
        before = f"s{number}"
    lines.append(f"sinks: {{out: {{from: {before}, path: file:///tmp/none/out, partition_by: [dt]}}}}")
    return "\n".join(lines) + "\n"


def spec_of_partitions(uri: str) -> str:
    """Return a spec that reads all days and origins of a table."""
    return f"""spec_version: 1
name: big
storage: {uri}/_firesteel
interval: {{column: dt, begin: 2013-01-01}}
sources:
  t:
    path: {uri}/t
    partitions: {{dt: date, origin: string}}
    select: {{dt: "${{interval.ds}}"}}
    contract: {{columns: {{a: bigint}}}}
steps: {{s: {{sql: "SELECT dt, origin, a FROM t"}}}}
sinks: {{o: {{from: s, path: "{uri}/out", partition_by: [dt, origin]}}}}
"""


def fill(uri: str, days: int) -> None:
    """Write an empty file in every partition, because only names are listed, and `FOOTER_FILES` small Parquet files elsewhere."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from hdfs_native import Client

    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"a": pa.array([1], pa.int64())}), sink)
    data = sink.getvalue().to_pybytes()
    client = Client(uri)

    def one(day: str) -> None:
        for origin in range(ORIGINS):
            with client.create(f"/t/dt={day}/origin=A{origin:03d}/part-0.parquet"):
                pass

    def footer(number: int) -> None:
        with client.create(f"/footers/part-{number}.parquet") as file:
            file.write(data)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(one, [day(number) for number in range(days)]))
        list(pool.map(footer, range(FOOTER_FILES)))


def day(number: int) -> str:
    """Return the ISO date `number` days after 2013-01-01."""
    return (dt.date(2013, 1, 1) + dt.timedelta(days=number)).isoformat()


def main() -> None:
    """Measure, print and store the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="a tenth of the sizes: does it run?")
    options = parser.parse_args()
    shrink = 10 if options.small else 1
    found: dict[str, object] = {
        "help": [cold("--help") for _ in range(REPEATS)],
        "validate": [cold("validate", str(EXAMPLE), "--param", "root=file:///data") for _ in range(REPEATS)],
    }
    steps: dict[int, list[float]] = {}
    partitions: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pipeline.yaml"
        for count in (50 // shrink, 200 // shrink, 800 // shrink):
            path.write_text(spec_of_steps(count), encoding="utf-8")
            steps[count] = [measured(COMPILE, str(path))["seconds"] for _ in range(3)]
        with EmbeddedHdfs(Path(folder) / "hdfs", datanodes=1) as hdfs:
            days = [max(1, each // shrink) for each in (23, 91, 365)]
            started = time.perf_counter()
            fill(hdfs.uri, days[-1])
            print(f"filled in {time.perf_counter() - started:.0f} s", flush=True)
            path.write_text(spec_of_partitions(hdfs.uri), encoding="utf-8")
            environ = {"HADOOP_CONF_DIR": str(hdfs.conf_dir)}
            for count in days:
                runs = [measured(PLAN, str(path), day(count - 1), environ=environ) for _ in range(3)]
                partitions.append(
                    {
                        "partitions": count * ORIGINS,
                        "seconds": statistics.median(run["seconds"] for run in runs),
                        "cpu_s": statistics.median(run["cpu_s"] for run in runs),
                        "peak_mib": max(run["peak_mib"] for run in runs),
                    }
                )
                print(partitions[-1], flush=True)
            footers = [measured(FOOTERS, f"{hdfs.uri}/footers", environ=environ) for _ in range(3)]
            one_day = [measured(PLAN, str(path), day(0), environ=environ)["seconds"] for _ in range(3)]
    found |= {"steps": steps, "partitions": partitions, "one day of all partitions": one_day, "footers": footers}
    found["environment"] = {
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "machine": platform.machine(),
        **{name: version(name) for name in ("sqlglot", "pydantic", "hdfs-native")},
        "children_cpu_s": round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime),
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
