"""The files of the current version of each interval of a sink, for readers without Spark. With Spark, use `firesteel.read`.

The files are those of the ledger, never of a listing, so that a swap in progress is never seen half done.

>>> files = current_files("hdfs://nn:8020/ml/scores")     # doctest: +SKIP
>>> pyarrow.dataset.dataset(files, partitioning="hive")     # doctest: +SKIP
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from firesteel.conf.errors import GateFailed, StorageError
from firesteel.pipelines.publish.current import read_pointer
from firesteel.pipelines.publish.ledger import Ledger
from firesteel.pipelines.publish.state_store import StateStore, children
from firesteel.pipelines.storage.identity import canonical
from firesteel.pipelines.storage.open import locate
from firesteel.pipelines.storage.paths import join

_POLL_S = 0.2


def current_files(
    sink: str, intervals: Sequence[str] = (), *, timeout_s: float = 60.0, refuse_suspect: bool = False
) -> list[str]:
    """Return the URIs of the published files.

    Parameters
    ----------
    sink
        The sink's URI.
    intervals
        Intervals to read. Default: all published ones.
    timeout_s
        Seconds to wait for a swap in progress.
    refuse_suspect
        Raise an error for an interval whose published rows fail gates that were changed after the publish.

    Raises
    ------
    GateFailed
        FS7006 when an interval is suspect and `refuse_suspect` is set.
    StorageError
        FS8003 when nothing was published to the sink; FS8011 when an interval is still incomplete after `timeout_s`.
    """
    storage, path = locate(sink)
    location = canonical(sink)
    pointer = read_pointer(storage, path)
    ledger = Ledger(StateStore(storage, pointer.base, pointer.pipeline, pointer.profile))
    deadline = time.monotonic() + timeout_s
    files: list[str] = []
    for interval in intervals or ledger.intervals(pointer.sink):
        if refuse_suspect and (reason := ledger.suspect(pointer.sink, interval, location)):
            raise GateFailed(
                "FS7006",
                f"{sink} {interval} is suspect. {reason}",
                hint="Correct the gate, publish the interval again, or read without `refuse_suspect`.",
            )
        while True:
            record = ledger.published(pointer.sink, interval, location)
            expected = {join(path, file.path): file.length for file in record.files} if record else {}
            folders = sorted({file.rpartition("/")[0] for file in expected})
            present = {status.path: status.length for folder in folders for status in children(storage, folder)}
            if all(present.get(file) == length for file, length in expected.items()):
                break
            if time.monotonic() > deadline:
                raise StorageError(
                    "FS8011",
                    f"{sink} {interval}: files that run {record.run_id if record else ''} published are missing.",
                    hint="Run `firesteel recover` to finish a publish that died, then read again.",
                )
            time.sleep(_POLL_S)
        files += [f"{storage.base_uri}{file}" for file in expected]
    return files
