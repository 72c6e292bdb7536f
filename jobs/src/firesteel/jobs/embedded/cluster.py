"""Define the base of the embedded clusters: a folder with one owner, and processes that start and end together."""

from __future__ import annotations

import fcntl
import json
import os
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from firesteel.conf.errors import RuntimeFault
from firesteel.jobs.embedded.processes import Process, start, stop_all

LOCK = "cluster.lock"
STATE = "cluster.json"
START_S = 120.0


@dataclass(frozen=True, slots=True)
class State:
    """The running cluster of a folder. `cluster.json` holds it from the time when all processes are ready until the end."""

    owner: int
    addresses: Mapping[str, str]
    processes: Mapping[str, int]


class Cluster:
    """Manages the processes of a folder as a context manager. It can start again on the same data."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self._running: dict[str, Process] = {}
        self._lock: IO[str] | None = None

    @property
    def processes(self) -> tuple[Process, ...]:
        """Return the running processes in start order."""
        return tuple(self._running.values())

    @property
    def addresses(self) -> Mapping[str, str]:
        """Return the addresses by name."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        if self._lock is not None:
            raise RuntimeError("the cluster is already running")
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = _lock_folder(self.folder)
        try:
            self._start()
            state = State(os.getpid(), self.addresses, {process.name: process.pid for process in self.processes})
            (self.folder / STATE).write_text(json.dumps(asdict(state), indent=1) + "\n", encoding="utf-8")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop all processes. Further calls have no effect."""
        stop_all(reversed(self._running.values()))
        self._running.clear()
        if self._lock is not None:
            (self.folder / STATE).unlink(missing_ok=True)
            self._lock.close()
            self._lock = None

    def _start(self) -> None:
        """Start all processes and wait until they are ready."""
        raise NotImplementedError

    def _launch(self, name: str, command: Sequence[str], environ: Mapping[str, str] | None = None) -> Process:
        process = start(name, command, self.folder / "logs" / f"{name}.log", environ)
        self._running[name] = process
        return process

    def _kill(self, name: str) -> None:
        self._running.pop(name).kill()


def state_of(folder: Path) -> State | None:
    """Return the running cluster of a folder, or None."""
    owner = owner_of(folder)
    path = folder / STATE
    if owner is None or not path.exists():
        return None
    state = State(**json.loads(path.read_text(encoding="utf-8")))
    return state if state.owner == owner else None


def owner_of(folder: Path) -> int | None:
    """Return the ID of the process that runs, starts or stops a cluster in a folder, or None."""
    path = folder / LOCK
    if not path.exists():
        return None
    with path.open(encoding="utf-8") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            text = handle.read()
            return int(text) or None if text.isdigit() else None
    return None


def pyspark_home() -> Path:
    """Return the folder of pyspark's scripts and jars.

    Raises
    ------
    RuntimeFault
        FS9004 if pyspark is not installed.
    """
    spec = find_spec("pyspark")
    if spec is None or spec.origin is None:
        raise RuntimeFault("FS9004", "pyspark is not installed.", hint="Install it: `pip install firesteel`.")
    return Path(spec.origin).parent


def ask(url: str) -> Any:
    """Return the JSON response of a local server, or None if it does not answer. The request bypasses proxies."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=2) as answer:
            return json.load(answer)
    except (OSError, ValueError):
        return None


def _lock_folder(folder: Path) -> IO[str]:
    """Lock the folder for this process. The kernel releases the lock when the process ends."""
    handle = (folder / LOCK).open("a+", encoding="utf-8")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        handle.close()
        owner = owner_of(folder)
        raise RuntimeFault(
            "FS9005",
            f"{folder} is in use by process {owner or '(unknown)'}.",
            hint="Stop that process, or use another folder.",
        ) from None
    handle.truncate(0)
    handle.write(str(os.getpid()))
    handle.flush()
    return handle
