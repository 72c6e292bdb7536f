"""A Python process that has imported the large libraries, and forks for each program that a test starts.

Importing MLflow, scikit-learn, Great Expectations and PySpark takes 5 CPU seconds, in each driver and in each Python worker of
Spark. A fork has them after 10 ms. The fork has its own environment, files and exit status, and can be killed.

``python fork_server.py SOCKET`` runs the server until its standard input ends.
"""

from __future__ import annotations

import array
import contextlib
import faulthandler
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import sys
import tempfile
import types
from pathlib import Path

VARIABLE = "FIRESTEEL_TEST_FORK_SERVER"
"""The environment variable that names the server's socket."""

PRELOADED = (
    "pyspark.daemon", "pyspark.worker", "pyspark.sql", "pandas", "pyarrow.dataset", "pyarrow.parquet", "mlflow.pyfunc", "mlflow.sklearn",
    "sklearn.ensemble", "sklearn.linear_model", "sklearn.pipeline", "skops.io", "great_expectations.expectations", "alembic",
)  # fmt: skip
"""Third-party libraries only: what firesteel itself imports, and when, stays as it is."""


def request(words: list[str], files: list[int], environ: dict[str, str], cwd: str, *, session: bool) -> socket.socket:
    """Ask the fork server for a program.

    Parameters
    ----------
    words
        The arguments of the interpreter: `-m MODULE ...`, `-c CODE ...` or `SCRIPT ...`.
    files
        The file descriptors for standard input, output and error.

    Returns
    -------
    socket.socket
        It sends the process id, and at the end of the process its wait status, each on a line.
    """
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(os.environ[VARIABLE])
    body = json.dumps({"words": words, "environ": environ, "cwd": cwd, "session": session}).encode()
    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", files))
    connection.sendmsg([len(body).to_bytes(4, "big")], [rights])
    connection.sendall(body)
    return connection


def serve(path: str) -> None:
    """Fork for each request until the standard input ends. Return in each forked process with the program to run.

    The first request waits for the imports, so a session without requests needs no memory for them.
    """
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"{path}.new")
    listener.listen(64)
    Path(f"{path}.new").rename(path)
    loaded = False
    while True:
        ready, _, _ = select.select([0, listener], [], [])
        if 0 in ready:
            os._exit(0)
        if not loaded:
            _preload()
            loaded = True
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            _start(connection)
            return
        connection.close()
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def _preload() -> None:
    for name in PRELOADED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()


def _start(connection: socket.socket) -> None:
    """Fork again. The parent reports the end of the program and exits; the child returns and runs it."""
    size, files, _, _ = socket.recv_fds(connection, 4, 3)
    with connection.makefile("rb") as stream:
        call = json.loads(stream.read(int.from_bytes(size, "big")))
    pid = os.fork()
    if pid:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        os.closerange(0, 3)
        for file in files:
            os.close(file)
        with contextlib.suppress(BrokenPipeError):  # who asked has gone
            connection.sendall(b"%d\n" % pid)
            _, status = os.waitpid(pid, 0)
            connection.sendall(b"%d\n" % status)
        os._exit(0)
    connection.close()
    if call["session"]:
        os.setsid()
    for number, file in enumerate(files):
        os.dup2(file, number)
    for file in files:
        if file > 2:
            os.close(file)
    os.chdir(call["cwd"])
    os.environ.clear()
    os.environ.update(call["environ"])
    tempfile.tempdir = None  # the preloaded modules may have asked for the folder of another environment
    sys.argv[:] = call["words"]


def _run(words: list[str]) -> None:
    """Run a program as the interpreter does. A test that gave up waiting for it sends SIGABRT to see where it stands."""
    faulthandler.enable()
    # A shell's `&` and `nohup` leave SIGINT ignored for all descendants. A program of a test can be interrupted as in a terminal.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    more = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:] = list(dict.fromkeys([*more, *sys.path]))
    if words[0] == "-m":
        sys.argv[:] = [words[1], *words[2:]]
        sys.path.insert(0, os.getcwd())
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        return
    main = types.ModuleType("__main__")
    if words[0] == "-c":
        sys.argv[:] = ["-c", *words[2:]]
        sys.path.insert(0, "")
        code = compile(words[1], "<string>", "exec")
    else:
        sys.path.insert(0, str(Path(words[0]).parent))
        main.__file__ = words[0]
        code = compile(Path(words[0]).read_text(encoding="utf-8"), words[0], "exec")
    sys.modules["__main__"] = main
    exec(code, main.__dict__)


if __name__ == "__main__":
    sys.path.pop(0)
    serve(sys.argv[1])
    _run(list(sys.argv))
