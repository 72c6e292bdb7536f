"""Tell whether the driver of an MLflow run is alive, from its heartbeat and its leases in the storage, or from its process.

The heartbeat and the leases are in the pipeline's storage, so the driver may be on any host.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Literal

from firesteel.pipelines.publish.heartbeat import KEEP_S, runs
from firesteel.pipelines.publish.lease import is_held, read_lease, read_states
from firesteel.pipelines.publish.process import is_dead, machine_id, started_at
from firesteel.pipelines.publish.state_store import SinkInterval

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mlflow.entities import Run

    from firesteel.pipelines.publish.state_store import StateStore

MACHINE = "firesteel.machine"
PID = "firesteel.pid"
STARTED = "firesteel.process_started"

DriverState = Literal["alive", "dead", "unknown"]


def process_tags() -> dict[str, str]:
    """Return the tags that identify the driver process of a run."""
    return {MACHINE: machine_id(), PID: str(os.getpid()), STARTED: started_at(os.getpid())}


def driver_state(store: StateStore, run_id: str, run: Run, targets: Iterable[SinkInterval]) -> DriverState:
    """Return the state of the driver of a firesteel run.

    Parameters
    ----------
    run
        Its MLflow run.
    targets
        The sink intervals that the run may hold.

    Returns
    -------
    {"alive", "dead", "unknown"}
        `unknown` without a trace of the run in the storage: the run may belong to another storage.
    """
    leases = [_lease_state(target, run_id) for target in targets]
    if "alive" in leases:
        return "alive"
    states = [state for state in runs(store, run_id) if state.started.run_id == run_id]
    if states:
        running = states[-1].state == "running" and not _rebooted(states[-1].started.machine)
        return "alive" if running else "dead"
    machine, pid, start = (run.data.tags.get(tag, "") for tag in (MACHINE, PID, STARTED))
    if pid.isdigit() and (is_dead(machine, int(pid), start) or _rebooted(machine)):
        return "dead"
    if pid.isdigit() and machine == machine_id():
        return "alive"
    # The storage deletes heartbeats after KEEP_S.
    expired = time.time() - run.info.start_time / 1000 > KEEP_S
    return "dead" if "dead" in leases or expired else "unknown"


def _lease_state(target: SinkInterval, run_id: str) -> DriverState:
    """Return whether the run holds the lease on an interval; `unknown` if the newest lease is of another run or released."""
    states = read_states(target)
    if not states or states[-1].released or read_lease(target, states[-1].token).attempt.run_id != run_id:
        return "unknown"
    return "alive" if is_held(target, states[-1]) else "dead"


def _rebooted(machine: str) -> bool:
    """Return whether the machine ID is this host before its last boot, whose processes no longer exist."""
    earlier, current = machine.split(), machine_id().split()
    return len(earlier) == len(current) == 3 and earlier[0] == current[0] and earlier[1] != current[1]
