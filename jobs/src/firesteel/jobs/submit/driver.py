"""A driver on the cluster: it has its secrets from the submitter, and may be the second attempt at one submission.

YARN starts another driver when one dies, and also when one ends with an error. The second takes over where the first died;
where the first had come to a result, also a bad one, it stands: a gate that failed would fail again.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from firesteel.conf.errors import FiresteelError, kind_of
from firesteel.conf.hadoop import CONF_DIR
from firesteel.jobs.run.plan_runner import run_plan
from firesteel.jobs.spark.secret_settings import load_delivered_secrets
from firesteel.jobs.submit.application import attempt_of
from firesteel.jobs.submit.handover import Handover, Stopped
from firesteel.pipelines.publish.lease import LEASE_TTL_S, is_held, read_states
from firesteel.pipelines.publish.state_store import SinkInterval, StateStore

if TYPE_CHECKING:
    from firesteel.pipelines.plan.model import Plan
    from firesteel.pipelines.result import RunResult

SHIPPED = "__spark_conf__/__hadoop_conf__"
"""The folder in YARN containers: LOCALIZED_CONF_DIR and LOCALIZED_HADOOP_CONF_DIR of org.apache.spark.deploy.yarn.Client."""

PATIENCE_S = LEASE_TTL_S + 10.0
PAUSE_S = 1.0


def run_submitted(plan: Plan, submission: str, *, run_id: str = "") -> RunResult:
    """Run a plan and store the result for `firesteel submit`.

    Raises
    ------
    FiresteelError
        As in `run_plan`. The error is stored, too.
    """
    _use_shipped_configuration()
    load_delivered_secrets()
    handover = Handover.of(plan, submission)
    if attempt_of(os.environ.get("CONTAINER_ID", "")) > 1:
        found = handover.found()
        if isinstance(found, Stopped):
            raise kind_of(found.code)(found.code, f"the first attempt ended with: {found.what}", hint=found.hint)
        if found is not None:
            return found
        _wait_for_leases(plan)
    try:
        result = run_plan(plan, run_id=run_id)
    except FiresteelError as error:
        handover.leave_error(error)
        raise
    handover.leave(result)
    return result


def _use_shipped_configuration() -> None:
    """Use the Hadoop configuration that Spark sends along: the plan was made with it, and the node may have none."""
    shipped = Path(SHIPPED).resolve()
    if (shipped / "core-site.xml").is_file():
        os.environ[CONF_DIR] = str(shipped)


def _wait_for_leases(plan: Plan) -> None:
    """Wait until the leases of a dead driver on another machine expire. On the same machine, its death is visible at once."""
    store = StateStore.at(plan.storage, plan.pipeline, plan.profile)
    sink_intervals = [SinkInterval(store, sink.name, interval.id) for sink in plan.sinks for interval in plan.intervals]
    deadline = time.monotonic() + PATIENCE_S
    for sink_interval in sink_intervals:
        while (
            (states := read_states(sink_interval))
            and is_held(sink_interval, states[-1])
            and time.monotonic() < deadline
        ):
            time.sleep(PAUSE_S)
