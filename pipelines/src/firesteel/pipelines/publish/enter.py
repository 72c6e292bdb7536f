"""What follows a finished swap, whoever finished it: the audit log, the ledger, and the pointer for readers."""

from __future__ import annotations

from firesteel.pipelines.publish.audit import append_entry
from firesteel.pipelines.publish.current import point_to
from firesteel.pipelines.publish.ledger import write_record
from firesteel.pipelines.publish.prewritten import PrewrittenRecords
from firesteel.pipelines.publish.records import LedgerRecord
from firesteel.pipelines.publish.state_store import SinkInterval


def enter(
    place: SinkInterval, sink_path: str, record: LedgerRecord, drafts: PrewrittenRecords | None = None
) -> LedgerRecord:
    """Enter a publish into the audit log and the ledger; the record that stands.

    The audit log comes first: what the ledger says was published has an entry. All of it can be done again, so a kill in
    between is rolled forward as one in the swap is.
    """
    create = drafts.create if drafts else place.storage.create
    append_entry(place, record, create)
    point_to(place, sink_path)
    return write_record(place, record, create)
