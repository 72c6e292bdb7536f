"""A real Airflow 3 in its own environment with the firesteel provider. firesteel runs in another environment.

Airflow's environment is created once for its constraints, and kept in the user's cache. Each test session adds an environment
on top, into which pip installs the provider.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import venv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from firesteel.jobs.embedded.ports import free_port
from support.environments import cached_environment, quietly
from support.waiting import wait_for

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent / "airflow"
BIN = Path(sys.prefix, "bin")
READY_S = 240.0
PARTS = (
    ("api-server",),
    ("scheduler", "--skip-serve-logs"),
    ("dag-processor",),
    ("triggerer", "--skip-serve-logs"),
)


def airflow_environment() -> Path:
    """Return the folder of Airflow's environment."""
    return cached_environment("airflow", HERE / "constraints.txt")


def with_provider(environment: Path, wheel: Path, folder: Path) -> Path:
    """Create an environment with all of `environment` and the provider's wheel.

    pip checks the wheel's dependencies without an index, so Airflow's packages must satisfy them.
    """
    venv.EnvBuilder(with_pip=False, symlinks=True).create(folder)
    packages = next((environment / "lib").glob("python*")) / "site-packages"
    own = folder / packages.relative_to(environment)
    own.joinpath("airflow.pth").write_text(f"{packages}\n")
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install", "--quiet"]
    quietly([*pip, "--no-index", "--disable-pip-version-check", str(wheel)])
    return folder


@dataclass(frozen=True, slots=True)
class AirflowHome:
    """An AIRFLOW_HOME on SQLite, with the actions of a user."""

    environment: Path
    folder: Path
    variables: Mapping[str, str]
    url: str
    headers: dict[str, str]

    @classmethod
    def make(cls, environment: Path, folder: Path, dags: Path, more: Mapping[str, str]) -> AirflowHome:
        """Configure Airflow by environment variables, and create its database."""
        folder.mkdir(parents=True, exist_ok=True)
        port = free_port()
        kept = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("AIRFLOW", "PYTHONPATH", "VIRTUAL_ENV"))
        }
        settings = {
            "AIRFLOW_HOME": str(folder),
            "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "false",
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__PARALLELISM": "6",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "true",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "false",
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(port),
            "AIRFLOW__API__BASE_URL": f"http://127.0.0.1:{port}",
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__API_AUTH__JWT_SECRET": "for tests of one machine alone, long enough for HMAC with SHA-512 keys.",
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "INFO",
            "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.5",
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_SEC": "2",
            "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
            "AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES": "1",
            "AIRFLOW__FIRESTEEL__COMMAND": str(BIN / "firesteel"),
            "AIRFLOW__FIRESTEEL__WORK_FOLDER": str(folder / "work"),
        }
        home = cls(environment, folder, {**kept, **settings, **more}, f"http://127.0.0.1:{port}", {})
        home.airflow("db", "migrate")
        return home

    def airflow(self, *words: str, code: int = 0) -> str:
        """Run Airflow's command line, and return its output with errors. It must end with `code`."""
        done = subprocess.run(
            [str(self.environment / "bin" / "python"), "-m", "airflow", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=280,
            check=False,
            env=dict(self.variables),
            cwd=self.folder,
        )
        assert done.returncode == code, done.stdout[-8000:]
        return done.stdout

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Run the API server, the scheduler, the DAG processor and the triggerer as processes until the block ends."""
        logs = self.folder / "parts"
        logs.mkdir(exist_ok=True)
        started: list[subprocess.Popen[bytes]] = []
        try:
            for words in PARTS:
                with (logs / f"{words[0]}.log").open("wb") as log:
                    command = [str(self.environment / "bin" / "python"), "-m", "airflow", *words]
                    started.append(
                        subprocess.Popen(
                            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=dict(self.variables), cwd=self.folder,
                            start_new_session=True,
                        )
                    )  # fmt: skip
            wait_for(self._ready, f"Airflow is ready; see {logs}", READY_S, every_s=0.5)
            yield
        finally:
            self._stop(started)

    def _ready(self) -> bool:
        try:
            health = requests.get(f"{self.url}/api/v2/monitor/health", timeout=30).json()
        except (requests.RequestException, ValueError):
            return False
        return all(health[part]["status"] == "healthy" for part in ("scheduler", "dag_processor", "triggerer"))

    def _stop(self, started: Sequence[subprocess.Popen[bytes]]) -> None:
        for process in started:
            process.terminate()
        deadline = time.monotonic() + 20
        for process in started:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.1, deadline - time.monotonic()))
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for process in started:
            process.wait()

    def processes(self) -> list[int]:
        """Return all processes of this home, by their environment: some have left the known process groups."""
        wanted, found = f"AIRFLOW_HOME={self.folder}".encode(), []
        for path in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                if wanted in path.read_bytes().split(b"\0"):
                    found.append(int(path.parent.name))
        return found

    def call(self, method: str, path: str, **options: Any) -> Any:
        """Call Airflow's REST API, as its pages do."""
        if not self.headers:
            token = requests.get(f"{self.url}/auth/token", timeout=60).json()["access_token"]
            self.headers["Authorization"] = f"Bearer {token}"
        answer = requests.request(method, f"{self.url}/api/v2/{path}", headers=self.headers, timeout=60, **options)
        assert answer.ok, f"{answer.status_code} {answer.text}"
        return answer.json()

    def trigger(self, dag: str, day: str) -> str:
        """Start a DAG run, and return its id."""
        made = self.call("POST", f"dags/{dag}/dagRuns", json={"logical_date": f"{day}T00:00:00Z"})
        return str(made["dag_run_id"])

    def tasks(self, dag: str, run: str) -> dict[str, dict[str, Any]]:
        """Return the task instances by task."""
        found = self.call("GET", f"dags/{dag}/dagRuns/{run}/taskInstances")["task_instances"]
        return {each["task_id"]: each for each in found}

    def xcom(self, dag: str, run: str, task: str, key: str = "return_value") -> Any:
        """Return the XCom value of a task."""
        value = self.call("GET", f"dags/{dag}/dagRuns/{run}/taskInstances/{task}/xcomEntries/{key}")["value"]
        with contextlib.suppress(ValueError):
            while isinstance(value, str):  # as it is stored, which is JSON
                value = json.loads(value)
        return value

    def log(self, dag: str, run: str, task: str, attempt: int = 1) -> str:
        """Return the log of a task."""
        path = self.folder / "logs" / f"dag_id={dag}" / f"run_id={run}" / f"task_id={task}" / f"attempt={attempt}.log"
        return path.read_text() if path.exists() else ""
