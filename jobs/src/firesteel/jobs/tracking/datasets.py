"""Describe inputs as MLflow datasets: path, manifest digest and columns."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from firesteel.conf.types import MLFLOW

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mlflow.entities import DatasetInput

    from firesteel.pipelines.plan.model import IntervalPlan, Plan, SourcePlan

_DIGEST = 36
"""Maximum length of a dataset digest in MLflow."""


def dataset_inputs(plan: Plan, intervals: Iterable[IntervalPlan]) -> list[DatasetInput]:
    """Return one dataset per source, with a digest of the files' paths, lengths, and digests or modification times."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    files: dict[str, list[tuple[str, int, int | str]]] = {}
    for interval in intervals:
        for scan in interval.inputs:
            files.setdefault(scan.source, []).extend(file.identity for file in scan.files)
    datasets = []
    for source in plan.sources:
        manifest = sorted(files.get(source.name, []))
        if source.name not in files:
            continue
        digest = manifest_digest(manifest)
        dataset = Dataset(
            name=source.name,
            digest=digest,
            source_type=urlsplit(source.path).scheme or "file",
            source=json.dumps({"uri": source.path}),
            schema=json.dumps({"mlflow_colspec": _columns(source)}),
            profile=json.dumps({"files": len(manifest), "bytes": sum(length for _, length, _ in manifest)}),
        )
        datasets.append(DatasetInput(dataset, [InputTag("mlflow.data.context", "scoring")]))
    return datasets


def manifest_digest(manifest: Iterable[tuple[str, int, int | str]]) -> str:
    """Return the digest of file identities, which MLflow and lineage use as the dataset version."""
    return hashlib.sha256(json.dumps(sorted(manifest)).encode()).hexdigest()[:_DIGEST]


def _columns(source: SourcePlan) -> list[dict[str, object]]:
    return [
        {"name": column.name, "type": MLFLOW.get(column.type, "string"), "required": not column.nullable}
        for column in (*source.columns, *source.partitions)
    ]
