"""Run a plan in a driver on the cluster, with the submitter's secrets. The driver may be the second attempt.

YARN starts a second driver when the first dies or ends with an error. If the first has stored a result or an error, the second
returns it: a gate that failed would fail again. Otherwise it runs the plan.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from firesteel.conf.errors import FiresteelError, NotAllowed, kind_of
from firesteel.conf.hadoop import CONF_DIR
from firesteel.jobs.run.plan_runner import run_plan
from firesteel.jobs.spark.secret_settings import load_delivered_secrets
from firesteel.jobs.submit.application import attempt_of
from firesteel.jobs.submit.result_store import DriverError, ResultStore
from firesteel.pipelines.publish.lease import LEASE_TTL_S, is_held, read_states
from firesteel.pipelines.publish.state_store import SinkInterval, StateStore

if TYPE_CHECKING:
    from firesteel.pipelines.plan.model import Plan
    from firesteel.pipelines.result import RunResult

DISTRIBUTED_CONF = "__spark_conf__/__hadoop_conf__"
"""The Hadoop configuration in YARN containers: LOCALIZED_CONF_DIR and LOCALIZED_HADOOP_CONF_DIR of org.apache.spark.deploy.yarn.Client."""

LEASE_WAIT_S = LEASE_TTL_S + 10.0
POLL_S = 1.0


def run_submitted(plan: Plan, submission: str, *, run_id: str = "") -> RunResult:
    """Run a plan and store the result for `firesteel submit`.

    Raises
    ------
    FiresteelError
        As in `run_plan`. The error is stored, too.
    """
    _use_distributed_configuration()
    load_delivered_secrets()
    results = ResultStore.of(plan, submission)
    if attempt_of(os.environ.get("CONTAINER_ID", "")) > 1:
        stored = results.read()
        if isinstance(stored, DriverError):
            raise kind_of(stored.code)(stored.code, f"the first attempt failed: {stored.what}", hint=stored.hint)
        if stored is not None:
            return stored
        _wait_for_leases(plan)
    try:
        result = run_plan(plan, run_id=run_id)
    except FiresteelError as error:
        with suppress(NotAllowed):  # a driver that may not write to the storage
            results.write_error(error)
        raise
    results.write(result)
    return result


def _use_distributed_configuration() -> None:
    """Use the Hadoop configuration that Spark distributes: the plan was made with it, and the node may have none."""
    folder = Path(DISTRIBUTED_CONF).resolve()
    if (folder / "core-site.xml").is_file():
        os.environ[CONF_DIR] = str(folder)


def _wait_for_leases(plan: Plan) -> None:
    """Wait until the leases of a dead driver on another machine expire. A lease of a dead process on this machine is free at once."""
    store = StateStore.of(plan)
    sink_intervals = [SinkInterval(store, sink.name, interval.id) for sink in plan.sinks for interval in plan.intervals]
    deadline = time.monotonic() + LEASE_WAIT_S
    for sink_interval in sink_intervals:
        while (
            (states := read_states(sink_interval))
            and is_held(sink_interval, states[-1])
            and time.monotonic() < deadline
        ):
            time.sleep(POLL_S)
