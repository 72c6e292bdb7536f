"""Applications with the shuffle plugin, each in its own process."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from firesteel.jobs.embedded.cluster import pyspark_home
from firesteel.jobs.embedded.standalone import EmbeddedStandalone
from support import forks
from support.quick_jvm import quick_jvm
from support.waiting import runs, wait_for

JOBS = Path(__file__).with_name("shuffle_jobs.py")
LOCAL_CLUSTER = "local-cluster[2,1,1024]"
PLAIN = {
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.memory": "1g",
    "spark.executor.memory": "768m",
    # Seconds of work: a full compiler would take longer than it saves.
    "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.sql.shuffle.partitions": "6",
    "spark.sql.autoBroadcastJoinThreshold": "-1",
    "spark.scheduler.minRegisteredResourcesRatio": "1.0",
    "spark.scheduler.maxRegisteredResourcesWaitingTime": "60s",
}


class Application:
    """A Spark application that runs jobs by name, one after the other. Its files stay in `folder`."""

    def __init__(self, folder: Path, master: str, conf: dict[str, str], script: Path = JOBS) -> None:
        self.folder = folder
        for name in ("marks", "events"):
            (folder / name).mkdir(parents=True)
        own = {
            "spark.local.dir": str(folder / "local"),
            "spark.sql.warehouse.dir": str(folder / "warehouse"),
            "spark.eventLog.enabled": "true",
            "spark.eventLog.dir": (folder / "events").as_uri(),
            "spark.eventLog.rolling.enabled": "false",
            "spark.eventLog.compress": "false",
        }
        request = folder / "request.json"
        quick = {
            "spark.executor.extraJavaOptions": quick_jvm()
            if forks.VARIABLE in os.environ
            else "-XX:TieredStopAtLevel=1"
        }
        request.write_text(json.dumps({"master": master, "conf": {**PLAIN, **quick, **own, **conf}}))
        with (folder / "log").open("w") as log:
            self._process = forks.Popen(
                [sys.executable, str(script), str(request)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=folder,
                env={**os.environ, "SHUFFLE_MARKS": str(folder / "marks")},
            )

    def __enter__(self) -> Self:
        try:
            self.about = self._answer("start")
        except BaseException:
            self._process.kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._process.kill()
        self._process.wait()
        # local-cluster's Workers keep the folders of their executors below SPARK_HOME, whatever one says.
        shutil.rmtree(Path(pyspark_home(), "work", self.about["app"]), ignore_errors=True)

    def run(self, job: str) -> Any:
        """Run a job, and return its result. A failure fails the test with the end of the log."""
        assert self._process.stdin is not None
        self._process.stdin.write(job + "\n")
        self._process.stdin.flush()
        return self._answer(job)["result"]

    def stop(self) -> None:
        """End the application, so that its event log is complete."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            self._process.stdin.close()
            self._process.wait(120)

    def _answer(self, what: str) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"{what} failed:\n{self.log[-8000:]}"
        return json.loads(line)

    @property
    def log(self) -> str:
        """Return the logs of the driver and, on local-cluster, of the Workers."""
        return (self.folder / "log").read_text()

    def executors(self, host: str = "") -> list[int]:
        """Return the executor processes on this machine; with a host, only those of that host."""
        return executors_of(self.about["app"], host)

    def kill_executors(self, host: str = "") -> None:
        """Kill all executors, or those of one host, with SIGKILL. Return when they have ended."""
        pids = self.executors(host)
        assert pids
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not any(map(runs, pids)), "the executors are gone")

    def events(self) -> list[dict[str, Any]]:
        """Return the event log."""
        (path,) = [path for path in (self.folder / "events").iterdir() if not path.name.startswith(".")]
        return [json.loads(line) for line in path.read_text().splitlines()]

    def map_tasks(self) -> Counter[tuple[int, int]]:
        """Return how often a task of each (stage, partition) with map outputs succeeded."""
        ends = (event for event in self.events() if event["Event"] == "SparkListenerTaskEnd")
        return Counter(
            (event["Stage ID"], event["Task Info"]["Partition ID"])
            for event in ends
            if event["Task Type"] == "ShuffleMapTask" and event["Task End Reason"]["Reason"] == "Success"
        )


def executors_of(application: str, host: str = "") -> list[int]:
    """Return the executor processes of an application on this machine; with a host, only those of that host."""
    wanted = {b"org.apache.spark.executor.CoarseGrainedExecutorBackend", application.encode()}
    wanted |= {host.encode()} if host else set()
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if wanted <= set(path.read_bytes().split(b"\0")):
                found.append(int(path.parent.name))
    return found


def plugin_conf(socket: Path | str, **settings: str) -> dict[str, str]:
    """Return the settings of a plain application."""
    from firesteel.rdma_shuffle.jar import build_or_find

    own = {f"spark.firesteel.shuffle.{key}": value for key, value in settings.items()}
    return {
        "spark.jars": str(build_or_find()),
        "spark.plugins": "firesteel.shuffle.ShufflePlugin",
        "spark.firesteel.shuffle.socket": str(socket),
        **own,
    }


@contextlib.contextmanager
def worker_on(
    host: str, standalone: EmbeddedStandalone, folder: Path, *, cores: int = 1, memory: str = "1g"
) -> Iterator[None]:
    """Start a Worker on another address of this machine, which is another host for Spark."""
    before = standalone.alive_workers()
    command = [str(pyspark_home() / "bin" / "spark-class"), "org.apache.spark.deploy.worker.Worker", "--host", host]
    command += ["--cores", str(cores), "--memory", memory, "--webui-port", "0", "--work-dir", str(folder / "worker")]
    environ = {
        **os.environ,
        "SPARK_HOME": str(pyspark_home()),
        "SPARK_LOCAL_IP": host,
        "SPARK_LOCAL_HOSTNAME": host,
        "SPARK_LOCAL_DIRS": str(folder / "worker-local"),
        "SPARK_DAEMON_MEMORY": "256m",
        "SPARK_DAEMON_JAVA_OPTS": "-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Dspark.shuffle.service.enabled=false",
    }
    with (folder / "worker.log").open("w") as log:
        process = subprocess.Popen([*command, standalone.master], stdout=log, stderr=log, env=environ)
    try:
        wait_for(lambda: standalone.alive_workers() > before, "the other host's Worker is there")
        yield
    finally:
        process.kill()
        process.wait()
