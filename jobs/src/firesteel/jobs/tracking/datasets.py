"""Describe inputs and published outputs as MLflow datasets: path, manifest digest and columns."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from firesteel.conf.types import MLFLOW

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mlflow.entities import DatasetInput

    from firesteel.pipelines.plan.model import Column, IntervalPlan, Plan
    from firesteel.pipelines.result import IntervalResult

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
        manifest = sorted(set(files.get(source.name, [])))  # several intervals may read a file
        if source.name not in files:
            continue
        digest = manifest_digest(manifest)
        dataset = Dataset(
            name=source.name,
            digest=digest,
            source_type=urlsplit(source.path).scheme or "file",
            source=json.dumps({"uri": source.path}),
            schema=json.dumps({"mlflow_colspec": _columns((*source.columns, *source.partitions))}),
            profile=json.dumps({"files": len(manifest), "bytes": sum(length for _, length, _ in manifest)}),
        )
        datasets.append(DatasetInput(dataset, [InputTag("mlflow.data.context", "scoring")]))
    return datasets


def dataset_outputs(plan: Plan, results: Iterable[IntervalResult]) -> list[DatasetInput]:
    """Return one dataset per sink with the context `output`. Its digest is that of the files that the intervals published."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    published = [result for result in results if result.state == "published"]
    if not published:
        return []
    manifests = sorted((result.interval, result.output_digest or result.plan_hash) for result in published)
    profile = {
        "intervals": len(published),
        "rows": sum(result.counts.scored for result in published),
        "files": sum(result.files for result in published),
        "bytes": sum(result.bytes for result in published),
    }
    return [
        DatasetInput(
            Dataset(
                name=sink.name,
                digest=hashlib.sha256(json.dumps(manifests).encode()).hexdigest()[:_DIGEST],
                source_type=urlsplit(sink.path).scheme or "file",
                source=json.dumps({"uri": sink.path}),
                schema=json.dumps({"mlflow_colspec": _columns(sink.columns)}),
                profile=json.dumps(profile),
            ),
            [InputTag("mlflow.data.context", "output")],
        )
        for sink in plan.sinks
    ]


def manifest_digest(manifest: Iterable[tuple[str, int, int | str]]) -> str:
    """Return the digest of file identities, which MLflow and lineage use as the dataset version."""
    return hashlib.sha256(json.dumps(sorted(manifest)).encode()).hexdigest()[:_DIGEST]


def _columns(columns: Iterable[Column]) -> list[dict[str, object]]:
    return [
        {"name": column.name, "type": MLFLOW.get(column.type, "string"), "required": not column.nullable}
        for column in columns
    ]
