"""Run Python programs as forks of a process with the imports: the functions of `subprocess`, without 5 CPU seconds of imports."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support import fork_server
from support.fork_server import VARIABLE
from support.waiting import wait_for

DAEMONS = str(Path(__file__).with_name("spark_daemon"))
DAEMON_OPTIONS = f"-Dspark.python.daemon.module=forked_daemon -Dspark.executorEnv.PYTHONPATH={DAEMONS}"
"""Options of a driver's JVM whose Python workers are forks as well."""


class Popen(subprocess.Popen):
    """`subprocess.Popen` of `[sys.executable, ...]`, forked by the session's fork server if there is one."""

    _answers = None

    def _execute_child(self, args, *rest):
        if VARIABLE not in os.environ:
            super()._execute_child(args, *rest)
            return
        pass_fds, cwd, environ, *_ = rest[3:]
        session = rest[-2]
        ends = (
            rest[9],
            rest[12],
            rest[14],
        )  # of standard input, output and error; -1 where the caller has no use for it
        assert args[0] == sys.executable
        assert not pass_fds
        with open(os.devnull, "r+b") as nothing:
            self._connection = fork_server.request(
                [os.fspath(word) for word in args[1:]],
                [nothing.fileno() if end == -1 else end for end in ends],
                dict(os.environ if environ is None else environ),
                os.fspath(cwd or os.getcwd()),
                session=session,
            )
        self._answers = self._connection.makefile("rb")
        self.pid = int(self._answers.readline())
        self._child_created = True
        self._close_pipe_fds(*rest[9:15])

    def _try_wait(self, wait_flags):
        if self._answers is None:
            return super()._try_wait(wait_flags)
        if wait_flags & os.WNOHANG and not select.select([self._connection], [], [], 0)[0]:
            return 0, 0
        return self.pid, int(self._answers.readline())

    def _internal_poll(self, _deadstate=None):
        if self._answers is None:
            return super()._internal_poll(_deadstate)
        if self.returncode is None and self._waitpid_lock.acquire(blocking=False):
            try:
                pid, status = self._try_wait(os.WNOHANG)
                if pid:
                    self._handle_exitstatus(status)
            finally:
                self._waitpid_lock.release()
        return self.returncode


def own_workers() -> dict[str, str]:
    """Return the environment of a driver whose Python workers are below its JVM, for tests that wait for their end."""
    return {name: value for name, value in os.environ.items() if name != VARIABLE}


def run(words: list[str], *, timeout: float, **options: Any) -> subprocess.CompletedProcess[str]:
    """`subprocess.run` with its output captured as text."""
    with Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options) as process:
        try:
            out, err = process.communicate(timeout=timeout)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(words, process.returncode, out, err)


@contextmanager
def fork_server_of_session() -> Iterator[Mapping[str, str]]:
    """Start a fork server, and return the environment variable by which this process and its children find it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "forks")
        one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")  # no threads before a fork
        with (
            Path(folder, "log").open("wb") as log,
            subprocess.Popen(
                [sys.executable, fork_server.__file__, str(path)], stdin=subprocess.PIPE, stdout=log, stderr=log, env=os.environ | one
            ) as server,
        ):  # fmt: skip
            wait_for(lambda: path.exists() or server.poll() is not None, "the fork server listens", 120)
            assert server.poll() is None, Path(folder, "log").read_text()
            yield {VARIABLE: str(path)}
