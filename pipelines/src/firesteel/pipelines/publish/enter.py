"""What follows a finished swap, whoever finished it: the audit log, the ledger, and the pointer for readers."""

from __future__ import annotations

from firesteel.pipelines.publish.audit import append_entry
from firesteel.pipelines.publish.current import point_to
from firesteel.pipelines.publish.drafts import Drafts
from firesteel.pipelines.publish.layout import Place
from firesteel.pipelines.publish.ledger import write_record
from firesteel.pipelines.publish.records import LedgerRecord


def enter(place: Place, sink_path: str, record: LedgerRecord, drafts: Drafts | None = None) -> LedgerRecord:
    """Enter a publish into the audit log and the ledger; the record that stands.

    The audit log comes first: what the ledger says was published has an entry. All of it can be done again, so a kill in
    between is rolled forward as one in the swap is.
    """
    create = drafts.create if drafts else place.storage.create
    append_entry(place, record, create)
    point_to(place, sink_path)
    return write_record(place, record, create)
