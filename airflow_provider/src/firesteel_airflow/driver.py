"""firesteel's driver as a process: apart from the worker's process group, its words in a file, its end watched.

A driver outlives the worker that started it: it has a session of its own, and writes to a file, which no reader can break. That is
what makes a retry after a worker's death a matter of looking, and not of scoring again.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from firesteel_airflow.call import Call, NoFiresteel
from firesteel_airflow.private_folder import private_folder
from firesteel_airflow.process import is_dead, machine_id, started_at

END_WITH_PARENT = "FIRESTEEL_END_WITH_PARENT"
"""The process id of a parent with which the driver ends; see `jobs/cli/parent.py`."""


@dataclass(frozen=True, slots=True)
class Handle:
    """A process on a machine, identified so that a trigger on another machine can refer to it."""

    machine: str
    pid: int
    process_start: str

    @property
    def here(self) -> bool:
        """Whether it runs on this machine, so that it can be watched and ended."""
        return bool(self.machine) and self.machine == machine_id()

    @property
    def gone(self) -> bool:
        """Whether it is known to have ended. False for a process elsewhere."""
        return is_dead(self.machine, self.pid, self.process_start)


@dataclass(frozen=True, slots=True)
class Driver:
    """A driver that this process started."""

    process: subprocess.Popen[bytes]
    handle: Handle
    log: Path


def start(call: Call, run_id: str, work_folder: str, *, bound: bool) -> Driver:
    """Start a driver.

    Parameters
    ----------
    bound
        End it when this process dies, however that dies.

    Raises
    ------
    NoFiresteel
        The folder of its log is not private.
    """
    log = log_path(work_folder, run_id)
    try:
        private_folder(log.parent)
    except PermissionError as error:
        raise NoFiresteel(f"{error} Set [firesteel] work_folder, or correct the folder.") from error
    environment = call.surroundings()
    environment["PYTHONUNBUFFERED"] = "1"
    if bound:
        environment[END_WITH_PARENT] = str(os.getpid())
    with log.open("wb") as out:
        process = subprocess.Popen(
            call.driver(run_id),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd=call.folder or None,
            env=environment,
            start_new_session=True,
        )
    return Driver(process, Handle(machine_id(), process.pid, started_at(process.pid)), log)


def log_path(work_folder: str, run_id: str) -> Path:
    """Return the path of a driver's log on its machine."""
    folder = work_folder or str(Path(tempfile.gettempdir(), f"firesteel-airflow-{os.getuid()}"))
    return Path(folder, f"{run_id}.log")


def end(call: Call, run_id: str, handle: Handle, wait_s: float) -> subprocess.Popen[bytes]:
    """Have a driver on this machine ended, and what it held released, by a process that outlives ours.

    Airflow gives a task that it kills five seconds, and then kills its whole process group.
    """
    words = [sys.executable, "-m", "firesteel_airflow.reaper"]
    words += [handle.machine, str(handle.pid), handle.process_start, str(wait_s)]
    for each in (call.cancel(run_id), call.recover()):
        words += ["--", *each]
    environment = call.surroundings() | {"PYTHONPATH": os.pathsep.join(part for part in sys.path if part)}
    return subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=call.folder or None,
        env=environment,
        start_new_session=True,
    )


class Tail:
    """Reads the lines of a growing file, each once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._rest = b""

    def lines(self, *, final: bool = False) -> list[str]:
        """Return the new complete lines; with `final` also the last one without a line end."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return []
        self._offset += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        if final and self._rest:
            lines, self._rest = [*lines, self._rest], b""
        return [line.decode(errors="replace").rstrip() for line in lines]
