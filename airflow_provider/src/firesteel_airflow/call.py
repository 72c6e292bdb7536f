"""The command lines of firesteel that one task needs, and the environment that they run in."""

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

LOOK_TIMEOUT_S = 300.0
"""For one look at the ledger; NameNodes that restart are waited for, a minute or two."""

_OURS_ALONE = ("AIRFLOW", "_AIRFLOW", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__")
"""Variables that begin so are Airflow's: its paths must not reach another interpreter, its secrets nobody at all."""


class NoFiresteel(Exception):
    """The command is not there, or is not one that can run a pipeline. No retry mends that."""


class CannotLook(Exception):
    """The ledger could not be read; the text is firesteel's own."""


@dataclass(frozen=True, slots=True)
class Call:
    """What to run: rendered, and made of text alone, so that a trigger can carry it.

    `folder` is the working directory, `environment` what is added to ours. `part` is of a backfill.
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
        """JSON, for `of`."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Call:
        """From `as_dict`; JSON has made lists of the tuples."""
        made = dict(values)
        for name in ("arguments", "settings", "environment"):
            made[name] = tuple((str(key), str(value)) for key, value in made[name])
        return cls(**made)

    def driver(self, run_id: str) -> list[str]:
        """What does the work."""
        verb = "backfill" if self.mode == "backfill" else self.mode
        words = [self.command, verb, *self._spec(), "--start", self.start, "--run-id", run_id]
        words += ["--end", self.end] if self.end else []
        words += ["--run"] if self.mode == "submit" else []
        words += ["--force"] if self.force else []
        words += ["--pin"] if self.pin else []
        words += ["--resume"] if self.resume else []
        words += ["--part", self.part] if self.part else []
        words += ["--master", self.master] if self.master else []
        for key, value in self.settings:
            words += ["--conf", f"{key}={value}"]
        return words

    def status(self, run: str) -> list[str]:
        """Return the command that reads the state of the intervals and the run from the ledger."""
        start, separator, end = self.part.partition("..")
        if not separator:
            start, end = self.start, self.end
        words = [self.command, "status", *self._spec(), "--start", start, "--run", run, "--json"]
        return [*words, "--end", end] if end else words

    def cancel(self, run_id: str) -> list[str]:
        """What forbids a run to publish."""
        return [self.command, "cancel", run_id, *self._spec(), "--no-signal"]

    def recover(self) -> list[str]:
        """What finishes or discards what a killed driver left, and releases its lease."""
        return [self.command, "recover", *self._spec()]

    def surroundings(self, inherited: Mapping[str, str] = os.environ) -> dict[str, str]:
        """The environment of firesteel: ours without what is Airflow's own, and what the task adds."""
        kept = {key: value for key, value in inherited.items() if not key.startswith(_OURS_ALONE)}
        return {**kept, **dict(self.environment)}

    def look(self, run: str) -> dict[str, Any]:
        """What the ledger says.

        Raises
        ------
        CannotLook
            With what firesteel said.
        """
        try:
            done = subprocess.run(
                self.status(run),
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=LOOK_TIMEOUT_S,
                check=False,
                cwd=self.folder or None,
                env=self.surroundings(),
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise CannotLook(f"{type(error).__name__}: {error}") from error
        return parsed(done.returncode, done.stdout, done.stderr)

    def _spec(self) -> list[str]:
        words = [self.spec]
        if self.profile:
            words += ["--profile", self.profile]
        for name, value in self.arguments:
            words += ["--param", f"{name}={value}"]
        return words


def parsed(code: int, out: str, err: str) -> dict[str, Any]:
    """The answer of `firesteel status`; CannotLook when it is none."""
    if code == 0:
        try:
            found: dict[str, Any] = json.loads(out)
        except ValueError:
            raise CannotLook(f"`firesteel status` gave no JSON: {out[:200]!r}") from None
        return found
    try:
        said = "; ".join(f"{each['code']} {each['what']} {each['hint']}" for each in json.loads(out)["errors"])
    except (ValueError, KeyError, TypeError):
        said = (err.strip().splitlines() or ["it said nothing"])[-1]
    raise CannotLook(f"`firesteel status` ended with {code}: {said}")


def find_command(command: str) -> str:
    """The path of firesteel's command.

    Raises
    ------
    NoFiresteel
        It is not there; or it is that of Airflow's own environment, which cannot run a pipeline.
    """
    hint = "Set [firesteel] command (AIRFLOW__FIRESTEEL__COMMAND) to bin/firesteel of the environment that has pyspark and MLflow."
    found = shutil.which(command)
    if found is None:
        raise NoFiresteel(f"there is no command {command} here. {hint}")
    if Path(found).parent == Path(sys.prefix, "bin") and find_spec("pyspark") is None:
        raise NoFiresteel(f"{found} is of Airflow's own environment, which has no pyspark. {hint}")
    return found
