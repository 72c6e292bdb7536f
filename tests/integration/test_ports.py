"""Spark that finds its port taken: the message names the port, whichever way Spark ends."""

from __future__ import annotations

import socket

import pytest

from support.runs import firesteel
from support.scoring_project import DAY, ScoringProject

pytestmark = [pytest.mark.integration, pytest.mark.timeout(200)]


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        (("spark.ui.enabled=true",), "spark.ui.port"),
        ((), "spark.driver.port"),
    ],
    ids=["the UI, which ends the JVM", "the driver"],
)
def test_a_port_that_is_taken_is_named(tmp_path, settings, key):
    project = ScoringProject(tmp_path, f"file://{tmp_path}/data")
    project.write_points(rows=10, files=1)
    project.plan("direct")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        words = [word for text in (*settings, f"{key}={port}", "spark.port.maxRetries=0") for word in ("--conf", text)]
        done = firesteel("run", "--start", DAY, *words, folder=tmp_path)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f"FS9007 Spark cannot listen on port {port} ({key}): another process uses it."), done.stderr
