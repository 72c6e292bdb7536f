"""What stands of an interval, who works on it, and what became of a run: for whoever orchestrates.

An exit code says how a process ended. spark-submit in cluster mode returns 0 for jobs that failed, and a driver that was killed
after its journal has published: the ledger decides.
"""

from __future__ import annotations

from pydantic import JsonValue

from firesteel.pipelines.brief import MAX_PARTITIONS, MAX_TEXT, rows
from firesteel.pipelines.publish.heartbeat import RunState, runs
from firesteel.pipelines.publish.lease import is_held, read_lease, read_states
from firesteel.pipelines.publish.ledger import Ledger
from firesteel.pipelines.publish.records import LedgerRecord
from firesteel.pipelines.publish.state_store import SinkInterval, StateStore


def standing(store: StateStore, sinks: dict[str, str], intervals: tuple[str, ...], run: str) -> dict[str, JsonValue]:
    """JSON: `runs` are those that `run` names, oldest first; `intervals` one entry a sink and interval.

    Parameters
    ----------
    sinks
        Paths by name.
    run
        A run's id, or the last part that some share; empty: none.
    """
    found = runs(store, run) if run else []
    return {
        "pipeline": store.pipeline,
        "profile": store.profile,
        "runs": [_run(each) for each in found],
        "intervals": [
            _interval(SinkInterval(store, sink, interval), path)
            for interval in intervals
            for sink, path in sinks.items()
        ],
    }


def _run(state: RunState) -> JsonValue:
    started, ended = state.started, state.ended
    return {
        "run_id": started.run_id,
        "state": state.state,
        "started_at": started.at,
        "user": started.user,
        "host": started.host,
        "machine": started.machine,
        "pid": started.pid,
        "process_start": started.process_start,
        "ended_at": ended.at if ended else "",
        "exit_code": ended.exit_code if ended else None,
        "brief": ended.brief if ended else None,
    }


def _interval(place: SinkInterval, path: str) -> JsonValue:
    ledger = Ledger(place.store)
    newest = ledger.latest(place.sink, place.interval)
    published = newest if newest and newest.state == "published" else ledger.published(place.sink, place.interval)
    return {
        "interval": place.interval,
        "sink": place.sink,
        "path": path,
        "held_by": _holder(place),
        "newest": _record(newest),
        "published": _record(published),
    }


def _holder(place: SinkInterval) -> JsonValue:
    states = read_states(place)
    if not states or not is_held(place, states[-1]):
        return None
    record = read_lease(place, states[-1].token)
    who = record.attempt
    return {"run_id": who.run_id, "user": who.user, "host": who.host, "since": who.started_at, "pid": record.pid}


def _record(record: LedgerRecord | None) -> JsonValue:
    if record is None:
        return None
    directories = sorted(
        {file.path.rpartition("/")[0] for file in record.files}
    )  # `partitions` are those that were planned
    return {
        "run_id": record.run_id,
        "state": record.state,
        "action": record.action,
        "plan_hash": record.plan_hash,
        "ended_at": record.ended_at,
        "rows": rows(record.counts),
        "files": len(record.files),
        "bytes": sum(file.length for file in record.files),
        "partitions": list(directories[:MAX_PARTITIONS]),
        "partitions_total": len(directories),
        "mlflow_run_id": record.mlflow_run_id,
        "error": record.error[:MAX_TEXT],
    }
