"""In the place of `pyspark.daemon`: a daemon that the fork server of the tests forks, so that its workers need no imports.

It is `pyspark.daemon` itself in executors of a cluster, whose Python workers tests find below the JVM, and without a fork server.
"""

import os
import runpy
import signal
import socket
import sys
from pathlib import Path

sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from fork_server import request


def forked() -> socket.socket | None:
    """The fork server's answers about a daemon of ours; None where `pyspark.daemon` has to run here."""
    if b"CoarseGrainedExecutorBackend" in Path(f"/proc/{os.getppid()}/cmdline").read_bytes():
        return None
    try:
        return request(["-m", "pyspark.daemon", *sys.argv[1:]], [0, 1, 2], dict(os.environ), os.getcwd(), session=False)
    except (KeyError, OSError):
        return None


def main() -> None:
    """Pass everything on to the forked daemon, and end as it ends."""
    connection = forked()
    sys.path.pop()
    if connection is None:
        runpy.run_module("pyspark.daemon", run_name="__main__", alter_sys=True)
        return
    with connection.makefile("rb") as answers:
        pid = int(answers.readline())
        signal.signal(signal.SIGTERM, lambda *_: os.kill(pid, signal.SIGTERM))
        for number in range(3):
            os.close(number)
        os._exit(os.waitstatus_to_exitcode(int(answers.readline() or b"256")) & 0xFF)


main()
