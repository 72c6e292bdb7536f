"""The state of intervals and of a run, for schedulers.

Schedulers read the ledger because exit codes are not enough: spark-submit in cluster mode returns 0 for failed jobs, and a
driver that is killed after it writes its journal has published.
"""

from __future__ import annotations

from pydantic import JsonValue

from firesteel.pipelines.brief import MAX_PARTITIONS, MAX_TEXT, rows
from firesteel.pipelines.publish.heartbeat import RunState, runs
from firesteel.pipelines.publish.lease import is_held, read_lease, read_states
from firesteel.pipelines.publish.ledger import Ledger
from firesteel.pipelines.publish.policy import canonical
from firesteel.pipelines.publish.records import LedgerRecord
from firesteel.pipelines.publish.state_store import SinkInterval, StateStore


def interval_status(
    store: StateStore, sinks: dict[str, str], intervals: tuple[str, ...], run: str
) -> dict[str, JsonValue]:
    """Return the state as JSON: `runs`, oldest first, and `intervals`, one entry per interval and sink.

    Parameters
    ----------
    sinks
        Paths by sink name.
    run
        The id of a run, or the ending that the ids of several runs share. Empty: `runs` is empty.
    """
    states = runs(store, run) if run else []
    return {
        "pipeline": store.pipeline,
        "profile": store.profile,
        "runs": [_run(state) for state in states],
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


def _interval(target: SinkInterval, path: str) -> JsonValue:
    ledger = Ledger(target.store)
    latest = ledger.latest(target.sink, target.interval)
    published = ledger.published(target.sink, target.interval, canonical(path))
    return {
        "interval": target.interval,
        "sink": target.sink,
        "path": path,
        "held_by": _holder(target),
        "newest": _record(latest),
        "published": _record(published),
    }


def _holder(target: SinkInterval) -> JsonValue:
    states = read_states(target)
    if not states or not is_held(target, states[-1]):
        return None
    record = read_lease(target, states[-1].token)
    holder = record.attempt
    return {
        "run_id": holder.run_id,
        "user": holder.user,
        "host": holder.host,
        "since": holder.started_at,
        "pid": record.pid,
    }


def _record(record: LedgerRecord | None) -> JsonValue:
    if record is None:
        return None
    # `record.partitions` lists the planned partitions; some have no files.
    directories = sorted({file.path.rpartition("/")[0] for file in record.files})
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
