"""Rebatch Spark's Arrow batches to the configured size, in row order and without double copies."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pyarrow as pa


def rebatch(batches: Iterable[pa.RecordBatch], rows: int, size: int) -> Iterator[pa.Table]:
    """Split and merge a stream of Arrow batches.

    Parameters
    ----------
    rows
        Maximum rows of a batch.
    size
        Maximum bytes of a batch, estimated by the mean row size of the input batch. A single row may be larger.

    Yields
    ------
    Tables of at least one row. Memory use is one input batch and one output batch.
    """
    pending: list[pa.RecordBatch] = []
    pending_rows = pending_bytes = 0
    for batch in batches:
        if batch.num_rows == 0:
            continue
        row_bytes = max(1, batch.nbytes // batch.num_rows)
        start = 0
        while start < batch.num_rows:
            free_rows = min(rows - pending_rows, (size - pending_bytes) // row_bytes)
            if free_rows <= 0 and pending:
                yield pa.Table.from_batches(pending)
                pending, pending_rows, pending_bytes = [], 0, 0
                continue
            part = batch.slice(start, max(1, free_rows))
            pending.append(part)
            pending_rows += part.num_rows
            pending_bytes += part.num_rows * row_bytes
            start += part.num_rows
    if pending:
        yield pa.Table.from_batches(pending)
