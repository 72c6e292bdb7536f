"""Record a finished swap: in the audit log, in the ledger, and in the pointer for readers."""

from __future__ import annotations

from firesteel.pipelines.publish.audit import append_entry
from firesteel.pipelines.publish.current import point_to
from firesteel.pipelines.publish.ledger import write_record
from firesteel.pipelines.publish.prewritten import PrewrittenRecords
from firesteel.pipelines.publish.records import LedgerRecord
from firesteel.pipelines.publish.state_store import SinkInterval


def enter(
    sink_interval: SinkInterval, sink_path: str, record: LedgerRecord, prewritten: PrewrittenRecords | None = None
) -> LedgerRecord:
    """Record a publish in the audit log and the ledger, and return the stored ledger record.

    The audit log comes first, so every published ledger record has an entry. All steps are idempotent: after a kill in between, the
    next start rolls them forward like the swap.
    """
    create = prewritten.create if prewritten else sink_interval.storage.create
    append_entry(sink_interval, record, create)
    point_to(sink_interval, sink_path)
    return write_record(sink_interval, record, create)
