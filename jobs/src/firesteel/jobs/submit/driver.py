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
from firesteel.jobs.spark.secret_settings import take_delivered
from firesteel.jobs.submit.application import attempt_of
from firesteel.jobs.submit.handover import Handover, Stopped
from firesteel.pipelines.publish.lease import LEASE_TTL_S, is_held, read_states
from firesteel.pipelines.publish.state_store import SinkInterval, StateStore
from firesteel.pipelines.storage.open import locate

if TYPE_CHECKING:
    from firesteel.pipelines.plan.model import Plan
    from firesteel.pipelines.result import RunResult

SHIPPED = "__spark_conf__/__hadoop_conf__"
"""Where YARN puts it: LOCALIZED_CONF_DIR and LOCALIZED_HADOOP_CONF_DIR of org.apache.spark.deploy.yarn.Client."""

PATIENCE_S = LEASE_TTL_S + 10.0
PAUSE_S = 1.0


def run_submitted(plan: Plan, submission: str, *, run_id: str = "") -> RunResult:
    """Run a plan and leave the result for who submitted it.

    Raises
    ------
    FiresteelError
        As in `run_plan`; it is left as well.
    """
    _use_shipped_configuration()
    take_delivered()
    place = Handover.of(plan, submission)
    if attempt_of(os.environ.get("CONTAINER_ID", "")) > 1:
        found = place.found()
        if isinstance(found, Stopped):
            raise kind_of(found.code)(found.code, f"the first attempt ended with: {found.what}", hint=found.hint)
        if found is not None:
            return found
        _wait_for_leases(plan)
    try:
        result = run_plan(plan, run_id=run_id)
    except FiresteelError as error:
        place.leave_error(error)
        raise
    place.leave(result)
    return result


def _use_shipped_configuration() -> None:
    """The Hadoop configuration of the submitter, which Spark sends along: the plan was made with it, and a node may have none."""
    shipped = Path(SHIPPED).resolve()
    if (shipped / "core-site.xml").is_file():
        os.environ[CONF_DIR] = str(shipped)


def _wait_for_leases(plan: Plan) -> None:
    """Until the leases of a driver that died on another machine have run out. On the same machine its death is seen at once."""
    storage, base = locate(plan.storage)
    store = StateStore(storage, base, plan.pipeline, plan.profile)
    places = [SinkInterval(store, sink.name, interval.id) for sink in plan.sinks for interval in plan.intervals]
    deadline = time.monotonic() + PATIENCE_S
    for place in places:
        while (states := read_states(place)) and is_held(place, states[-1]) and time.monotonic() < deadline:
            time.sleep(PAUSE_S)
