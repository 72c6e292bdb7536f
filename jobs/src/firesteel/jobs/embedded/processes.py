"""Start processes, wait for them and end them, at the latest with their parent."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from firesteel.conf.errors import RuntimeFault

STOP_S = 15.0
POLL_S = 0.1
MAX_ERROR_CHARS = 300
_LAUNCH = Path(__file__).with_name("launch.py")
_ERROR_WORDS = ("Exception", "ERROR", "Error:")


@dataclass(frozen=True, slots=True)
class Process:
    """A child process and its log file, whose output starts at `log_offset`."""

    name: str
    child: subprocess.Popen[bytes]
    log: Path
    log_offset: int

    @property
    def pid(self) -> int:
        """Return the process ID of the command, because the launcher executes the command in the same process."""
        return self.child.pid

    @property
    def alive(self) -> bool:
        """Return whether the process is running."""
        return self.child.poll() is None

    def last_error(self) -> str:
        """Return the last log line with an error or exception, else the last line."""
        with self.log.open("rb") as handle:
            handle.seek(self.log_offset)
            text = handle.read().decode(errors="replace")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        error_lines = [
            line for line in lines if any(word in line for word in _ERROR_WORDS) and not line.startswith("at ")
        ]
        return (error_lines or lines or ["(its log is empty)"])[-1][:MAX_ERROR_CHARS]

    def kill(self) -> None:
        """Kill the process, as a crash would."""
        self.child.kill()
        self.child.wait()

    def stop(self) -> None:
        """Terminate the process, and kill it after `STOP_S`."""
        stop_all([self])


def start(name: str, command: Sequence[str], log: Path, environ: Mapping[str, str] | None = None) -> Process:
    """Start a process that ends with this process, in its own session so that Ctrl-C does not reach it.

    Parameters
    ----------
    command
        The first argument is a path.
    log
        The process appends its output to this file.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    offset = log.stat().st_size if log.exists() else 0
    launch = [sys.executable, "-IS", str(_LAUNCH), str(os.getpid()), *command]
    environ = dict(os.environ if environ is None else environ)

    def spawn() -> subprocess.Popen[bytes]:
        with log.open("ab") as output:
            return subprocess.Popen(
                launch, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environ, start_new_session=True
            )

    return Process(name, _spawner().submit(spawn).result(), log, offset)


def stop_all(processes: Iterable[Process]) -> None:
    """Terminate all processes, and kill those that run after `STOP_S`."""
    remaining = list(processes)
    for process in remaining:
        if process.alive:
            process.child.terminate()
    deadline = time.monotonic() + STOP_S
    for process in remaining:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.child.wait(max(0.0, deadline - time.monotonic()))
            continue
        process.kill()


def wait_until(condition: Callable[[], bool], what: str, processes: Sequence[Process], timeout_s: float) -> None:
    """Wait for a condition.

    Raises
    ------
    RuntimeFault
        FS9005 with the log and its last error, if a process ends or the timeout expires before the condition is true.
    """
    deadline = time.monotonic() + timeout_s
    while not condition():
        for process in processes:
            if not process.alive:
                ended = f"{process.name} ended with {process.child.returncode} before {what}"
                raise RuntimeFault("FS9005", f"{ended}: {process.last_error()}", hint=f"See {process.log}.")
        if time.monotonic() > deadline:
            last_errors = "; ".join(f"{process.name}: {process.last_error()}" for process in processes)
            logs = ", ".join(str(process.log) for process in processes)
            raise RuntimeFault(
                "FS9005", f"{what}: not within {timeout_s:g} s. {last_errors}".strip(), hint=f"See {logs}."
            )
        time.sleep(POLL_S)


_spawners: dict[int, ThreadPoolExecutor] = {}


def _spawner() -> ThreadPoolExecutor:
    """Return a thread that lives as long as the process.

    PR_SET_PDEATHSIG acts when the *thread* that forked ends (prctl(2)), so a child of the caller's thread would end with that thread.
    There is one thread per process ID, because a forked child inherits the object but not the thread.
    """
    pid = os.getpid()
    if pid not in _spawners:
        _spawners[pid] = ThreadPoolExecutor(1, thread_name_prefix="firesteel-spawn")
    return _spawners[pid]
