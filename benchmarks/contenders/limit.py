"""The limit without an engine: two processes scan Parquet with pyarrow, score, and write Parquet.

python -m contenders.limit INPUT MODEL OUTPUT [native|compiled]
"""

from __future__ import annotations

import sys
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from contenders.models import BLOCK, FEATURES, Scorer, matrix, scorer

SCHEMA = pa.schema([("id", pa.int64()), ("p", pa.float64())])


@lru_cache(maxsize=8)
def _loaded(folder: str, form: str) -> Scorer:
    return scorer(Path(folder), form)


def score_file(source: str, model: str, target: str, form: str) -> int:
    """Score one file into one file, and return the number of rows."""
    predict = _loaded(model, form)
    rows = 0
    with (
        pq.ParquetFile(source, memory_map=True, pre_buffer=True) as file,
        pq.ParquetWriter(target, SCHEMA, compression="zstd", use_dictionary=False) as out,
    ):
        held = []
        for batch in file.iter_batches(65_536, columns=["id", *FEATURES], use_threads=False):
            for start in range(0, batch.num_rows, BLOCK):
                part = batch.slice(start, BLOCK)
                values = predict(matrix([part.column(name).to_numpy() for name in FEATURES]))
                held.append(pa.record_batch([part.column("id"), pa.array(values)], schema=SCHEMA))
            rows += batch.num_rows
        out.write_table(pa.Table.from_batches(held, SCHEMA))
    return rows


def pool() -> ProcessPoolExecutor:
    """Start two workers that live as long as a warm session."""
    return ProcessPoolExecutor(2, get_context("spawn"))


def score_all(workers: ProcessPoolExecutor, source: Path, model: Path, target: Path, form: str = "native") -> int:
    """Score all files of a day, and return the number of rows."""
    target.mkdir(parents=True)
    files = sorted(source.glob("*.parquet"))
    jobs = [workers.submit(score_file, str(file), str(model), str(target / file.name), form) for file in files]
    return sum(job.result() for job in jobs)


if __name__ == "__main__":
    source, model, target, *rest = sys.argv[1:]
    with pool() as workers:
        print(score_all(workers, Path(source), Path(model), Path(target), *rest))
