"""Send the column lineage of a run as OpenLineage events, without failing the run."""

from firesteel.jobs.lineage.record import LineageRecord

__all__ = ["LineageRecord"]
