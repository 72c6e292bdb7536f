"""What the ledger says about the intervals of a run, and how MLflow records it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from firesteel.conf.quantities import plural
from firesteel.conf.redaction import redact
from firesteel.jobs.tracking.batch import log_values
from firesteel.jobs.tracking.create import INTERVAL, create_once
from firesteel.jobs.tracking.driver import MACHINE, PID
from firesteel.jobs.tracking.page import published_tag
from firesteel.jobs.tracking.runs import ERROR, INTERVALS, PLAN_HASH, PUBLISHED
from firesteel.pipelines.publish.ledger import Ledger
from firesteel.pipelines.publish.state_store import children, file_name, name_of
from firesteel.pipelines.result import Counts
from firesteel.pipelines.storage.paths import join

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlflow import MlflowClient
    from mlflow.entities import Run

    from firesteel.pipelines.publish.records import LedgerRecord
    from firesteel.pipelines.publish.state_store import StateStore

NO_RECORD = "the driver died before it published"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of one interval of a run: the status of its MLflow run, and the ledger records of its published data."""

    interval: str
    status: str
    published: tuple[LedgerRecord, ...] = ()
    error: str = ""
    ended_at: str = ""


def outcome_of(store: StateStore, interval: str, records: list[LedgerRecord], child: Run | None) -> Outcome:
    """Return the outcome of an interval.

    Parameters
    ----------
    records
        The ledger records of the run for the interval, of all sinks.
    child
        Its MLflow run. A run that skips an interval writes no record.
    """
    newest: dict[str, LedgerRecord] = {}
    for record in sorted(records, key=lambda record: record.token):
        newest[record.sink] = record
    published = tuple(record for record in newest.values() if record.state == "published")
    bad = next((record for record in newest.values() if record.state != "published"), None)
    ended_at = max((record.ended_at for record in newest.values()), default="")
    if bad is not None:
        status = "KILLED" if bad.state == "cancelled" else "FAILED"
        return Outcome(interval, status, published, bad.error or bad.state, ended_at)
    if published or (child is not None and (child.info.status == "FINISHED" or _is_skipped(store, interval, child))):
        return Outcome(interval, "FINISHED", published, "", ended_at)
    error = child.data.tags.get(ERROR, "") if child is not None else ""
    return Outcome(interval, "FAILED", (), error or NO_RECORD)


def record_child(client: MlflowClient, parent: Run, child: Run | None, outcome: Outcome) -> None:
    """End the MLflow run of an interval if it is RUNNING. Create it if the ledger has a record and MLflow has no run."""
    if child is not None and child.info.status != "RUNNING":
        return
    run_id = child.info.run_id if child is not None else _create_child(client, parent, outcome.interval)
    tags = _tags(outcome.published, outcome.error)
    _end(client, run_id, outcome.status, _metrics([outcome]) if outcome.published else {}, tags, outcome.ended_at)


def record_parent(client: MlflowClient, parent: Run, outcomes: list[Outcome]) -> None:
    """End the parent run if it is RUNNING: FINISHED if each planned interval is."""
    from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE

    if parent.info.status != "RUNNING":
        return
    tags = parent.data.tags
    planned = int(tags[INTERVALS]) if tags.get(INTERVALS, "").isdigit() else max(1, len(outcomes))
    finished = [outcome for outcome in outcomes if outcome.status == "FINISHED"]
    status, error = "FINISHED", ""
    if len(finished) < planned:
        killed = any(outcome.status == "KILLED" for outcome in outcomes)
        status = "KILLED" if killed else "FAILED"
        missing = f"{len(finished)} of {plural(planned, 'interval')} published"
        reason = next((outcome.error for outcome in outcomes if outcome.error not in ("", NO_RECORD)), "")
        process = f"process {tags.get(PID, '?')} on {(tags.get(MACHINE) or '?').split()[0]}"
        error = tags.get(ERROR) or f"{reason or f'the driver ({process}) died'} ({missing})"
    published = tuple(record for outcome in outcomes for record in outcome.published)
    note = f"**{'Published' if status == 'FINISHED' else status.capitalize()}**" + (f": {error}" if error else "")
    note += "\n\nThe driver ended before it recorded the result. This record is from the ledger."
    ended_at = max((outcome.ended_at for outcome in outcomes), default="")
    changed = _tags(published, error) | {MLFLOW_RUN_NOTE: note}
    _end(client, parent.info.run_id, status, _metrics(outcomes) if published else {}, changed, ended_at)


def sinks_of(store: StateStore) -> tuple[str, ...]:
    """Return the sinks for which the storage has leases: also those that the spec no longer has."""
    folder = join(store.base, "lease", file_name(store.profile))
    return tuple(sorted(name_of(child.name) for child in children(store.storage, folder) if child.is_dir))


def _is_skipped(store: StateStore, interval: str, child: Run) -> bool:
    """Return whether another run has published the plan of an interval."""
    plan_hash = child.data.tags.get(PLAN_HASH, "")
    ledger = Ledger(store)
    records = [ledger.published(sink, interval) for sink in sinks_of(store)]
    return bool(plan_hash) and any(record is not None and record.holds(plan_hash) for record in records)


def _create_child(client: MlflowClient, parent: Run, interval: str) -> str:
    from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

    own = {name: value for name, value in parent.data.tags.items() if name.startswith("firesteel.")}
    tags = {name: value for name, value in own.items() if name not in (ERROR, INTERVALS, PLAN_HASH, PUBLISHED)}
    tags |= {MLFLOW_PARENT_RUN_ID: parent.info.run_id, INTERVAL: interval}
    return create_once(client, parent.info.experiment_id, tags, interval)


def _metrics(outcomes: list[Outcome]) -> dict[str, float]:
    """Return the row counts, files and bytes that the ledger has, summed over intervals."""
    records = [record for outcome in outcomes for record in outcome.published]
    counts = sum((record.counts for record in records), Counts())
    files = [file for record in records for file in record.files]
    return {**asdict(counts), "files": len(files), "bytes": sum(file.length for file in files)}


def _tags(published: tuple[LedgerRecord, ...], error: str) -> dict[str, str]:
    tags = {}
    if published:
        locations = dict.fromkeys(record.location for record in published)
        partitions = (partition for record in published for partition in record.partitions)
        tags[PUBLISHED] = published_tag(locations, partitions)
    if error:
        tags[ERROR] = redact(error)
    return tags


def _end(
    client: MlflowClient,
    run_id: str,
    status: str,
    metrics: Mapping[str, float],
    tags: Mapping[str, str],
    ended_at: str,
) -> None:
    log_values(client, run_id, metrics=metrics, tags=tags)
    end_ms = int(datetime.fromisoformat(ended_at).timestamp() * 1000) if ended_at else None
    client.set_terminated(run_id, status, end_ms)
