"""The state of intervals and of a run, for schedulers.

Schedulers read the ledger because exit codes are not enough: spark-submit in cluster mode returns 0 for failed jobs, and a
driver that is killed after it writes its journal has published.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import JsonValue

from firesteel.pipelines.brief import MAX_PARTITIONS, MAX_TEXT, rows
from firesteel.pipelines.publish.heartbeat import RunState, runs
from firesteel.pipelines.publish.lease import TokenState, is_held, read_lease, read_states
from firesteel.pipelines.publish.ledger import Ledger
from firesteel.pipelines.publish.records import LedgerRecord
from firesteel.pipelines.publish.sink_records import SinkRecords, read_all
from firesteel.pipelines.publish.state_store import SinkInterval, StateStore
from firesteel.pipelines.storage.identity import canonical


def interval_status(
    store: StateStore, sinks: dict[str, str], intervals: tuple[str, ...], run: str
) -> dict[str, JsonValue]:
    """Return the state as JSON: `runs`, oldest first, and `intervals`, one entry per interval and sink.

    Raises FS8006 when the ledger has lost the latest publish of an interval.

    Parameters
    ----------
    sinks
        Paths by sink name.
    run
        The id of a run, or the ending that the ids of several runs share. Empty: `runs` is empty.
    """
    states = runs(store, run) if run else []
    targets = [SinkInterval(store, sink, interval) for interval in intervals for sink in sinks]
    records = {sink: SinkRecords(store, sink, intervals) for sink in sinks}
    latest = {sink: of_sink.latest() for sink, of_sink in records.items()}
    published = {sink: of_sink.published(canonical(sinks[sink])) for sink, of_sink in records.items()}
    suspect = {sink: of_sink.suspect(canonical(sinks[sink])) for sink, of_sink in records.items()}
    leases = list(read_all(_lease, targets))
    for target, lease in zip(targets, leases, strict=True):
        newest = latest[target.sink].get(target.interval)
        if lease.published > (newest.token if newest else 0):
            Ledger(store).latest(
                target.sink, target.interval
            )  # raises, unless the publish ended after the records were listed
    return {
        "pipeline": store.pipeline,
        "profile": store.profile,
        "runs": [_run(state) for state in states],
        "intervals": [
            {
                "interval": target.interval,
                "sink": target.sink,
                "path": sinks[target.sink],
                "held_by": lease.holder,
                "newest": _record(latest[target.sink].get(target.interval)),
                "published": _record(published[target.sink].get(target.interval)),
                "suspect": suspect[target.sink].get(target.interval, "")[:MAX_TEXT],
            }
            for target, lease in zip(targets, leases, strict=True)
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


@dataclass(frozen=True, slots=True)
class _Lease:
    """The holder of an interval, and its latest token that has published (0: none)."""

    holder: JsonValue
    published: int


def _lease(target: SinkInterval) -> _Lease:
    states = read_states(target)
    published = max((state.token for state in states if state.published), default=0)
    return _Lease(_holder(target, states[-1]) if states else None, published)


def _holder(target: SinkInterval, state: TokenState) -> JsonValue:
    if not is_held(target, state):
        return None
    record = read_lease(target, state.token)
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
