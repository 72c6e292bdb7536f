"""A command that is cancelled while it waits for the storage or for MLflow: a real process and a real signal."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys

import pytest

from firesteel.jobs.interrupt import CANCELLED
from support.specs import example_with


@pytest.mark.timeout(120)
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM], ids=lambda how: how.name)
@pytest.mark.parametrize("words", [("plan", "--start", "2013-06-01"), ("status",)], ids=lambda words: words[0])
def test_a_command_that_is_cancelled_says_so_in_one_line(tmp_path, words, how):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        silent.settimeout(60)
        server = f"http://127.0.0.1:{silent.getsockname()[1]}"
        example_with(tmp_path, {"experiment: /batch/flight_delay": f'uri: "{server}", experiment: /batch/flight_delay'})
        root = "hdfs://silent:8020/data" if words == ("status",) else f"file://{tmp_path}/data"
        with subprocess.Popen(
            [sys.executable, "-m", "firesteel.jobs.cli.main", *words, "--param", f"root={root}"],
            cwd=tmp_path,
            env={**os.environ, "FIRESTEEL_WEBHDFS_URL": server},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        ) as waiting:
            connection, _ = silent.accept()
            with connection:
                waiting.send_signal(how)
                out, err = waiting.communicate(timeout=60)
    assert (waiting.returncode, out, err.strip()) == (130, "", CANCELLED)
