"""What scoring costs: whole firesteel runs against the machine's limit, `spark_udf`, hand-written Spark and other engines.

    env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE python benchmarks/scoring.py [--scale 1.0] [--repeats 3] [--parts warm,join,whole,memory]

Parquet to Parquet, 30 `float32` features, `local[2]`. `warm`: one warm session, interleaved; each contender goes from planning to
published files. `join`: a join before the score, against a hand-written Spark job. `whole`: processes from start to end, with other
engines in their own environments. `memory`: the peak memory of a Python worker with growing numbers of rows. Raw seconds and the
environment go to benchmarks/results/scoring.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
os.environ["PYSPARK_PYTHON"] = sys.executable
os.environ["PYTHONPATH"] = str(Path(__file__).parent)

from contenders import environments, limit
from contenders.data import DAY, MODELS, Model, rows_of, save_model, write_days, write_sides
from contenders.hand_written import joined_by_hand, spark_udf
from contenders.memory import peak_of_workers
from firesteel.jobs.run.plan_runner import run_plan
from firesteel.pipelines import Pipeline

RESULTS = Path(__file__).parent / "results" / "scoring.json"
SPEC = """\
spec_version: 1
name: bench
storage: {root}/_firesteel
interval: {{column: dt, unit: day, begin: 2024-01-01}}
sources:
  points: {{path: "{root}/points", partitions: {{dt: date}}, select: {{dt: "${{interval.ds}}"}}, contract: {{mode: enforce, columns: {{{columns}}}}}}}
{more}models:
  m: {{uri: "{model}", method: {method}, trust: {{formats: [skops, lightgbm, onnx]}}}}
steps:
{steps}  scored:
    score: {{input: {input}, model: m, keep: [id, dt], output: {{p: "{output}"}}, accelerate: {accelerate}}}
sinks:
  out: {{from: scored, path: "{root}/out", partition_by: [dt]}}
tracking: {{mlflow: {{uri: "sqlite:///{folder}/mlflow.db", experiment: bench}}}}
resources: {{master: "local[2]"}}
"""
SIDES = (
    '  sides: {{path: "{root}/sides", partitions: {{dt: date}}, select: {{dt: "${{interval.ds}}"}}, '
    "contract: {{mode: enforce, columns: {{id: bigint, g: float}}}}}}\n"
)


class Bench:
    """The folders of the benchmark."""

    def __init__(self, folder: Path, scale: float, repeats: int) -> None:
        self.folder, self.scale, self.repeats = folder, scale, repeats
        self.models = {model.name: save_model(model, folder / "models" / model.name) for model in MODELS}
        self._roots: dict[int, Path] = {}
        self._made = 0

    def data(self, rows: int) -> Path:
        """Return a root with a number of points of one day."""
        if rows not in self._roots:
            self._roots[rows] = write_days(self.folder / f"rows-{rows}", rows)
        return self._roots[rows]

    def target(self) -> Path:
        """Return a folder that does not exist yet."""
        self._made += 1
        return self.folder / "targets" / str(self._made)

    def spec(self, model: Model, rows: int, form: str, *, joined: bool = False) -> Path:
        """Write a pipeline file."""
        root = self.data(rows)
        features = ", ".join(f"{name}: float" for name in model.features)
        sql = f"SELECT p.id, p.dt, s.g AS f00, {', '.join(f'p.{name}' for name in model.features[1:])} FROM points p JOIN sides s ON p.id = s.id"
        path = self.folder / f"{model.name}-{rows}-{form}-{joined}.yaml"
        path.write_text(
            SPEC.format(
                root=root.as_uri(), columns=f"id: bigint, {features}", model=self.models[model.name].mlflow, folder=self.folder,
                method=model.method, output=model.output, accelerate="auto" if form == "compiled" else '"off"',
                input="features" if joined else "points", steps=f'  features: {{sql: "{sql}"}}\n' if joined else "",
                more=SIDES.format(root=root.as_uri()) if joined else "",
            ),
            encoding="utf-8",
        )  # fmt: skip
        return path


def timed(work: Callable[[], object]) -> float:
    """Return the seconds of a call."""
    started = time.perf_counter()
    work()
    return round(time.perf_counter() - started, 3)


def firesteel(spark: Any, path: Path, notes: dict[str, Any]) -> None:
    """Plan, run and publish."""
    result = run_plan(Pipeline.load(path).plan(DAY, force=True), spark=spark, runs=path.parent / "runs")
    if result.state != "published":
        raise SystemExit(result.error)
    facts = dict(result.intervals[0].scoring)
    notes[path.stem] = {
        "operator": facts["operator"],
        "forms": facts["rows_by_backend"],
        "seconds": dict(result.intervals[0].seconds),
    }


def interleaved(contenders: dict[str, Callable[[], object]], repeats: int, warm: int = 1) -> dict[str, list[float]]:
    """Return the seconds of each contender, in turns. The first `warm` turns do not count."""
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(warm + repeats):
        for name, work in contenders.items():
            seconds = timed(work)
            if turn >= warm:
                found[name].append(seconds)
        print({name: values[-1:] for name, values in found.items()}, flush=True)
    return found


def session() -> Any:
    """Return a session like that of a run, warm for all parts."""
    from pyspark.sql import SparkSession

    settings = {
        "spark.ui.enabled": "false",
        "spark.driver.memory": "3g",
        "spark.ui.showConsoleProgress": "false",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.parquet.compression.codec": "zstd",
    }
    builder = SparkSession.builder.master("local[2]")
    for key, value in settings.items():
        builder = builder.config(key, value)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    return spark


def warm(bench: Bench, spark: Any) -> list[dict[str, Any]]:
    """Measure each model in each form: the limit and firesteel; and `spark_udf`."""
    with limit.pool() as workers:
        return [_warm(bench, spark, workers, model) for model in MODELS]


def _warm(bench: Bench, spark: Any, workers: ProcessPoolExecutor, model: Model) -> dict[str, Any]:
    rows = rows_of(model, bench.scale)
    root, saved = bench.data(rows), bench.models[model.name]
    source, notes = root / "points" / f"dt={DAY}", {}
    contenders: dict[str, Callable[[], object]] = {}
    for form in model.forms:
        path = bench.spec(model, rows, form)
        contenders[f"limit, {form}"] = lambda form=form: limit.score_all(
            workers, source, saved.bare, bench.target(), form
        )
        contenders[f"firesteel, {form}"] = lambda path=path: firesteel(spark, path, notes)
    contenders["spark_udf"] = lambda: spark_udf(spark, root, model, saved.mlflow, bench.target())
    seconds = interleaved(contenders, bench.repeats)
    return {"model": model.name, "rows": rows, "seconds": seconds, "notes": notes}


def join(bench: Bench, spark: Any) -> dict[str, Any]:
    """Measure a join before the score, against the best hand-written job."""
    model = MODELS[0]
    rows = rows_of(model, bench.scale)
    root, saved, notes = bench.data(rows), bench.models[model.name], {}
    write_sides(root, rows)
    path = bench.spec(model, rows, "compiled", joined=True)
    seconds = interleaved(
        {
            "hand-written": lambda: joined_by_hand(spark, root, model, saved.bare, bench.target()),
            "firesteel": lambda: firesteel(spark, path, notes),
        },
        bench.repeats,
    )
    return {"model": model.name, "rows": rows, "seconds": seconds, "notes": notes}


def whole(bench: Bench, sizes: list[int]) -> list[dict[str, Any]]:
    """Measure processes from start to end."""
    others = environments.prepare()
    found = []
    for model in MODELS:
        for size in sizes:
            rows = max(10_000, int(size * bench.scale * (0.25 if model.forms[0] == "native" and model.trees else 1)))
            root, saved = bench.data(rows), bench.models[model.name]
            source = root / "points" / f"dt={DAY}"
            path = bench.spec(model, rows, "compiled" if "compiled" in model.forms else "native")
            command = [
                sys.executable,
                "-m",
                "firesteel.jobs.cli.main",
                "run",
                str(path),
                "--start",
                DAY,
                "--force",
                "--quiet",
            ]
            contenders: dict[str, Callable[[], object]] = {
                "firesteel run": lambda command=command: _run(command, bench)
            }
            for name, python in others.items():
                words = [str(python), "-m", f"contenders.{name}", str(source), str(saved.bare)]
                contenders[name] = lambda words=words: _run([*words, str(bench.target())], bench)
            seconds = interleaved(contenders, 1, warm=0)
            found.append({"model": model.name, "rows": rows, "seconds": seconds})
    return found


def _run(command: list[str], bench: Bench) -> None:
    environ = {key: value for key, value in os.environ.items() if not key.startswith("SPARK_ENV")}
    done = subprocess.run(command, capture_output=True, text=True, cwd=bench.folder, env=environ, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")


def memory(bench: Bench) -> list[dict[str, Any]]:
    """Return the peak resident bytes of the Python workers of whole runs with 1, 4 and 16 times the rows."""
    model = next(model for model in MODELS if model.name == "logistic regression")
    found = []
    for times in (1, 4, 16):
        rows = max(10_000, int(500_000 * bench.scale)) * times
        path = bench.spec(model, rows, "compiled")
        command = [
            sys.executable,
            "-m",
            "firesteel.jobs.cli.main",
            "run",
            str(path),
            "--start",
            DAY,
            "--force",
            "--quiet",
        ]
        found.append({"rows": rows, **peak_of_workers(command, bench.folder)})
        print(found[-1], flush=True)
    return found


def main() -> None:
    """Measure, print and store the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0, help="of the rows; below 1 to try it out")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--parts", default="warm,join,memory,whole")
    parser.add_argument("--sizes", type=int, nargs="+", default=[2_000_000, 20_000_000])
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    parts = options.parts.split(",")
    kept: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(Path(name), options.scale, options.repeats)
        if {"warm", "join"} & {*parts}:
            spark = session()
            if "warm" in parts:
                kept["warm"] = warm(bench, spark)
            if "join" in parts:
                kept["join"] = join(bench, spark)
            spark.stop()
        if "memory" in parts:
            kept["memory"] = memory(bench)
        if "whole" in parts:
            kept["whole"] = whole(bench, options.sizes)
    kept["environment"] = {
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "load": os.getloadavg()[0],
        "scale": options.scale,
        **{package: version(package) for package in ("pyspark", "pyarrow", "mlflow", "lightgbm", "scikit-learn")},
    }
    for each in kept.get("warm", []):
        print(each["model"], {key: statistics.median(values) for key, values in each["seconds"].items()})
    if options.scale == 1.0:
        RESULTS.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")
    else:
        print(json.dumps(kept, indent=2))


if __name__ == "__main__":
    main()
