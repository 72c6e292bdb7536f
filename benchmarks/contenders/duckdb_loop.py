"""DuckDB streams Arrow batches, Python scores them, pyarrow writes.

python -m contenders.duckdb_loop INPUT MODEL OUTPUT
"""

from __future__ import annotations

import sys
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from contenders.models import FEATURES, matrix, scorer

SCHEMA = pa.schema([("id", pa.int64()), ("p", pa.float64())])


def main(source: str, model: str, target: str) -> None:
    """Score a folder."""
    predict = scorer(Path(model))
    Path(target).mkdir(parents=True)
    connection = duckdb.connect(config={"threads": 2, "preserve_insertion_order": False})
    query = connection.execute(f"SELECT id, {', '.join(FEATURES)} FROM read_parquet('{source}/*.parquet')")
    with pq.ParquetWriter(f"{target}/part.parquet", SCHEMA, compression="zstd", use_dictionary=False) as out:
        for batch in query.fetch_record_batch(65_536):
            values = predict(matrix([batch.column(name).to_numpy(zero_copy_only=False) for name in FEATURES]))
            out.write_batch(pa.record_batch([batch.column("id"), pa.array(values)], schema=SCHEMA))


if __name__ == "__main__":
    main(*sys.argv[1:])
