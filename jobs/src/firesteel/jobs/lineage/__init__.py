"""Lineage: what a run reads and writes, column by column, as OpenLineage events. A record that never stops a run."""

from firesteel.jobs.lineage.record import LineageRecord

__all__ = ["LineageRecord"]
