"""Ray Data as documented: `map_batches` with an actor that has the model.

python -m contenders.ray_data INPUT MODEL OUTPUT
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

import ray

from contenders.models import FEATURES, matrix, scorer


class Model:
    """An actor with the model."""

    def __init__(self, folder: str) -> None:
        self._predict = scorer(Path(folder))

    def __call__(self, batch: dict) -> dict:  # type: ignore[type-arg]
        return {"id": batch["id"], "p": self._predict(matrix([batch[name] for name in FEATURES]))}


def main(source: str, model: str, target: str) -> None:
    """Score a folder."""
    ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR", _node_ip_address="127.0.0.1")
    ray.data.DataContext.get_current().enable_progress_bars = False
    rows = ray.data.read_parquet(source, columns=["id", *FEATURES])
    rows = rows.map_batches(
        Model, fn_constructor_args=(model,), batch_size=65_536, compute=ray.data.ActorPoolStrategy(size=1)
    )
    rows.write_parquet(target, compression="zstd")
    ray.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
