"""Applications on the shuffle plugin, each in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

JOBS = Path(__file__).with_name("shuffle_jobs.py")
LOCAL_CLUSTER = "local-cluster[2,1,1024]"
PLAIN = {
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.memory": "1g",
    "spark.executor.memory": "768m",
    # Seconds of work: a full compiler would take longer than it saves.
    "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1",
    "spark.executor.extraJavaOptions": "-XX:TieredStopAtLevel=1",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.sql.shuffle.partitions": "6",
    "spark.sql.autoBroadcastJoinThreshold": "-1",
    "spark.scheduler.minRegisteredResourcesRatio": "1.0",
    "spark.scheduler.maxRegisteredResourcesWaitingTime": "60s",
}


@dataclass(frozen=True, slots=True)
class Ended:
    """What an application printed at its end, and its log."""

    told: dict[str, Any]
    log: str
    code: int

    @property
    def digests(self) -> dict[str, str]:
        return self.told["digests"]


def plugin_conf(socket: Path | str, **settings: str) -> dict[str, str]:
    """The lines that a plain application needs."""
    from firesteel.rdma_shuffle.jar import build_or_find

    own = {f"spark.firesteel.shuffle.{key}": value for key, value in settings.items()}
    return {
        "spark.jars": str(build_or_find()),
        "spark.plugins": "firesteel.shuffle.ShufflePlugin",
        "spark.firesteel.shuffle.socket": str(socket),
        **own,
    }


def start(folder: Path, master: str, jobs: list[str], conf: dict[str, str]) -> subprocess.Popen[str]:
    """Start an application; `finish` waits for it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "marks").mkdir(exist_ok=True)
    (folder / "events").mkdir(exist_ok=True)
    own = {
        "spark.local.dir": str(folder / "local"),
        "spark.sql.warehouse.dir": str(folder / "warehouse"),
        "spark.eventLog.enabled": "true",
        "spark.eventLog.dir": f"file://{folder}/events",
        "spark.eventLog.rolling.enabled": "false",
    }
    request = folder / "request.json"
    request.write_text(json.dumps({"master": master, "jobs": jobs, "conf": {**PLAIN, **own, **conf}}))
    with (folder / "log").open("w") as log:
        return subprocess.Popen(
            [sys.executable, str(JOBS), str(request)],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            cwd=folder,
            env={**os.environ, "SHUFFLE_MARKS": str(folder / "marks")},
        )


def finish(folder: Path, process: subprocess.Popen[str], timeout_s: float = 240) -> Ended:
    """Wait for the application; its last line is what it tells."""
    try:
        out, _ = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    log = (folder / "log").read_text()
    lines = out.strip().splitlines()
    return Ended(json.loads(lines[-1]) if lines and process.returncode == 0 else {}, log, process.returncode)


def run(folder: Path, master: str, jobs: list[str], conf: dict[str, str]) -> Ended:
    """Run to the end; a failed application fails the test with the end of its log."""
    ended = finish(folder, start(folder, master, jobs, conf))
    assert ended.code == 0, ended.log[-8000:]
    return ended


def events(folder: Path) -> list[dict[str, Any]]:
    """The event log of the one application that ran in the folder."""
    (path,) = [path for path in (folder / "events").iterdir() if not path.name.startswith(".")]
    return [json.loads(line) for line in path.read_text().splitlines()]
