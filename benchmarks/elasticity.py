"""What elasticity costs and saves: real bursts on a real standalone cluster, and recorded tasks replayed with 10 to 10,000 executors.

    python benchmarks/elasticity.py --record          # tasks of a real scoring run, from its event log
    python benchmarks/elasticity.py --cluster         # one round of the burst on a cluster: firesteel, Spark's defaults, a fixed size
    python benchmarks/elasticity.py --overhead        # one round: from the command to the first task, against a plain spark-submit
    python benchmarks/elasticity.py --loss            # one round: an executor is killed at 90 % of an interval's tasks, against a quiet run
    python benchmarks/elasticity.py --simulate        # replay, and draw

`--cluster` runs the same pipeline with three allocations, one after the other, and appends a round; run it several times.
`--simulate` resamples the recorded durations (with a fixed seed) into work for N executors, in three arrival patterns, under the
policies. The start time of an executor and the extra time of its first task are medians of the cluster rounds. It also replays each
cluster round with its own tasks, to compare the simulation with the measurement. Raw numbers and the environment go to
benchmarks/results/elasticity.json, the plot to docs/concepts/elasticity.svg.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
os.environ["PYSPARK_PYTHON"] = os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from drawing import lines_chart
from firesteel.jobs.embedded.standalone import EmbeddedStandalone
from firesteel.jobs.run.plan_runner import run_plan
from firesteel.jobs.timeline.eventlog import EventLog
from firesteel.pipelines.planner.allocation import START_S, useful_executors
from firesteel.pipelines.result import ExecutorUse
from firesteel.pipelines.spec.model import Executors
from machine import environment
from simulate import Cluster, Job, Policy, ideal_makespan, simulate
from support.bursty import Bursty
from support.shuffle import executors_of

RESULTS = Path(__file__).parent / "results" / "elasticity.json"
PLOT = Path(__file__).parents[1] / "docs" / "concepts" / "elasticity.svg"
SIZES = (10, 30, 100, 300, 1000, 3000, 10_000)
WORK_S = 60.0
"""Work of each executor at the peak."""
PEAK = 4
DAYS = {
    "2024-01-01": 4,  # history
    "2024-01-02": 1,
    "2024-01-03": 1,
    "2024-01-04": 64,
    **{f"2024-01-{day:02d}": 1 for day in range(5, 11)},
}
"""Files of a day; one is two seconds of work."""


def main() -> None:
    """Run the requested measurements."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--cluster", action="store_true")
    parser.add_argument("--overhead", action="store_true")
    parser.add_argument("--loss", action="store_true")
    parser.add_argument("--simulate", action="store_true")
    options = parser.parse_args()
    found = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {"rounds": []}
    if options.record:
        found["recorded"] = recorded()
    if options.cluster:
        found["rounds"].append(cluster_round(len(found["rounds"])))
    if options.overhead:
        found.setdefault("overhead", []).append(overhead_round(len(found.get("overhead", []))))
    if options.loss:
        found.setdefault("loss", []).append(loss_round(len(found.get("loss", []))))
    if options.simulate:
        found["replayed"] = [replayed(name, run) for each in found["rounds"] for name, run in each["runs"].items()]
        found["simulated"] = simulated(found)
        PLOT.write_text(plot(found), encoding="utf-8")
    RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def recorded() -> dict[str, Any]:
    """Return the task durations of a real run: LightGBM over 64 files of 30 features."""
    from contenders.data import MODELS, save_model, write_days
    from contenders.models import FEATURES
    from firesteel.pipelines import Pipeline

    model, files = MODELS[0], 64
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        import contenders.data

        contenders.data.FILES = files
        root = write_days(folder, 64 * 40_000)
        saved = save_model(model, folder / "model")
        columns = ", ".join(f"{feature}: float" for feature in FEATURES)
        (folder / "pipeline.yaml").write_text(
            f"""
spec_version: 1
name: recorded
storage: {root.as_uri()}/_firesteel
interval: {{column: dt, unit: day, begin: 2024-01-01}}
sources:
  points:
    path: {root.as_uri()}/points
    partitions: {{dt: date}}
    select: {{dt: "${{interval.ds}}"}}
    contract: {{columns: {{id: bigint, {columns}}}}}
models: {{m: {{uri: "{saved.mlflow}", trust: {{formats: [lightgbm]}}}}}}
steps: {{scored: {{score: {{input: points, model: m, keep: [id, dt], output: {{p: double}}}}}}}}
sinks: {{out: {{from: scored, path: "{root.as_uri()}/out", partition_by: [dt]}}}}
tracking: {{mlflow: {{uri: "sqlite:///{folder}/mlflow.db"}}}}
resources: {{master: "local[2]"}}
configuration: {{spark.default.parallelism: "{files}"}}
""",
            encoding="utf-8",
        )
        result = run_plan(Pipeline.load(folder / "pipeline.yaml").plan("2024-01-01"), runs=folder / "runs")
        if result.state != "published" or result.executors is None:
            raise SystemExit(result.error)
        stages = tasks_by_stage(folder / "runs").values()
    scoring = max(stages, key=lambda tasks: sum(seconds for _, seconds in tasks))
    # The first task of each of the two workers loads the model.
    return {"environment": environment(), "tasks": [seconds for _, seconds in scoring][2:]}


def tasks_by_stage(runs: Path) -> dict[str, list[tuple[str, float]]]:
    """Return (executor, seconds) of the tasks in the event log of a run, by stage, in the order of their start."""
    (place,) = runs.glob("*/events/eventlog_v2_*")
    log = EventLog(place.parent.as_uri(), place.name.removeprefix("eventlog_v2_"))
    found: dict[str, list[tuple[int, str, float]]] = {}
    for event in log.events():
        if event["Event"] == "SparkListenerTaskEnd" and not event["Task Info"]["Failed"]:
            info = event["Task Info"]
            seconds = round((info["Finish Time"] - info["Launch Time"]) / 1000, 3)
            found.setdefault(str(event["Stage ID"]), []).append((info["Launch Time"], info["Executor ID"], seconds))
    return {stage: [(name, seconds) for _, name, seconds in sorted(tasks)] for stage, tasks in found.items()}


def cluster_round(number: int) -> dict[str, Any]:
    """Run the burst with each contender. The first contender changes from round to round."""
    ways = {
        "firesteel": ({"min": 1, "max": PEAK, "initial": 1, "utilisation": 0.5, "idle_timeout": "3s"}, {}),
        "Spark's defaults": (
            None,
            {
                "spark.dynamicAllocation.enabled": "true",
                "spark.dynamicAllocation.minExecutors": "1",
                "spark.dynamicAllocation.maxExecutors": str(PEAK),
                "spark.executor.cores": "1",
                "spark.executor.memory": "512m",
            },
        ),
        "fixed at the peak": ({"min": PEAK, "max": PEAK}, {}),
    }
    names = list(ways)
    names = names[number % 3 :] + names[: number % 3]
    runs = {}
    with tempfile.TemporaryDirectory() as name:
        project = Bursty(Path(name))
        project.write(DAYS)
        with EmbeddedStandalone(Path(name) / "cluster", cores=PEAK, memory="3g") as cluster:
            history(project)
            for way in names:
                executors, configuration = ways[way]
                resources: dict[str, Any] = {"master": cluster.master}
                if executors is not None:
                    resources["executors"] = {"memory": "512m", **executors}
                runs[way] = burst(project, resources, configuration)
                print(way, {key: value for key, value in runs[way].items() if not isinstance(value, list)}, flush=True)
    return {"environment": environment(), "runs": runs}


def history(project: Bursty) -> None:
    """Run the first day on this machine, to learn the speed of the pipeline."""
    plan = project.plan("2024-01-01", "2024-01-01", {"master": "local[2]"})
    run_plan(plan, runs=project.folder / "history")


def burst(project: Bursty, resources: dict[str, Any], configuration: dict[str, str]) -> dict[str, Any]:
    """Run the days after the first, and return the use of the executors."""
    configuration = {"spark.driver.memory": "600m", "spark.default.parallelism": "32", **configuration}
    plan = project.plan("2024-01-02", "2024-01-10", resources, configuration, force=True)
    folder = project.folder / f"runs-{time.time_ns()}"
    result = run_plan(plan, runs=folder)
    use = result.executors
    if result.state != "published" or use is None:
        raise SystemExit(result.error or "no timeline")
    return {
        "makespan_s": use.seconds,
        "executor_seconds": use.executor_seconds,
        "ideal_executor_seconds": ideal(use),
        "utilisation": use.utilisation,
        "peak": use.peak,
        "scale_out_s": list(use.scale_out_s),
        "scale_in_s": list(use.scale_in_s),
        "stages": [[stage.begin_s, stage.end_s, stage.id] for stage in use.stages],
        "tasks": tasks_by_stage(folder),
        "conf": dict(plan.spark_conf),
    }


def loss_round(number: int) -> dict[str, Any]:
    """Run the large day on a fixed cluster, undisturbed and with an executor killed at 90 % of its tasks."""
    runs = {}
    with tempfile.TemporaryDirectory() as name:
        project = Bursty(Path(name))
        project.write({"2024-01-04": DAYS["2024-01-04"]})
        with EmbeddedStandalone(Path(name) / "cluster", cores=PEAK, memory="3g") as cluster:
            resources = {"master": cluster.master, "executors": {"memory": "512m", "min": PEAK, "max": PEAK}}
            conf = {"spark.driver.memory": "600m", "spark.default.parallelism": "32"}
            for way in ("warm", *("quiet", "killed")[:: -1 if number % 2 else 1]):  # the first pays for a new JVM
                plan = project.plan("2024-01-04", "2024-01-04", resources, conf, force=True)
                killer = Killer(0.9) if way == "killed" else None
                if killer:
                    killer.start()
                result = run_plan(plan, runs=project.folder / f"runs-{way}")
                if killer:
                    killer.over.set()
                    killer.join()
                use = result.executors
                if result.state != "published" or use is None:
                    raise SystemExit(result.error or "no timeline")
                scoring = max(use.stages, key=lambda stage: stage.end_s - stage.begin_s)
                runs[way] = {
                    "makespan_s": use.seconds,
                    "scoring_s": round(scoring.end_s - scoring.begin_s, 3),
                    "lost": use.lost,
                    "killed_at": killer and killer.at,
                }
                print(way, runs[way], flush=True)
    return {"environment": environment(), "runs": runs}


class Killer(threading.Thread):
    """Kills one executor of this process's application when a fraction of a stage's tasks is done, unless the run is `over` before."""

    def __init__(self, part: float) -> None:
        super().__init__(daemon=True)
        self.part = part
        self.at: str | None = None
        self.over = threading.Event()

    def run(self) -> None:
        """Wait for the moment, and kill the executor."""
        from pyspark import SparkContext

        while not self.over.wait(0.05):
            context = SparkContext._active_spark_context  # noqa: SLF001
            if getattr(context, "_jsc", None) is None:
                continue
            tracker = context.statusTracker()
            for stage in tracker.getActiveStageIds():
                info = tracker.getStageInfo(stage)
                if info is not None and info.numTasks >= 16 and info.numCompletedTasks >= self.part * info.numTasks:
                    os.kill(executors_of(context.applicationId)[0], signal.SIGKILL)
                    self.at = f"{info.numCompletedTasks} of {info.numTasks} tasks"
                    return


PLAIN = """
import sys
import mlflow
from pyspark.sql import SparkSession

root, model = sys.argv[1:]
spark = SparkSession.builder.getOrCreate()

def score(frames):
    loaded = mlflow.pyfunc.load_model(model)
    for frame in frames:
        yield frame.assign(p=loaded.predict(frame[["a"]]))[["id", "p"]]

rows = spark.read.schema("id bigint, a double").parquet(f"{root}/points/dt=2024-01-01")
rows.mapInPandas(score, "id bigint, p double").write.mode("overwrite").parquet(f"{root}/plain")
spark.stop()
"""
"""What one would write by hand."""


def overhead_round(number: int) -> dict[str, Any]:
    """Return the seconds from the command to the first task: `firesteel run` and a hand-written spark-submit job, both cold."""
    import pyspark

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        project = Bursty(folder)
        project.write({"2024-01-01": 1})
        project.plan(
            "2024-01-01", "2024-01-01", {"master": "local[2]"}
        )  # MLflow's database is there, as in every run but the first
        (folder / "plain.py").write_text(PLAIN, encoding="utf-8")
        (folder / "plain-events").mkdir()
        submit = Path(pyspark.__file__).parent / "bin" / "spark-submit"
        settings = {"spark.eventLog.enabled": "true", "spark.eventLog.dir": (folder / "plain-events").as_uri()}
        settings |= {"spark.ui.enabled": "false", "spark.driver.bindAddress": "127.0.0.1"}
        plain = [str(submit), "--master", "local[2]"]
        plain += [word for key, value in settings.items() for word in ("--conf", f"{key}={value}")]
        plain += ["plain.py", (folder / "data").as_uri(), str(folder / "model")]
        ours = [sys.executable, "-m", "firesteel.jobs.cli.main", "run", "--start", "2024-01-01", "--force"]
        ways = {"firesteel run": (ours, ".firesteel/runs/*/events"), "spark-submit": (plain, "plain-events")}
        names = list(ways)[:: -1 if number % 2 else 1]
        seconds = {}
        first_task(folder, *ways["firesteel run"])  # the database, the page cache
        for way in names:
            seconds[way] = first_task(folder, *ways[way])
        print(seconds, flush=True)
        return {"environment": environment(), "seconds": seconds}


def first_task(folder: Path, command: list[str], events: str) -> float:
    """Run a command; return the seconds from its start to the first task in its event log."""
    started = time.time()
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    place = max(folder.glob(f"{events}/eventlog_v2_*"), key=lambda path: path.stat().st_mtime)
    log = EventLog(place.parent.as_uri(), place.name.removeprefix("eventlog_v2_"))
    launched = (e["Task Info"]["Launch Time"] for e in log.events() if e["Event"] == "SparkListenerTaskStart")
    return round(min(launched) / 1000 - started, 2)


def ideal(use: ExecutorUse) -> float:
    """Return the executor-seconds of an ideal allocation: one executor per running task, and one that is always there."""
    spans = sorted(span for life in use.executors for span in life.busy)
    nobody, at = 0.0, min(life.added_s for life in use.executors)
    for start, stop in spans:
        nobody += max(0.0, start - at)
        at = max(at, stop)
    nobody += max(0.0, use.seconds - at)
    return round(sum(life.task_s for life in use.executors) + nobody, 3)


def first_surplus(runs: list[dict[str, Any]]) -> float:
    """Return the extra time of the first task of an executor, which starts a worker and loads the model."""
    first, others = [], []
    for run in runs:
        met: set[str] = set()
        for stage in run["tasks"].values():
            for executor, seconds in stage:
                (others if executor in met else first).append(seconds)
                met.add(executor)
    return round(max(0.0, statistics.median(first) - statistics.median(others)), 1)


def replayed(name: str, run: dict[str, Any]) -> dict[str, Any]:
    """Simulate a cluster round with its own tasks, stage by stage, and compare it with the measurement."""
    conf = run["conf"]

    def number(key: str, default: float) -> float:
        return float(str(conf.get(f"spark.dynamicAllocation.{key}", default)).removesuffix("s"))

    policy = Policy(
        name,
        initial=int(number("initialExecutors", number("minExecutors", 0))),
        least=int(number("minExecutors", 0)),
        most=int(number("maxExecutors", PEAK)),
        idle_s=number("executorIdleTimeout", 60),
    )
    jobs: list[Job] = []
    before = 0.0
    for begin, end, stage in sorted(run["stages"]):
        tasks = tuple(seconds for _, seconds in run["tasks"][str(stage)])
        jobs.append(Job(tasks, at_s=begin if not jobs else 0.0, pause_s=max(0.0, begin - before) if jobs else None))
        before = end
    start = statistics.median(run["scale_out_s"]) - policy.backlog_s if run["scale_out_s"] else 4.0
    found = simulate(jobs, policy, Cluster(start_s=max(1.0, start)))
    return {
        "policy": name,
        "observed": {"makespan_s": run["makespan_s"], "executor_seconds": run["executor_seconds"]},
        "simulated": {"makespan_s": round(found.makespan_s, 1), "executor_seconds": round(found.executor_seconds, 1)},
    }


def patterns(size: int, durations: list[float], seed: int) -> dict[str, list[Job]]:
    """Return work for a number of executors: all at once, a week of equal days, and bursts between quiet hours."""
    draw = random.Random(seed)

    def job(work_s: float, **when: float) -> Job:
        tasks, total = [], 0.0
        while total < work_s or not tasks:
            tasks.append(draw.choice(durations))
            total += tasks[-1]
        return Job(tuple(tasks), **when)

    whole = size * WORK_S
    return {
        "one large interval": [job(whole)],
        "a week of days": [job(whole / 2, pause_s=6.0) for _ in range(7)],
        "bursts between quiet intervals": [
            job(whole * part, pause_s=pause)
            for part, pause in ((0.02, 0.0), (1.0, 6.0), (0.05, 60.0), (0.05, 60.0), (0.7, 60.0), (0.02, 6.0))
        ],
    }


def policies(size: int, jobs: list[Job]) -> list[Policy]:
    """Return the policies: fixed at the peak, Spark's defaults up to the peak, and firesteel's with and without a target."""
    largest = max(sum(job.tasks) for job in jobs)
    made = [Policy("fixed at the peak", size, size, size), Policy("Spark's defaults", most=size)]
    for name, utilisation in (("firesteel", None), ("firesteel, utilisation 0.85", 0.85)):
        executors = Executors(min=1, max=size, utilisation=utilisation)
        worth, most = useful_executors(executors, largest, 1, START_S)
        made.append(Policy(name, min(worth, size), 1, min(most, size), idle_s=START_S))
    return made


def simulated(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Simulate every pattern, size and policy."""
    runs = [run for each in found["rounds"] for run in each["runs"].values()]
    waits = [wait for run in runs for wait in run["scale_out_s"]]
    start = max(1.0, statistics.median(waits) - 1.0) if waits else 4.0
    durations = found["recorded"]["tasks"]
    cluster = Cluster(start_s=round(start, 1), first_s=first_surplus(runs))
    rows = []
    for size in SIZES:
        for pattern, jobs in patterns(size, durations, seed=size).items():
            best, work = ideal_makespan(jobs, size), sum(sum(job.tasks) for job in jobs)
            for policy in policies(size, jobs):
                at_once = Cluster(cluster.start_s, cluster.first_s, room=size)
                outcome = simulate(jobs, policy, at_once, seed=size)
                rows.append(
                    {
                        "executors": size,
                        "pattern": pattern,
                        "policy": policy.name,
                        "tasks": sum(len(job.tasks) for job in jobs),
                        "start_s": cluster.start_s,
                        "first_s": cluster.first_s,
                        "makespan_s": round(outcome.makespan_s, 1),
                        "ideal_makespan_s": round(best, 1),
                        "executor_seconds": round(outcome.executor_seconds),
                        "ideal_executor_seconds": round(work),
                        "peak": outcome.peak,
                    }
                )
        print(size, flush=True)
    return rows


def plot(found: dict[str, Any]) -> str:
    """Plot executor-seconds and makespan relative to the ideal, over the number of executors."""
    panels = []
    names = list(dict.fromkeys(row["policy"] for row in found["simulated"]))
    for pattern in dict.fromkeys(row["pattern"] for row in found["simulated"]):
        rows = [row for row in found["simulated"] if row["pattern"] == pattern]
        for value, best, title in (
            ("executor_seconds", "ideal_executor_seconds", "executor-seconds"),
            ("makespan_s", "ideal_makespan_s", "makespan"),
        ):
            lines = {
                name: [(row["executors"], row[value] / row[best]) for row in rows if row["policy"] == name]
                for name in names
            }
            panels.append((f"{pattern}: {title} / ideal", lines))
    return lines_chart(panels, "executors of the cluster")


if __name__ == "__main__":
    main()
