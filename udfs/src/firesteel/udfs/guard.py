"""A model behind a wall: each call in a process of its own, so that what kills the process is an error of the rows.

A row can end a Python worker: native code that segfaults, memory that the kernel takes back, a call that never returns. Spark
then tries the task again, it dies again, and hours are lost to one row. A task that may have died so is computed with its model
behind this wall: one process loads it, forks for each call, and outlives the forks. `bisect` does the rest.

The loading process computes nothing before it forks, and its numerical libraries have one thread each: a thread pool that is
open does not survive a fork.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import os
import pickle
import signal
import socket
import struct
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from firesteel.conf.errors import FiresteelError, ModelError
from firesteel.udfs.deadline import BatchTimeout
from firesteel.udfs.threads import POOLS
from firesteel.udfs.worker_errors import WorkerError, worker_error

if TYPE_CHECKING:
    from firesteel.udfs.spec import ModelRef

_LENGTH = struct.Struct(">Q")
_PR_SET_PDEATHSIG = 1


class WorkerDied(Exception):
    """The process that scored these rows was ended by a signal, or ended itself."""


@dataclass(frozen=True, slots=True)
class Call:
    """What one fork does."""

    batch: Any
    timeout_s: float | None


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a call: a prediction, what the model raised (class and text), or how the process ended."""

    prediction: Any = None
    raised: tuple[str, str] | None = None
    died: str = ""
    late: bool = False


class Guard:
    """The wall, seen from the worker: `predict` as a model's own."""

    def __init__(self, model: ModelRef, timeout_s: float | None) -> None:
        self._timeout_s = timeout_s
        ours, theirs = socket.socketpair()
        environ = {
            **os.environ,
            **dict.fromkeys(POOLS, "1"),
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }
        command = [sys.executable, "-c", "from firesteel.udfs.guard import serve; serve()", str(theirs.fileno())]
        self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], env=environ, stdin=subprocess.DEVNULL)
        theirs.close()
        self._socket = ours
        atexit.register(self.close)
        send(ours, model)
        loaded = receive(ours)
        if loaded is None:
            how = _ended(self._process.wait())
            raise ModelError("FS3012", f"model {model.name} cannot be loaded in a worker: the process was {how}.")
        if loaded:
            raise worker_error(Exception(loaded)) or ModelError("FS3012", loaded)

    def predict(self, batch: Any) -> Any:
        """What the model returns.

        Raises
        ------
        WorkerDied
            The process that computed it died.
        BatchTimeout
            It took longer than the step's `timeout`, in whatever code.
        Exception
            What the model raised.
        """
        send(self._socket, Call(batch, self._timeout_s))
        answer = receive(self._socket)
        if answer is None:
            raise ModelError("FS3012", f"the process that holds the model was {_ended(self._process.wait())}.")
        if answer.died:
            raise WorkerDied(answer.died)
        if answer.late:
            raise BatchTimeout(f"no answer within {self._timeout_s:g} s")
        if answer.raised is not None:
            name, text = answer.raised
            raise MemoryError(text) if name == "MemoryError" else type(name, (Exception,), {})(text)
        return answer.prediction

    def close(self) -> None:
        """End the process."""
        self._socket.close()
        self._process.kill()
        self._process.wait()


_GUARDS: dict[tuple[str, str, float | None], Guard] = {}
"""Per Python worker; one at a time."""


def guarded(model: ModelRef, timeout_s: float | None) -> Guard:
    """The worker's guard for a model, started when there is none."""
    key = (model.digest, model.method, timeout_s)
    if key not in _GUARDS:
        while _GUARDS:
            _GUARDS.popitem()[1].close()
        _GUARDS[key] = Guard(_resolved(model), timeout_s)
    return _GUARDS[key]


def _resolved(model: ModelRef) -> ModelRef:
    """With the folder in place of the archive's name: the process beside knows no SparkFiles."""
    from firesteel.udfs.model import model_folder

    return replace(model, archive=str(model_folder(model.archive)))


def serve() -> None:
    """The loading process: answer until the worker hangs up."""
    _die_with_the_parent()
    connection = socket.socket(fileno=int(sys.argv[1]))
    from firesteel.udfs.model import load_model

    model = receive(connection)
    try:
        loaded, _ = load_model(model)
    except FiresteelError as error:
        send(connection, str(WorkerError(error)))
        return
    send(connection, "")
    while (call := receive(connection)) is not None:
        _send_bytes(connection, _in_a_fork(loaded.predict, call))


def _in_a_fork(predict: Any, call: Call) -> bytes:
    """The pickled answer. It is not opened here: it may hold what only the model's own code can read."""
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        _compute(predict, call.batch, theirs)
    theirs.close()
    ours.settimeout(call.timeout_s)
    late = False
    try:
        data = _receive_bytes(ours)
    except TimeoutError:
        os.kill(pid, signal.SIGKILL)
        data, late = None, True
    finally:
        ours.close()
        _, status = os.waitpid(pid, 0)
    if data is not None:
        return data
    return _pickled(Answer(late=True) if late else Answer(died=_ended(os.waitstatus_to_exitcode(status))))


def _compute(predict: Any, batch: Any, answers: socket.socket) -> None:
    """The fork: one call, one answer, no clean-up of what belongs to its parent."""
    _die_with_the_parent()
    with contextlib.suppress(OSError):  # rather this one than the executor, where memory runs out
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    try:
        data = _pickled(Answer(prediction=predict(batch)))
    except BaseException as error:  # noqa: BLE001 - a model may raise anything; unwound further, the fork would never end
        data = _pickled(Answer(raised=(type(error).__name__, str(error))))
    try:
        _send_bytes(answers, data)
    finally:
        os._exit(0)


def _die_with_the_parent() -> None:
    """A call that never returns must not outlive the task that made it."""
    with contextlib.suppress(OSError, AttributeError):  # Linux has prctl
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _ended(code: int) -> str:
    return f"ended by {signal.Signals(-code).name}" if code < 0 else f"ended itself with code {code}"


def send(connection: socket.socket, value: object) -> None:
    """One value, with its length."""
    _send_bytes(connection, _pickled(value))


def receive(connection: socket.socket) -> Any:
    """The next value; None when the other side is gone."""
    data = _receive_bytes(connection)
    return None if data is None else pickle.loads(data)  # noqa: S301 - of a process that this one started, or that started it


def _pickled(value: object) -> bytes:
    return pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)


def _send_bytes(connection: socket.socket, data: bytes) -> None:
    connection.sendall(_LENGTH.pack(len(data)))
    connection.sendall(data)


def _receive_bytes(connection: socket.socket) -> bytes | None:
    head = _exactly(connection, _LENGTH.size)
    return None if head is None else _exactly(connection, _LENGTH.unpack(head)[0])


def _exactly(connection: socket.socket, size: int) -> bytes | None:
    data = bytearray()
    while len(data) < size:
        try:
            block = connection.recv(min(size - len(data), 1 << 20))
        except ConnectionResetError:
            return None
        if not block:
            return None
        data += block
    return bytes(data)
