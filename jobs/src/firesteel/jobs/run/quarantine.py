"""Rows that gates take out of an interval: written beside the ledger with their reasons, and counted twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

from firesteel.conf.errors import GateFailed
from firesteel.jobs.run.staged import StagedFiles
from firesteel.pipelines.publish.quarantine import quarantine_path

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from firesteel.jobs.gates.aside import Aside
    from firesteel.pipelines.publish.layout import Area


def write_quarantine(aside: Aside, area: Area, relation: str, interval: str, run_id: str) -> str:
    """Write the quarantined rows; where they lie. They stay when the run fails: they say why.

    Raises
    ------
    GateFailed
        FS7002 when other rows were written than were counted.
    """
    if aside.quarantined is None or not aside.rows_quarantined:
        return ""
    path = quarantine_path(area, relation, interval, run_id)
    place = f"{area.storage.base_uri}{path}"
    _write(aside.quarantined, place)
    written = StagedFiles.below(area.storage, path).rows()
    if written is None:
        written = aside.quarantined.sparkSession.read.parquet(place).count()
    if written != aside.rows_quarantined:
        raise GateFailed(
            "FS7002",
            f"{interval}: rows do not add up: {aside.rows_quarantined:,} rows of {relation} may not go on, and {written:,} were "
            "put aside. Nothing was published.",
            hint="Check whether something changes the files of the source while the run reads them.",
        )
    return place


def _write(frame: DataFrame, place: str) -> None:
    writer = frame.hint("rebalance").write.option("mapreduce.fileoutputcommitter.marksuccessfuljobs", "false")
    writer.mode("errorifexists").parquet(place)
