"""Run a cluster until Ctrl-C: `python -m firesteel.jobs.embedded up|down|status --target TARGET --folder DIR`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from firesteel.conf.errors import FiresteelError
from firesteel.jobs.embedded.cluster import Cluster, owner_of, state_of
from firesteel.jobs.embedded.hdfs import EmbeddedHdfs
from firesteel.jobs.embedded.hdfs_ha import EmbeddedHdfsHa
from firesteel.jobs.embedded.processes import wait_until
from firesteel.jobs.embedded.standalone import EmbeddedStandalone
from firesteel.jobs.embedded.yarn import EmbeddedYarn
from firesteel.jobs.interrupt import raise_on_signals
from firesteel.jobs.output import keep_output_open
from firesteel.jobs.utf8 import restart_in_utf8_mode

DOWN_S = 60.0
VARIABLES = {name: name for name in ("HADOOP_CONF_DIR", "SPARK_CONF_DIR", "SPARK_LOCAL_IP")} | {
    "shuffle": "FIRESTEEL_SHUFFLE_SOCKET"
}
TARGETS: dict[str, Callable[[Path], Cluster]] = {
    "hdfs": EmbeddedHdfs,
    "hdfs-ha": EmbeddedHdfsHa,
    "standalone": lambda folder: EmbeddedStandalone(folder, workers=2, shuffle=True),
    "yarn": EmbeddedYarn,
}


def main(arguments: list[str] | None = None) -> int:
    """Run one action.

    Returns
    -------
    0, or the exit code of the error. `status` returns 0 if the cluster is up, else 1.
    """
    restart_in_utf8_mode()
    keep_output_open()
    parser = argparse.ArgumentParser(
        prog="python -m firesteel.jobs.embedded", description="Run a cluster on this machine until Ctrl-C."
    )
    parser.add_argument(
        "action",
        choices=["up", "down", "status"],
        help="Start (`up`, until Ctrl-C or `down`), stop (`down`) or show (`status`) the cluster.",
    )
    parser.add_argument("--target", choices=list(TARGETS), required=True)
    parser.add_argument("--folder", type=Path, required=True, help="Folder of data, configuration and logs.")
    options = parser.parse_args(arguments)
    folder = options.folder.resolve()
    try:
        if options.action == "up":
            return _up(TARGETS[options.target](folder))
        return _down(folder) if options.action == "down" else _status(folder)
    except FiresteelError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code


def _up(cluster: Cluster) -> int:
    raise_on_signals()  # `down` sends SIGTERM, which then acts like Ctrl-C
    try:
        with cluster:
            _say(*(f"{name}: {address}" for name, address in cluster.addresses.items()))
            _say(*(f"export {VARIABLES[name]}={at}" for name, at in cluster.addresses.items() if name in VARIABLES))
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
