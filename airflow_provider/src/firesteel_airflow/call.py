"""The firesteel commands of a task, and their environment."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

Mode = Literal["run", "submit", "backfill"]

STATUS_TIMEOUT_S = 300.0
"""Time for one `firesteel status`, in seconds. It waits a minute or two for NameNodes that restart."""

_AIRFLOW_ONLY = ("AIRFLOW", "_AIRFLOW", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__")
"""Prefixes of Airflow's variables: its paths must not reach another interpreter, and its secrets no other program."""


class NoFiresteel(Exception):
    """The command does not exist, or cannot run a pipeline. A retry does not help."""


class StatusUnavailable(Exception):
    """`firesteel status` failed; the text is its error."""


@dataclass(frozen=True, slots=True)
class Call:
    """The rendered arguments of a task. They can be serialized for a trigger.

    `folder` is the working directory, `environment` has additional variables, and `part` is a part of a backfill.
    """

    command: str
    spec: str
    start: str
    end: str = ""
    profile: str = ""
    arguments: tuple[tuple[str, str], ...] = ()
    mode: Mode = "run"
    part: str = ""
    pin: bool = False
    resume: bool = False
    force: bool = False
    master: str = ""
    settings: tuple[tuple[str, str], ...] = ()
    folder: str = ""
    environment: tuple[tuple[str, str], ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return a mapping for JSON; `of` is the inverse."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Call:
        """Return the call of a mapping from `as_dict`, in which JSON has turned tuples into lists."""
        fields = dict(values)
        for name in ("arguments", "settings", "environment"):
            fields[name] = tuple((str(key), str(value)) for key, value in fields[name])
        return cls(**fields)

    def driver(self, run_id: str) -> list[str]:
        """Return the command of the driver."""
        args = [self.command, self.mode, *self._spec(), "--start", self.start, "--run-id", run_id]
        args += ["--end", self.end] if self.end else []
        args += ["--run"] if self.mode == "submit" else []
        args += ["--force"] if self.force else []
        args += ["--pin"] if self.pin else []
        args += ["--resume"] if self.resume else []
        args += ["--part", self.part] if self.part else []
        args += ["--master", self.master] if self.master else []
        for key, value in self.settings:
            args += ["--conf", f"{key}={value}"]
        return args

    def status(self, run: str) -> list[str]:
        """Return the command that reads the state of the intervals and the run from the ledger."""
        start, separator, end = self.part.partition("..")
        if not separator:
            start, end = self.start, self.end
        args = [self.command, "status", *self._spec(), "--start", start, "--run", run, "--json"]
        return [*args, "--end", end] if end else args

    def cancel(self, run_id: str) -> list[str]:
        """Return the command that forbids a run to publish."""
        return [self.command, "cancel", run_id, *self._spec(), "--no-signal"]

    def recover(self) -> list[str]:
        """Return the command that completes or discards the work of a killed driver, and releases its lease."""
        return [self.command, "recover", *self._spec()]

    def surroundings(self, inherited: Mapping[str, str] = os.environ) -> dict[str, str]:
        """Return the environment of firesteel: the inherited one without Airflow's variables, and those of the task."""
        variables = {key: value for key, value in inherited.items() if not key.startswith(_AIRFLOW_ONLY)}
        return {**variables, **dict(self.environment)}

    def read_status(self, run: str) -> dict[str, Any]:
        """Return the state of the intervals and of the run, from the ledger.

        Raises
        ------
        StatusUnavailable
            The ledger cannot be read.
        """
        try:
            done = subprocess.run(
                self.status(run),
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=STATUS_TIMEOUT_S,
                check=False,
                cwd=self.folder or None,
                env=self.surroundings(),
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise StatusUnavailable(f"{type(error).__name__}: {error}") from error
        return parse_status(done.returncode, done.stdout, done.stderr)

    def _spec(self) -> list[str]:
        args = [self.spec]
        if self.profile:
            args += ["--profile", self.profile]
        for name, value in self.arguments:
            args += ["--param", f"{name}={value}"]
        return args


def parse_status(code: int, out: str, err: str) -> dict[str, Any]:
    """Return the output of `firesteel status`; raise StatusUnavailable if it failed."""
    if code == 0:
        try:
            status: dict[str, Any] = json.loads(out)
        except ValueError:
            raise StatusUnavailable(f"the output of `firesteel status` is not JSON: {out[:200]!r}") from None
        return status
    try:
        reason = "; ".join(f"{error['code']} {error['what']} {error['hint']}" for error in json.loads(out)["errors"])
    except (ValueError, KeyError, TypeError):
        reason = (err.strip().splitlines() or ["there is no output"])[-1]
    raise StatusUnavailable(f"`firesteel status` failed with exit code {code}: {reason}")


def find_command(command: str) -> str:
    """Return the path of the firesteel command.

    Raises
    ------
    NoFiresteel
        It does not exist, or belongs to Airflow's environment, which cannot run a pipeline.
    """
    hint = "Set [firesteel] command (AIRFLOW__FIRESTEEL__COMMAND) to bin/firesteel of the environment that has pyspark and MLflow."
    path = shutil.which(command)
    if path is None:
        raise NoFiresteel(f"the command {command} does not exist on this machine. {hint}")
    if Path(path).parent == Path(sys.prefix, "bin") and find_spec("pyspark") is None:
        raise NoFiresteel(f"{path} belongs to Airflow's environment, which has no pyspark. {hint}")
    return path
