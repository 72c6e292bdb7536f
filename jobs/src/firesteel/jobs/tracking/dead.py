"""Runs that died without a word: the next start of the same pipeline marks them failed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from firesteel.jobs.tracking.connect import connect, mlflow_faults
from firesteel.pipelines.publish.process import is_dead, machine_id, started_at

if TYPE_CHECKING:
    from mlflow import MlflowClient

PIPELINE = "firesteel.pipeline"
PROFILE = "firesteel.profile"
MACHINE = "firesteel.machine"
PID = "firesteel.pid"
STARTED = "firesteel.process_started"
ERROR = "firesteel.error"


def process_tags() -> dict[str, str]:
    """Tags that say which process works on a run."""
    return {MACHINE: machine_id(), PID: str(os.getpid()), STARTED: started_at(os.getpid())}


def mark_dead_runs(
    pipeline: str, profile: str, *, experiment: str, tracking_uri: str = "", client: MlflowClient | None = None
) -> tuple[str, ...]:
    """Set RUNNING runs of this pipeline and profile FAILED whose process, on this host, is dead.

    Returns
    -------
    tuple of str
        MLflow run ids that were marked, parents and children.
    """
    client = client or connect(tracking_uri)
    marked = []
    with mlflow_faults(tracking_uri, "looking for dead runs"):
        found = client.get_experiment_by_name(experiment)
        if found is None:
            return ()
        running = client.search_runs(
            [found.experiment_id],
            f"attributes.status = 'RUNNING' and tags.`{PIPELINE}` = '{pipeline}' and tags.`{PROFILE}` = '{profile}'",
            max_results=1000,
        )
        for run in running:
            machine, pid, start = (run.data.tags.get(tag, "") for tag in (MACHINE, PID, STARTED))
            if pid.isdigit() and (is_dead(machine, int(pid), start) or _rebooted(machine)):
                client.set_tag(run.info.run_id, ERROR, f"process {pid} on {machine.split()[0]} died")
                client.set_terminated(run.info.run_id, "FAILED")
                marked.append(run.info.run_id)
    return tuple(marked)


def _rebooted(machine: str) -> bool:
    """Whether it is this host before its last boot: nothing of then is alive."""
    then, now = machine.split(), machine_id().split()
    return len(then) == len(now) == 3 and then[0] == now[0] and then[1] != now[1]
