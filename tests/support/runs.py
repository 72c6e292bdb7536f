"""Runs of the flights example for tests: a project on some storage, with the demo's real model."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from firesteel.pipelines import Pipeline
from firesteel.pipelines.storage.open import locate
from support import forks
from support.specs import example_with

DAY = "2013-06-01"

KILLING_DRIVER = """
import os, signal, sys
from firesteel.jobs.run.plan_runner import run_plan
from firesteel.pipelines import Plan

plan, boundary, count = Plan.from_json(open(sys.argv[1]).read()), sys.argv[2], int(sys.argv[3])
seen = 0

def on_event(event):
    global seen
    if event.kind == boundary:
        seen += 1
        if seen == count:
            os.kill(os.getpid(), signal.SIGKILL)

run_plan(plan, on_event=on_event)
"""


ENDING_DRIVER = """
import os, signal, sys
from firesteel.jobs.cli import main
from firesteel.jobs.run import plan_runner

real = plan_runner.run_plan

def run_plan(plan, *, on_event, **options):
    def watch(event):
        on_event(event)
        if event.kind == sys.argv[2]:
            os.kill(os.getpid(), signal.SIGTERM)
    return real(plan, on_event=watch, **options)

plan_runner.run_plan = run_plan
sys.exit(main.invoke(["apply", sys.argv[1], "--quiet"]))
"""


@dataclass(frozen=True, slots=True)
class Project:
    """A copy of the flights example with data at `root`."""

    folder: Path
    root: str
    tracking: str

    def pipeline(
        self, changes: Mapping[str, str] | None = None, sql: Mapping[str, str] | None = None, **params: str
    ) -> Pipeline:
        """Load the pipeline, with changes to the spec and the SQL."""
        tracked = {"experiment: /batch/flight_delay": f'uri: "{self.tracking}", experiment: /batch/flight_delay'}
        path = example_with(self.folder, {**(changes or {}), **tracked}, sql)
        return Pipeline.load(path, params={"root": self.root, **params})

    def published(self) -> dict[str, bytes]:
        """Return every published file that a reader sees, with its bytes."""
        storage, path = locate(f"{self.root}/scores")
        return {
            status.path[len(path) + 1 :]: storage.read(status.path)
            for status in storage.walk(path)
            if not status.name.startswith(("_", "."))
        }

    def rows(self) -> int:
        """Return the published rows, from the files."""
        import io

        return sum(pq.read_metadata(io.BytesIO(data)).num_rows for data in self.published().values())

    def leftovers(self) -> list[str]:
        """Return the files below staging: an ended run must leave none."""
        storage, path = locate(f"{self.root}/_firesteel/flight_delay_scores/staging")
        return [status.path for status in storage.walk(path)]


def kill_driver_at(plan_file: Path, boundary: str, count: int = 1) -> subprocess.CompletedProcess[str]:
    """Run a plan in a process that kills itself with SIGKILL at the `count`-th event of a kind."""
    return _driver(KILLING_DRIVER, plan_file, boundary, str(count))


@contextmanager
def started_driver(plan_file: Path) -> Iterator[subprocess.Popen[str]]:
    """Start a driver process for a test to kill. Its output is in `driver.log` beside the plan."""
    with plan_file.with_name("driver.log").open("w", encoding="utf-8") as log:
        driver = forks.Popen(
            [sys.executable, "-c", KILLING_DRIVER, str(plan_file), "never", "1"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            text=True,
            cwd=plan_file.parent,
            env=forks.own_workers(),
        )
        try:
            yield driver
        finally:
            driver.kill()
            driver.wait()


def end_driver_at(plan_file: Path, boundary: str) -> subprocess.CompletedProcess[str]:
    """Run a plan by `firesteel apply` in a process that gets SIGTERM at an event of a kind."""
    return _driver(ENDING_DRIVER, plan_file, boundary)


def _driver(code: str, plan_file: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return forks.run(
        [sys.executable, "-c", code, str(plan_file), *words], timeout=500, cwd=plan_file.parent, env=forks.own_workers()
    )


def firesteel(
    *words: str, folder: Path, environ: Mapping[str, str] | None = None, timeout_s: float = 280
) -> subprocess.CompletedProcess[str]:
    """Run the command line."""
    program = [sys.executable, "-m", "firesteel.jobs.cli.main", *words]
    return forks.run(program, timeout=timeout_s, cwd=folder, env={**os.environ, **(environ or {})})
