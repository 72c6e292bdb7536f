"""In the place of `pyspark.daemon`: a daemon that the fork server of the tests forks, so that its workers need no imports.

Without a fork server in the environment it is `pyspark.daemon` itself.
"""

import os
import runpy
import signal
import socket
import sys

sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from fork_server import request


def main() -> None:
    """Pass everything on to the forked daemon, and end as it ends."""
    words = ["-m", "pyspark.daemon", *sys.argv[1:]]
    try:
        connection: socket.socket = request(words, [0, 1, 2], dict(os.environ), os.getcwd(), session=False)
    except (KeyError, OSError):
        sys.path.pop()
        runpy.run_module("pyspark.daemon", run_name="__main__", alter_sys=True)
        return
    with connection.makefile("rb") as answers:
        pid = int(answers.readline())
        signal.signal(signal.SIGTERM, lambda *_: os.kill(pid, signal.SIGTERM))
        for number in range(3):
            os.close(number)
        os._exit(os.waitstatus_to_exitcode(int(answers.readline() or b"256")) & 0xFF)


main()
