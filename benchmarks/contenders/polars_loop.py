"""A hand-written loop with Polars: a file at a time, in two processes.

python -m contenders.polars_loop INPUT MODEL OUTPUT
"""

from __future__ import annotations

import os
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

os.environ.setdefault("POLARS_MAX_THREADS", "1")

import polars as pl

from contenders.models import FEATURES, scorer

_predict = None


def _open(model: str) -> None:
    global _predict  # noqa: PLW0603 - the one model of a worker process
    _predict = scorer(Path(model))


def _one(source: str, target: str) -> None:
    assert _predict is not None
    frame = pl.read_parquet(source, columns=["id", *FEATURES])
    parts = [
        part.select("id").with_columns(p=_predict(part.select(FEATURES).to_numpy()))
        for part in frame.iter_slices(65_536)
    ]
    pl.concat(parts).write_parquet(target, compression="zstd")


def main(source: str, model: str, target: str) -> None:
    """Score a folder."""
    Path(target).mkdir(parents=True)
    with ProcessPoolExecutor(2, get_context("spawn"), _open, (model,)) as workers:
        jobs = [workers.submit(_one, str(path), f"{target}/{path.name}") for path in Path(source).glob("*.parquet")]
        for job in jobs:
            job.result()


if __name__ == "__main__":
    main(*sys.argv[1:])
