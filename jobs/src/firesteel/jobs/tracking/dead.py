"""Mark runs whose driver crashed as failed, at the next start of the pipeline."""

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
    """Return the tags that identify the driver process of a run."""
    return {MACHINE: machine_id(), PID: str(os.getpid()), STARTED: started_at(os.getpid())}


def mark_dead_runs(
    pipeline: str, profile: str, *, experiment: str, tracking_uri: str = "", client: MlflowClient | None = None
) -> tuple[str, ...]:
    """Set RUNNING runs of this pipeline and profile to FAILED if their process on this host no longer exists.

    Returns
    -------
    tuple of str
        IDs of the marked MLflow runs, including child runs.
    """
    client = client or connect(tracking_uri)
    marked = []
    with mlflow_faults(tracking_uri, "searching for crashed runs"):
        experiment_info = client.get_experiment_by_name(experiment)
        if experiment_info is None:
            return ()
        running = client.search_runs(
            [experiment_info.experiment_id],
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
    """Return whether the machine ID is this host before its last boot, whose processes no longer exist."""
    earlier, current = machine.split(), machine_id().split()
    return len(earlier) == len(current) == 3 and earlier[0] == current[0] and earlier[1] != current[1]
