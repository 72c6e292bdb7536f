"""`python -m firesteel.jobs.embedded up|down|status --target hdfs|standalone --folder DIR`: a cluster until Ctrl-C."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path
from typing import NoReturn

from firesteel.conf.errors import FiresteelError
from firesteel.jobs.embedded.cluster import Cluster, owner_of, state_of
from firesteel.jobs.embedded.hdfs import EmbeddedHdfs
from firesteel.jobs.embedded.processes import wait_until
from firesteel.jobs.embedded.standalone import EmbeddedStandalone

DOWN_S = 60.0


def main(arguments: list[str] | None = None) -> int:
    """Run one action.

    Returns
    -------
    0, or the exit code of the error; of `status` 0 when the cluster is up and 1 when it is not.
    """
    parser = argparse.ArgumentParser(
        prog="python -m firesteel.jobs.embedded", description="A real cluster on this machine until Ctrl-C."
    )
    parser.add_argument("action", choices=["up", "down", "status"], help="up stays until Ctrl-C or `down`")
    parser.add_argument("--target", choices=["hdfs", "standalone"], required=True)
    parser.add_argument("--folder", type=Path, required=True, help="data, configuration and logs")
    options = parser.parse_args(arguments)
    folder = options.folder.resolve()
    try:
        if options.action == "up":
            hdfs = options.target == "hdfs"
            return _up(EmbeddedHdfs(folder) if hdfs else EmbeddedStandalone(folder, workers=2, shuffle=True))
        return _down(folder) if options.action == "down" else _status(folder)
    except FiresteelError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code


def _up(cluster: Cluster) -> int:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # `down` ends it as Ctrl-C does
    try:
        with cluster:
            _say(*(f"{name}: {address}" for name, address in cluster.addresses.items()))
            if "HADOOP_CONF_DIR" in cluster.addresses:
                _say(f"export HADOOP_CONF_DIR={cluster.addresses['HADOOP_CONF_DIR']}")
            if "shuffle" in cluster.addresses:
                _say(f"export FIRESTEEL_SHUFFLE_SOCKET={cluster.addresses['shuffle']}")
            _say(f"logs: {cluster.folder / 'logs'}", "Ctrl-C stops it.")
            _sleep()
    except KeyboardInterrupt:
        _say("stopped")
    return 0


def _down(folder: Path) -> int:
    owner = owner_of(folder)
    if owner is None:
        _say(f"nothing runs in {folder}")
        return 0
    os.kill(owner, signal.SIGTERM)
    wait_until(lambda: owner_of(folder) is None, f"process {owner} has stopped the cluster", [], DOWN_S)
    _say("stopped")
    return 0


def _status(folder: Path) -> int:
    state = state_of(folder)
    if state is None:
        owner = owner_of(folder)
        _say(f"process {owner} is starting or stopping a cluster in {folder}" if owner else f"nothing runs in {folder}")
        return 1
    _say(*(f"{name}: {address}" for name, address in state.addresses.items()))
    _say(*(f"{name}: pid {pid}" for name, pid in state.processes.items()), f"started by: pid {state.owner}")
    return 0


def _sleep() -> NoReturn:
    while True:
        signal.pause()


def _say(*lines: str) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
