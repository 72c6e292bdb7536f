"""Describe the datasets of one interval: inputs with versions, and outputs with statistics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from openlineage.client.generated.base import InputDataset, OutputDataset
from openlineage.client.generated.base_subset_dataset import (
    InputSubsetInputDatasetFacet,
    OutputSubsetOutputDatasetFacet,
    Partition,
    PartitionSubsetCondition,
)
from openlineage.client.generated.dataset_type_dataset import DatasetTypeDatasetFacet
from openlineage.client.generated.dataset_version_dataset import DatasetVersionDatasetFacet
from openlineage.client.generated.input_statistics_input_dataset import InputStatisticsInputDatasetFacet
from openlineage.client.generated.lifecycle_state_change_dataset import (
    LifecycleStateChange,
    LifecycleStateChangeDatasetFacet,
)
from openlineage.client.generated.output_statistics_output_dataset import OutputStatisticsOutputDatasetFacet
from openlineage.client.generated.schema_dataset import SchemaDatasetFacet, SchemaDatasetFacetFields
from openlineage.client.generated.storage_dataset import StorageDatasetFacet

from firesteel.conf.partitions import values_of
from firesteel.jobs.lineage.columns import column_lineage
from firesteel.jobs.lineage.facets import FiresteelModelFacet
from firesteel.jobs.lineage.gates import assertions, row_count
from firesteel.jobs.lineage.names import dataset_name, model_name
from firesteel.jobs.tracking.datasets import manifest_digest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from openlineage.client.generated.base import DatasetFacet, InputDatasetFacet, OutputDatasetFacet

    from firesteel.pipelines.plan.model import Column, IntervalPlan, Plan, SinkPlan, SourceInput, SourcePlan
    from firesteel.pipelines.result import IntervalResult

MAX_PARTITIONS = 1000
"""Maximum partitions of a dataset in an event, because servers reject very large events."""


def inputs(plan: Plan, interval: IntervalPlan, result: IntervalResult | None, tracking_uri: str) -> list[InputDataset]:
    """Return the sources and the models of an interval. A model determines its scores, so it is an input."""
    sources = {source.name: source for source in plan.sources}
    datasets = [_source(sources[scan.source], scan, plan, result) for scan in interval.inputs if scan.source in sources]
    return [*datasets, *models(plan, tracking_uri)]


def models(plan: Plan, tracking_uri: str) -> list[InputDataset]:
    """Return the pinned models as datasets. Their only column is the model's output, which column lineage references."""
    datasets = []
    for model in plan.models:
        name = model_name(model, tracking_uri)
        facets: dict[str, DatasetFacet] = {
            "version": DatasetVersionDatasetFacet(model.version or model.digest),
            "datasetType": DatasetTypeDatasetFacet("MODEL"),
            "schema": SchemaDatasetFacet([SchemaDatasetFacetFields(model.method, ordinal_position=1)]),
            "firesteel_model": FiresteelModelFacet.of(model),
        }
        datasets.append(InputDataset(name.namespace, name.name, facets=facets))
    return datasets


def outputs(
    plan: Plan, interval: IntervalPlan, result: IntervalResult | None, tracking_uri: str
) -> list[OutputDataset]:
    """Return the sinks. A sink has statistics and a version only after it is published."""
    return [_sink(plan, sink, interval, result, tracking_uri) for sink in plan.sinks]


def _source(source: SourcePlan, scan: SourceInput, plan: Plan, result: IntervalResult | None) -> InputDataset:
    name = dataset_name(source.path)
    gates = result.gates if result else ()
    manifest = [file.identity for file in scan.files]
    facets: dict[str, DatasetFacet] = {
        "schema": schema((*source.columns, *source.partitions)),
        "storage": _storage(name.namespace, source.format),
        "version": DatasetVersionDatasetFacet(manifest_digest(manifest)),
    }
    statistics = InputStatisticsInputDatasetFacet(
        rowCount=row_count(gates, source.name),
        size=sum(file.length for file in scan.files),
        fileCount=len(scan.files),
    )
    input_facets: dict[str, InputDatasetFacet] = {"inputStatistics": statistics}
    if parts := partitions(scan.directories):
        input_facets["subset"] = InputSubsetInputDatasetFacet(parts)
    if asserted := assertions(plan, gates, source.name):
        input_facets["dataQualityAssertions"] = asserted
    return InputDataset(name.namespace, name.name, inputFacets=input_facets, facets=facets)


def _sink(
    plan: Plan, sink: SinkPlan, interval: IntervalPlan, result: IntervalResult | None, tracking_uri: str
) -> OutputDataset:
    name = dataset_name(sink.path)
    facets: dict[str, DatasetFacet] = {
        "schema": schema(sink.columns),
        "storage": _storage(name.namespace, sink.format),
        "columnLineage": column_lineage(plan, sink.name, tracking_uri),
    }
    output_facets: dict[str, OutputDatasetFacet] = {}
    planned = next((output.directories for output in interval.outputs if output.sink == sink.name), ())
    if parts := partitions(planned):
        output_facets["subset"] = OutputSubsetOutputDatasetFacet(parts)
    if result is not None and result.state == "published":
        facets["version"] = DatasetVersionDatasetFacet(interval.plan_hash)
        if sink.mode == "replace_partitions":
            facets["lifecycleStateChange"] = LifecycleStateChangeDatasetFacet(LifecycleStateChange.OVERWRITE)
        output_facets["outputStatistics"] = OutputStatisticsOutputDatasetFacet(
            result.counts.scored, result.bytes, result.files
        )
    if result is not None and (assertions_facet := assertions(plan, result.gates, f"sink:{sink.name}")):
        # The client defines an input facet, but the schema allows it for any dataset. The assertions are on staged data.
        facets["dataQualityAssertions"] = assertions_facet  # type: ignore[assignment]
    return OutputDataset(name.namespace, name.name, outputFacets=output_facets, facets=facets)


def schema(columns: Iterable[Column]) -> SchemaDatasetFacet:
    """Return the column names and Spark types in order."""
    fields = [
        SchemaDatasetFacetFields(column.name, column.type, ordinal_position=number)
        for number, column in enumerate(columns, start=1)
    ]
    return SchemaDatasetFacet(fields)


def partitions(directories: tuple[str, ...]) -> PartitionSubsetCondition | None:
    """Return partition directories as column conditions, or None for the whole dataset or for too many partitions."""
    if not directories or "" in directories or len(directories) > MAX_PARTITIONS:
        return None
    return PartitionSubsetCondition([Partition(values_of(directory), directory) for directory in directories])


def _storage(namespace: str, file_format: str) -> StorageDatasetFacet:
    return StorageDatasetFacet(namespace.partition(":")[0], file_format)
