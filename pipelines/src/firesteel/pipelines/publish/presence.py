"""Compare the files that ledger records name with the files that are in the sink."""

from __future__ import annotations

from collections.abc import Sequence

from firesteel.pipelines.publish.records import LedgerRecord
from firesteel.pipelines.storage.base import Storage
from firesteel.pipelines.storage.paths import join, parent_of


def missing_files(storage: Storage, sink_path: str, records: Sequence[LedgerRecord]) -> list[tuple[str, ...]]:
    """Return, for each record, its files that the sink lacks or that have another length.

    All folders are listed together, so that a plan over thousands of intervals needs few requests.

    Parameters
    ----------
    sink_path
        The sink's path in `storage`.
    """
    expected = [{join(sink_path, file.path): file for file in record.files} for record in records]
    folders = _outermost({parent_of(path) for files in expected for path in files})
    lengths = {status.path: status.length for status in storage.scan(folders)}
    return [tuple(file.path for path, file in files.items() if lengths.get(path) != file.length) for files in expected]


def _outermost(folders: set[str]) -> list[str]:
    """Return the folders that are not below another one, sorted: `scan` lists the others with them."""
    outermost: list[str] = []
    for folder in sorted(folders, key=lambda path: f"{path}/"):  # a folder sorts directly before those below it
        if not outermost or not folder.startswith(f"{outermost[-1].rstrip('/')}/"):
            outermost.append(folder)
    return outermost
