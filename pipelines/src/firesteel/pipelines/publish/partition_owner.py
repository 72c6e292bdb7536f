"""Check that a publish replaces no files of another interval of the sink."""

from __future__ import annotations

from collections.abc import Sequence

from firesteel.conf.errors import StorageError
from firesteel.conf.partitions import is_data
from firesteel.pipelines.publish.current import NAME
from firesteel.pipelines.publish.ledger import Ledger
from firesteel.pipelines.publish.records import LedgerRecord
from firesteel.pipelines.publish.state_store import SinkInterval
from firesteel.pipelines.storage.paths import join


def check_owner(
    sink_interval: SinkInterval, sink_path: str, location: str, directories: Sequence[str], own: LedgerRecord | None
) -> None:
    """Check the files in the directories that an interval replaces.

    A rerun finds its own files, which costs one listing. The records of other intervals are read only if there are other files.

    Parameters
    ----------
    location
        The `canonical` URI of the sink.
    directories
        Directories that exist, relative to the sink.
    own
        The interval's latest publish to the location.

    Raises
    ------
    StorageError
        FS8014 naming the interval that has published one of the files. FS8012 when a directory contains another sink.
    """
    store, sink, interval = sink_interval.store, sink_interval.sink, sink_interval.interval
    found = store.storage.scan([join(sink_path, directory) for directory in directories])
    paths = {status.path[len(sink_path) :].lstrip("/") for status in found}
    foreign = {path for path in paths if is_data(path)} - {file.path for file in (own.files if own else ())}
    if inner := sorted(path for path in paths if path.rpartition("/")[2] == NAME and "/" in path):
        raise StorageError(
            "FS8012",
            f"{sink} {interval}: {join(sink_path, inner[0].rpartition('/')[0])} is a sink, too, in a partition that the interval "
            "replaces. Nothing was published.",
            hint=f"Move the inner sink to another folder, or delete its file {NAME} if it is not used any more.",
        )
    if not foreign:
        return
    ledger = Ledger(store)
    for other in ledger.intervals(sink):
        record = ledger.published(sink, other, location) if other != interval else None
        taken = sorted(foreign & {file.path for file in record.files}) if record else []
        if record and taken:
            raise StorageError(
                "FS8014",
                f"{sink} {interval}: the partition {taken[0].rpartition('/')[0] or sink} belongs to the interval {other}, which "
                f"run {record.run_id} published. Nothing was published.",
                hint="Select partitions that differ for each interval (`select` of the sources). If the pipeline no longer has this "
                f"interval, for example after a change of interval.unit, remove it: `firesteel rollback --interval {other}`.",
            )
