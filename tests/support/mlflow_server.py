"""A real MLflow tracking server, which a test can kill and start again with the same port and database."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from firesteel.jobs.embedded.ports import remembered_ports
from support.environments import cached_environment
from support.mlflow_store import new_store
from support.waiting import wait_for


def old_mlflow() -> str:
    """Return the Python of an environment with MLflow 2.22."""
    pins = Path(__file__).parent / "old_mlflow" / "constraints.txt"
    return str(cached_environment("mlflow", pins) / "bin" / "python")


class MlflowServer:
    """The server at the address `uri`, as a context manager."""

    def __init__(
        self, folder: Path, *options: str, environ: Mapping[str, str] | None = None, python: str = sys.executable
    ) -> None:
        if python == sys.executable:  # another version of MLflow creates its own tables
            new_store(folder / "mlflow.db", "mlflow-artifacts:/0")
        self._python = python
        self._folder = folder
        self.artifacts = folder / "artifacts"
        self._options = options
        self._environ = dict(environ or {})
        self._port = remembered_ports(folder / "ports.json", ["mlflow"])["mlflow"]
        self._process: subprocess.Popen[bytes] | None = None
        self.uri = f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start the server. Return when it answers."""
        words = ["server", "--host", "127.0.0.1", "--port", str(self._port), "--workers", "1"]
        words += ["--backend-store-uri", f"sqlite:///{self._folder}/mlflow.db"]
        words += ["--artifacts-destination", str(self.artifacts)]
        words += self._options
        environ = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        with (self._folder / "log").open("a") as log:
            process = subprocess.Popen(
                [self._python, "-m", "mlflow", *words],
                stdout=log,
                stderr=log,
                env=environ | self._environ,
                cwd=self._folder,
                start_new_session=True,
            )
        self._process = process
        wait_for(lambda: process.poll() is not None or self._healthy(), "the MLflow server answers", 240)
        assert process.poll() is None, (self._folder / "log").read_text()

    def kill(self) -> None:
        """Kill the server and its workers with SIGKILL."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(30)
            self._process = None

    def _healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=5) as answer:
                return answer.status == 200
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False
