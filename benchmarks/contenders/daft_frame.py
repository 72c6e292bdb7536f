"""Daft: a class UDF over columns, its native runner.

python -m contenders.daft_frame INPUT MODEL OUTPUT
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ["DAFT_ANALYTICS_ENABLED"] = "0"
os.environ["DAFT_PROGRESS_BAR"] = "0"

import daft
from daft import col

from contenders.models import FEATURES, matrix, scorer


@daft.udf(return_dtype=daft.DataType.float64(), batch_size=65_536, concurrency=2)
class Model:
    """One instance per worker."""

    def __init__(self, folder: str) -> None:
        self._predict = scorer(Path(folder))

    def __call__(self, *columns: daft.Series):  # type: ignore[no-untyped-def]  # noqa: ANN204
        return self._predict(matrix([column.to_arrow().to_numpy(zero_copy_only=False) for column in columns]))


def main(source: str, model: str, target: str) -> None:
    """Score a folder."""
    predict = Model.with_init_args(folder=model)
    rows = daft.read_parquet(f"{source}/*.parquet")
    rows.select(col("id"), predict(*[col(name) for name in FEATURES]).alias("p")).write_parquet(
        target, compression="zstd"
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
