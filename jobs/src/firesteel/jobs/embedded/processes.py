"""Processes that are started together, waited for, and never outlive their parent."""

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
LAST_WORDS = 300
_LAUNCH = Path(__file__).with_name("launch.py")
_TELLING = ("Exception", "ERROR", "Error:")


@dataclass(frozen=True, slots=True)
class Process:
    """A child process and the file that holds all it says, from `log_offset` on."""

    name: str
    child: subprocess.Popen[bytes]
    log: Path
    log_offset: int

    @property
    def pid(self) -> int:
        """Its process id; the launcher becomes the command, so this is the JVM's own."""
        return self.child.pid

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self.child.poll() is None

    def last_words(self) -> str:
        """The last line of its log that names an error or exception, else its last line."""
        with self.log.open("rb") as handle:
            handle.seek(self.log_offset)
            text = handle.read().decode(errors="replace")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        telling = [line for line in lines if any(word in line for word in _TELLING) and not line.startswith("at ")]
        return (telling or lines or ["(its log is empty)"])[-1][:LAST_WORDS]

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self.child.kill()
        self.child.wait()

    def stop(self) -> None:
        """Ask it to end; insist after `STOP_S`."""
        stop_all([self])


def start(name: str, command: Sequence[str], log: Path, environ: Mapping[str, str] | None = None) -> Process:
    """Start a process in a session of its own, so that a Ctrl-C reaches only us, that is killed when we end.

    Parameters
    ----------
    command
        The first word is a path.
    log
        Gets its output, after what is there already.
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
    """Ask all to end, then wait for each; insist after `STOP_S` together."""
    waiting = list(processes)
    for process in waiting:
        if process.alive:
            process.child.terminate()
    deadline = time.monotonic() + STOP_S
    for process in waiting:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.child.wait(max(0.0, deadline - time.monotonic()))
            continue
        process.kill()


def wait_until(condition: Callable[[], bool], what: str, processes: Sequence[Process], timeout_s: float) -> None:
    """Wait for a condition.

    Raises
    ------
    RuntimeFault
        FS9005 when a process ends before it, or the deadline passes: names the log and its last telling line.
    """
    deadline = time.monotonic() + timeout_s
    while not condition():
        for process in processes:
            if not process.alive:
                ended = f"{process.name} ended with {process.child.returncode} before {what}"
                raise RuntimeFault("FS9005", f"{ended}: {process.last_words()}", hint=f"See {process.log}.")
        if time.monotonic() > deadline:
            words = "; ".join(f"{process.name}: {process.last_words()}" for process in processes)
            logs = ", ".join(str(process.log) for process in processes)
            raise RuntimeFault("FS9005", f"{what}: not within {timeout_s:g} s. {words}".strip(), hint=f"See {logs}.")
        time.sleep(POLL_S)


_spawners: dict[int, ThreadPoolExecutor] = {}


def _spawner() -> ThreadPoolExecutor:
    """A thread that lasts as long as the process.

    PR_SET_PDEATHSIG acts when the *thread* that forked ends (prctl(2)): from a caller's own thread the cluster would end
    with it. One per process id, since a forked child inherits the object but not the thread.
    """
    pid = os.getpid()
    if pid not in _spawners:
        _spawners[pid] = ThreadPoolExecutor(1, thread_name_prefix="firesteel-spawn")
    return _spawners[pid]
