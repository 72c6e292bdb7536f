"""Make the states of MLflow runs equal to the ledger.

::

    RUNNING --driver alive, or not of this storage--------------> RUNNING
       |------a journal that no command has completed-----------> RUNNING, until the next command
       |------every interval published or skipped---------------> FINISHED, with counts and partitions
       |------an interval cancelled-----------------------------> KILLED
       `------otherwise: failed, died, or not in the ledger-----> FAILED, with the reason

A driver sets these states itself. This module sets them for drivers that died on any host, and for requests that MLflow lost.
Problems are warnings: MLflow never fails a command that has published.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from firesteel.conf.errors import FiresteelError
from firesteel.jobs.tracking import spool
from firesteel.jobs.tracking.connect import connect, exists, mlflow_environment, one_line
from firesteel.jobs.tracking.create import INTERVAL, RUN_ID, runs_of, search_all, sent_once
from firesteel.jobs.tracking.driver import driver_state
from firesteel.jobs.tracking.outcome import Outcome, outcome_of, record_child, record_parent, sinks_of
from firesteel.jobs.tracking.runs import PIPELINE, PROFILE, STORAGE
from firesteel.pipelines.publish.journal import Journal, read_decision
from firesteel.pipelines.publish.lease import read_states
from firesteel.pipelines.publish.recover import journaled
from firesteel.pipelines.publish.sink_records import SinkRecords
from firesteel.pipelines.publish.state_store import SinkInterval, children, name_of

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

    from firesteel.pipelines.publish.records import LedgerRecord
    from firesteel.pipelines.publish.state_store import StateStore

_LOG = logging.getLogger(__name__)

LIMIT_S = 30.0
"""Seconds after which a run leaves the rest to the next command. `recover` has no limit."""

ANSWER_S = 10
"""Seconds that a command that does not run intervals waits for each answer of MLflow. `recover` waits longer."""


@dataclass(frozen=True, slots=True)
class Settled:
    """What was changed in MLflow.

    Attributes
    ----------
    delivered
        firesteel IDs of the runs whose kept records were delivered.
    ended
        firesteel IDs of the runs whose states were set from the ledger.
    unfinished
        Whether a dead run has a publish that the next command completes.
    """

    delivered: tuple[str, ...] = ()
    ended: tuple[str, ...] = ()
    unfinished: bool = False


def settle_runs(
    store: StateStore,
    tracking_uri: str,
    experiment: str,
    *,
    client: MlflowClient | None = None,
    limit_s: float | None = LIMIT_S,
) -> Settled:
    """Deliver kept records, and end the RUNNING MLflow runs of this pipeline and profile whose drivers are dead.

    Parameters
    ----------
    client
        A connected client. By default the function connects, and does nothing if MLflow does not answer.
    limit_s
        Seconds after which the function stops. None: no limit, and no back-off for records that MLflow has rejected.
    """
    deadline = None if limit_s is None else time.monotonic() + limit_s
    try:
        with mlflow_environment(), contextlib.ExitStack() as stack:
            if client is None:
                if not exists(tracking_uri):
                    return Settled()
                if limit_s is not None:  # the command waits
                    stack.enter_context(sent_once(ANSWER_S))
                client = connect(tracking_uri, create=False)
            delivered = spool.deliver(store, tracking_uri, client, deadline=deadline)
            ended, unfinished = _end_dead_runs(store, client, experiment, deadline)
    except Exception as error:  # noqa: BLE001 - the stores of MLflow raise any type, and a run that published must not fail
        _LOG.warning("the MLflow runs of earlier drivers could not be updated: %s", one_line(error))
        return Settled()
    return Settled(delivered, ended, unfinished)


def _end_dead_runs(
    store: StateStore, client: MlflowClient, experiment: str, deadline: float | None
) -> tuple[tuple[str, ...], bool]:
    found = client.get_experiment_by_name(experiment)
    if found is None:
        return (), False
    query = f"attributes.status = 'RUNNING' and tags.`{PIPELINE}` = '{store.pipeline}' and tags.`{PROFILE}` = '{store.profile}'"
    running: dict[str, list[Run]] = defaultdict(list)
    location = store.location(store.base)
    for run in search_all(client, found.experiment_id, query):
        if RUN_ID in run.data.tags and run.data.tags.get(STORAGE, location) == location:
            running[run.data.tags[RUN_ID]].append(run)
    sinks = sinks_of(store) if running else ()
    dead = [run_id for run_id, runs in running.items() if _is_dead(store, run_id, runs, sinks)]
    if not dead:
        return (), False
    of_sinks = [SinkRecords(store, sink) for sink in sinks]
    records = _records(of_sinks, set(dead))
    unfinished = _unfinished(store, dict(zip(sinks, of_sinks, strict=True))) & set(dead)
    ended = []
    for run_id in dead:
        if deadline is not None and time.monotonic() > deadline:
            _LOG.warning("MLflow answers slowly: the next command, or `firesteel recover`, ends the other dead runs")
            break
        if run_id in unfinished:
            continue
        try:
            _end(store, client, found.experiment_id, run_id, records[run_id])
        except Exception as error:  # noqa: BLE001 - the other runs can still be ended
            _LOG.warning("the MLflow run of %s could not be ended: %s", run_id, one_line(error))
        else:
            ended.append(run_id)
            _LOG.info("ended the MLflow run of %s, whose driver died, as the ledger says", run_id)
    return tuple(ended), bool(unfinished)


def _is_dead(store: StateStore, run_id: str, runs: list[Run], sinks: tuple[str, ...]) -> bool:
    intervals = {run.data.tags[INTERVAL] for run in runs if INTERVAL in run.data.tags}
    targets = [SinkInterval(store, sink, interval) for sink in sinks for interval in sorted(intervals)]
    try:
        return driver_state(store, run_id, runs[0], targets) == "dead"
    except FiresteelError as error:
        _LOG.warning("the MLflow run of %s stays RUNNING: %s", run_id, error)
        return False


def _records(of_sinks: list[SinkRecords], run_ids: set[str]) -> dict[str, list[LedgerRecord]]:
    """Return the ledger records of runs."""
    records: dict[str, list[LedgerRecord]] = defaultdict(list)
    for of_sink in of_sinks:
        for record in of_sink.all():
            if record.run_id in run_ids:
                records[record.run_id].append(record)
    return records


def _unfinished(store: StateStore, of_sinks: dict[str, SinkRecords]) -> set[str]:
    """Return the runs with a journal that no command has completed: the ledger does not say yet what they published."""
    runs = set()
    for sink, of_sink in of_sinks.items():
        intervals = {name_of(folder.name) for folder in children(store.storage, store.folder("journal", sink))}
        for interval in journaled(store, sink, intervals, of_sink.latest_tokens()):
            target = SinkInterval(store, sink, interval)
            for state in read_states(target):
                if not state.released and target.storage.status(target.file("journal", state.token)) is not None:
                    decision = read_decision(target, state.token)
                    if isinstance(decision, Journal):
                        runs.add(decision.run_id)
    return runs


def _end(store: StateStore, client: MlflowClient, experiment_id: str, run_id: str, records: list[LedgerRecord]) -> None:
    """End the MLflow runs of a dead driver, the parent last: a failure before leaves it to the next command."""
    found = runs_of(client, experiment_id, run_id)
    parents = _without_copies(client, [run for run in found if INTERVAL not in run.data.tags])
    if not parents:
        return
    parent = parents[0]
    by_interval: dict[str, list[Run]] = defaultdict(list)
    for run in found:
        if INTERVAL in run.data.tags:
            by_interval[run.data.tags[INTERVAL]].append(run)
    outcomes: list[Outcome] = []
    for interval in sorted({*by_interval, *(record.interval for record in records)}):
        child = next(iter(_without_copies(client, by_interval[interval])), None)
        outcome = outcome_of(store, interval, [record for record in records if record.interval == interval], child)
        record_child(client, parent, child, outcome)
        outcomes.append(outcome)
    record_parent(client, parent, outcomes)


def _without_copies(client: MlflowClient, runs: list[Run]) -> list[Run]:
    """Delete the RUNNING copies of a run that a repeated request has created. Return the remaining runs."""
    kept = sorted(runs, key=lambda run: (run.info.status == "RUNNING", not run.data.params, run.info.start_time))
    for copy in [run for run in kept[1:] if run.info.status == "RUNNING"]:
        client.set_terminated(copy.info.run_id, "FAILED")
        client.delete_run(copy.info.run_id)
        kept.remove(copy)
    return kept
