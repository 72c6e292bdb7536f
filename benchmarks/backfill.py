"""What concurrent intervals save: a backfill of small days, sequential and concurrent.

    python benchmarks/backfill.py [--days 8] [--rounds 2]

The flights demo with real data in local files, `local[2]`, one warm session, interleaved. A day has 1,000 rows, so most of the time
goes to jobs, files and records. Raw seconds and the environment go to benchmarks/results/backfill.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
os.environ["PYSPARK_PYTHON"] = sys.executable

from pyspark.sql import SparkSession

from firesteel.jobs.run.plan_runner import run_plan
from firesteel.pipelines import Pipeline

RESULTS = Path(__file__).parent / "results" / "backfill.json"
TOGETHER = (1, 2, 4)


def project(folder: Path) -> Path:
    """Create the demo project, as `init` does."""
    command = [sys.executable, "-m", "firesteel.jobs.cli.main", "init", "--demo", "flights", "demo"]
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return folder / "demo"


def backfill(spark: SparkSession, folder: Path, days: int, together: int) -> dict[str, float]:
    """Return the seconds of a run over some planned days, and of its executor's tasks."""
    path = folder / "pipeline.yaml"
    whole = path.read_text(encoding="utf-8")
    path.write_text(whole.replace("unit: day,", f"unit: day, batch_concurrency: {together},"), encoding="utf-8")
    try:
        plan = Pipeline.load(path).plan("2013-02-01", f"2013-02-{days:02d}", force=True)
    finally:
        path.write_text(whole, encoding="utf-8")
    started = time.perf_counter()
    result = run_plan(plan, spark=spark, runs=folder / "runs")
    if result.state != "published":
        raise SystemExit(result.error)
    return {"seconds": round(time.perf_counter() - started, 2), "load": round(os.getloadavg()[0], 1)}


def main() -> None:
    """Measure, print and store the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = project(Path(name))
        os.chdir(folder)
        builder = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
        settings = {"spark.scheduler.mode": "FAIR", "spark.driver.memory": "1g", "spark.sql.session.timeZone": "UTC"}
        for key, value in settings.items():
            builder = builder.config(key, value)
        spark = builder.getOrCreate()
        spark.sparkContext.setLogLevel("ERROR")
        backfill(spark, folder, 2, 2)  # warm
        rounds = []
        for number in range(options.rounds):
            order = TOGETHER[number % 3 :] + TOGETHER[: number % 3]
            rounds.append({str(each): backfill(spark, folder, options.days, each) for each in order})
            print(rounds[-1], flush=True)
        spark.stop()
    found = {
        "days": options.days,
        "rounds": rounds,
        "environment": {
            "cores": os.cpu_count(),
            "load": round(os.getloadavg()[0], 1),
            "python": platform.python_version(),
            "spark": version("pyspark"),
        },
    }
    RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
