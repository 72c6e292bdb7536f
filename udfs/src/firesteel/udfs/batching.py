"""Re-batching: what Spark sends in its batches becomes batches of our size, rows in order, none copied twice."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pyarrow as pa


def rebatch(batches: Iterable[pa.RecordBatch], rows: int, size: int) -> Iterator[pa.Table]:
    """Cut a stream of Arrow batches anew.

    Parameters
    ----------
    rows
        Rows of a batch, at most.
    size
        Bytes of a batch, at most, by the mean row of the batch they came in; a single row may be larger.

    Yields
    ------
    Tables of at least one row. Memory held is one incoming batch and one outgoing.
    """
    waiting: list[pa.RecordBatch] = []
    held_rows = held_bytes = 0
    for batch in batches:
        if batch.num_rows == 0:
            continue
        row_bytes = max(1, batch.nbytes // batch.num_rows)
        start = 0
        while start < batch.num_rows:
            room = min(rows - held_rows, (size - held_bytes) // row_bytes)
            if room <= 0 and waiting:
                yield pa.Table.from_batches(waiting)
                waiting, held_rows, held_bytes = [], 0, 0
                continue
            taken = batch.slice(start, max(1, room))
            waiting.append(taken)
            held_rows += taken.num_rows
            held_bytes += taken.num_rows * row_bytes
            start += taken.num_rows
    if waiting:
        yield pa.Table.from_batches(waiting)
