"""What the embedded clusters share: one folder, one owner, processes that start and end together."""

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
    """What runs in a folder; written to `cluster.json` when all of it is ready, and removed at the end."""

    owner: int
    addresses: Mapping[str, str]
    processes: Mapping[str, int]


class Cluster:
    """A context manager over processes in a folder. Entered again after its end, it starts again on the same data."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self._running: dict[str, Process] = {}
        self._lock: IO[str] | None = None

    @property
    def processes(self) -> tuple[Process, ...]:
        """All that were started and not killed, in the order of their start."""
        return tuple(self._running.values())

    @property
    def addresses(self) -> Mapping[str, str]:
        """Where it answers, by name."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        if self._lock is not None:
            raise RuntimeError("the cluster is up already")
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = _take(self.folder)
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
        """Stop all processes; may be called twice."""
        stop_all(reversed(self._running.values()))
        self._running.clear()
        if self._lock is not None:
            (self.folder / STATE).unlink(missing_ok=True)
            self._lock.close()
            self._lock = None

    def _start(self) -> None:
        """Start everything and wait until it is ready."""
        raise NotImplementedError

    def _launch(self, name: str, command: Sequence[str], environ: Mapping[str, str] | None = None) -> Process:
        process = start(name, command, self.folder / "logs" / f"{name}.log", environ)
        self._running[name] = process
        return process

    def _kill(self, name: str) -> None:
        self._running.pop(name).kill()


def state_of(folder: Path) -> State | None:
    """What runs in a folder; None when nothing does."""
    owner = owner_of(folder)
    path = folder / STATE
    if owner is None or not path.exists():
        return None
    state = State(**json.loads(path.read_text(encoding="utf-8")))
    return state if state.owner == owner else None


def owner_of(folder: Path) -> int | None:
    """The process that runs, starts or stops a cluster in a folder."""
    path = folder / LOCK
    if not path.exists():
        return None
    with path.open(encoding="utf-8") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return int(handle.read() or 0) or None
    return None


def pyspark_home() -> Path:
    """Where pyspark's scripts and jars lie.

    Raises
    ------
    RuntimeFault
        FS9004 when it is not installed.
    """
    spec = find_spec("pyspark")
    if spec is None or spec.origin is None:
        raise RuntimeFault("FS9004", "pyspark is not installed.", hint="pip install firesteel")
    return Path(spec.origin).parent


def ask(url: str) -> Any:
    """The JSON that a server of ours answers; None while it does not. Never through a proxy: it is on this machine."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=2) as answer:
            return json.load(answer)
    except (OSError, ValueError):
        return None


def _take(folder: Path) -> IO[str]:
    """Lock the folder for this process; the kernel lets go of it when the process ends, however it ends."""
    handle = (folder / LOCK).open("a+", encoding="utf-8")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        handle.close()
        owner = owner_of(folder)
        raise RuntimeFault(
            "FS9005",
            f"{folder} is in use by process {owner or '(unknown)'}.",
            hint="Stop that one, or choose another folder.",
        ) from None
    handle.truncate(0)
    handle.write(str(os.getpid()))
    handle.flush()
    return handle
