"""Run each model call in its own process, so that a crash becomes an error of the rows.

A row can crash a Python worker: native code segfaults, the kernel kills the process for its memory, or a call never returns. Each
retry of Spark crashes again. After a crash, firesteel therefore isolates the model: one process loads the model and forks for each
call. `bisect` then finds the rows that crash a fork.

The loading process computes nothing before it forks and limits numerical libraries to one thread, because a thread pool does not
survive a fork.
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
    """A signal or an exit ended the process that scored these rows."""


@dataclass(frozen=True, slots=True)
class Call:
    """The request to one fork."""

    batch: Any
    timeout_s: float | None


@dataclass(frozen=True, slots=True)
class Answer:
    """The result of one call: a prediction, the model's error (class and text), or how the process ended."""

    prediction: Any = None
    raised: tuple[str, str] | None = None
    died: str = ""
    late: bool = False


class Guard:
    """A model in a separate process, with the model's `predict`."""

    def __init__(self, model: ModelRef, timeout_s: float | None) -> None:
        self._timeout_s = timeout_s
        local_socket, remote_socket = socket.socketpair()
        environ = {
            **os.environ,
            **dict.fromkeys(POOLS, "1"),
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }
        command = [sys.executable, "-c", "from firesteel.udfs.guard import serve; serve()", str(remote_socket.fileno())]
        self._process = subprocess.Popen(
            command, pass_fds=[remote_socket.fileno()], env=environ, stdin=subprocess.DEVNULL
        )
        remote_socket.close()
        self._socket = local_socket
        atexit.register(self.close)
        send(local_socket, model)
        loaded = receive(local_socket)
        if loaded is None:
            how = _ended(self._process.wait())
            raise ModelError("FS3012", f"model {model.name} cannot be loaded in a worker: the process was {how}.")
        if loaded:
            raise worker_error(Exception(loaded)) or ModelError("FS3012", loaded)

    def predict(self, batch: Any) -> Any:
        """Return the model's prediction.

        Raises
        ------
        WorkerDied
            The process of the call crashed.
        BatchTimeout
            The call exceeded the step's `timeout`.
        Exception
            The model's error.
        """
        send(self._socket, Call(batch, self._timeout_s))
        answer = receive(self._socket)
        if answer is None:
            raise ModelError("FS3012", f"the process that holds the model was {_ended(self._process.wait())}.")
        if answer.died:
            raise WorkerDied(answer.died)
        if answer.late:
            raise BatchTimeout(f"no result within {self._timeout_s:g} s")
        if answer.raised is not None:
            name, text = answer.raised
            raise MemoryError(text) if name == "MemoryError" else type(name, (Exception,), {})(text)
        return answer.prediction

    def close(self) -> None:
        """Kill the process."""
        self._socket.close()
        self._process.kill()
        self._process.wait()


_GUARDS: dict[tuple[str, str, float | None], Guard] = {}
"""The guard of this Python worker; at most one."""


def guarded(model: ModelRef, timeout_s: float | None) -> Guard:
    """Return the worker's guard for a model, and start it if necessary."""
    key = (model.digest, model.method, timeout_s)
    if key not in _GUARDS:
        while _GUARDS:
            _GUARDS.popitem()[1].close()
        _GUARDS[key] = Guard(_with_local_folder(model), timeout_s)
    return _GUARDS[key]


def _with_local_folder(model: ModelRef) -> ModelRef:
    """Replace the archive's name by its local folder, because the loading process has no SparkFiles."""
    from firesteel.udfs.model import model_folder

    return replace(model, archive=str(model_folder(model.archive)))


def serve() -> None:
    """Serve calls in the loading process until the worker closes the connection."""
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
    """Return the pickled answer. Only the model's own code may be able to unpickle it."""
    local_socket, remote_socket = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        _compute(predict, call.batch, remote_socket)
    remote_socket.close()
    local_socket.settimeout(call.timeout_s)
    timed_out = False
    try:
        data = _receive_bytes(local_socket)
    except TimeoutError:
        os.kill(pid, signal.SIGKILL)
        data, timed_out = None, True
    finally:
        local_socket.close()
        _, status = os.waitpid(pid, 0)
    if data is not None:
        return data
    return _pickled(Answer(late=True) if timed_out else Answer(died=_ended(os.waitstatus_to_exitcode(status))))


def _compute(predict: Any, batch: Any, answers: socket.socket) -> None:
    """Compute one call in the fork, send the answer, and exit without cleanup of the parent's resources."""
    _die_with_the_parent()
    with contextlib.suppress(OSError):  # the OOM killer must choose the fork and not the executor
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    try:
        data = _pickled(Answer(prediction=predict(batch)))
    except BaseException as error:  # noqa: BLE001 - an uncaught error would keep the fork alive
        data = _pickled(Answer(raised=(type(error).__name__, str(error))))
    try:
        _send_bytes(answers, data)
    finally:
        os._exit(0)


def _die_with_the_parent() -> None:
    """Kill this process when its parent exits, so that no call outlives its task."""
    with contextlib.suppress(OSError, AttributeError):  # only Linux has prctl
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _ended(code: int) -> str:
    return f"ended by {signal.Signals(-code).name}" if code < 0 else f"ended itself with code {code}"


def send(connection: socket.socket, value: object) -> None:
    """Send one value with its length."""
    _send_bytes(connection, _pickled(value))


def receive(connection: socket.socket) -> Any:
    """Return the next value, or None if the connection is closed."""
    data = _receive_bytes(connection)
    return None if data is None else pickle.loads(data)  # noqa: S301 - the peer is the parent or the child process


def _pickled(value: object) -> bytes:
    return pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)


def _send_bytes(connection: socket.socket, data: bytes) -> None:
    connection.sendall(_LENGTH.pack(len(data)))
    connection.sendall(data)


def _receive_bytes(connection: socket.socket) -> bytes | None:
    head = _receive_exactly(connection, _LENGTH.size)
    return None if head is None else _receive_exactly(connection, _LENGTH.unpack(head)[0])


def _receive_exactly(connection: socket.socket, size: int) -> bytes | None:
    data = bytearray()
    while len(data) < size:
        try:
            chunk = connection.recv(min(size - len(data), 1 << 20))
        except ConnectionResetError:
            return None
        if not chunk:
            return None
        data += chunk
    return bytes(data)
