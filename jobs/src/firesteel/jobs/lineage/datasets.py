"""The data sets of one interval: what it reads with its versions, what it publishes with its statistics."""

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
from firesteel.jobs.lineage.gates import assertions, rows_seen
from firesteel.jobs.lineage.names import dataset_name, model_name
from firesteel.jobs.tracking.datasets import manifest_digest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from openlineage.client.generated.base import DatasetFacet, InputDatasetFacet, OutputDatasetFacet

    from firesteel.pipelines.plan.model import Column, IntervalPlan, Plan, SinkPlan, SourceInput, SourcePlan
    from firesteel.pipelines.result import IntervalResult

MAX_PARTITIONS = 1000
"""Of one data set that an event lists: a server takes no event of a hundred thousand."""


def inputs(plan: Plan, interval: IntervalPlan, result: IntervalResult | None, tracking_uri: str) -> list[InputDataset]:
    """The sources that an interval reads, and the models: without a model's bytes its scores are another data set."""
    sources = {source.name: source for source in plan.sources}
    read = [_source(sources[each.source], each, plan, result) for each in interval.inputs if each.source in sources]
    return [*read, *models(plan, tracking_uri)]


def models(plan: Plan, tracking_uri: str) -> list[InputDataset]:
    """The pinned models. What a model gives is its only column, so that column lineage can lead through it."""
    found = []
    for model in plan.models:
        name = model_name(model, tracking_uri)
        facets: dict[str, DatasetFacet] = {
            "version": DatasetVersionDatasetFacet(model.version or model.digest),
            "datasetType": DatasetTypeDatasetFacet("MODEL"),
            "schema": SchemaDatasetFacet([SchemaDatasetFacetFields(model.method, ordinal_position=1)]),
            "firesteel_model": FiresteelModelFacet.of(model),
        }
        found.append(InputDataset(name.namespace, name.name, facets=facets))
    return found


def outputs(
    plan: Plan, interval: IntervalPlan, result: IntervalResult | None, tracking_uri: str
) -> list[OutputDataset]:
    """The sinks. Statistics and a version they have once they are published, and not before."""
    return [_sink(plan, sink, interval, result, tracking_uri) for sink in plan.sinks]


def _source(source: SourcePlan, read: SourceInput, plan: Plan, result: IntervalResult | None) -> InputDataset:
    name = dataset_name(source.path)
    gates = result.gates if result else ()
    manifest = [(file.path, file.length, file.modified_ms) for file in read.files]
    facets: dict[str, DatasetFacet] = {
        "schema": schema((*source.columns, *source.partitions)),
        "storage": _storage(name.namespace, source.format),
        "version": DatasetVersionDatasetFacet(manifest_digest(manifest)),
    }
    statistics = InputStatisticsInputDatasetFacet(
        rowCount=rows_seen(gates, source.name),
        size=sum(file.length for file in read.files),
        fileCount=len(read.files),
    )
    found: dict[str, InputDatasetFacet] = {"inputStatistics": statistics}
    if parts := partitions(read.directories):
        found["subset"] = InputSubsetInputDatasetFacet(parts)
    if asserted := assertions(plan, gates, source.name):
        found["dataQualityAssertions"] = asserted
    return InputDataset(name.namespace, name.name, inputFacets=found, facets=facets)


def _sink(
    plan: Plan, sink: SinkPlan, interval: IntervalPlan, result: IntervalResult | None, tracking_uri: str
) -> OutputDataset:
    name = dataset_name(sink.path)
    facets: dict[str, DatasetFacet] = {
        "schema": schema(sink.columns),
        "storage": _storage(name.namespace, sink.format),
        "columnLineage": column_lineage(plan, sink.name, tracking_uri),
    }
    found: dict[str, OutputDatasetFacet] = {}
    planned = next((each.directories for each in interval.outputs if each.sink == sink.name), ())
    if parts := partitions(planned):
        found["subset"] = OutputSubsetOutputDatasetFacet(parts)
    if result is not None and result.state == "published":
        facets["version"] = DatasetVersionDatasetFacet(interval.plan_hash)
        if sink.mode == "replace_partitions":
            facets["lifecycleStateChange"] = LifecycleStateChangeDatasetFacet(LifecycleStateChange.OVERWRITE)
        found["outputStatistics"] = OutputStatisticsOutputDatasetFacet(result.counts.scored, result.bytes, result.files)
    if result is not None and (asserted := assertions(plan, result.gates, f"sink:{sink.name}")):
        # The model calls it a facet of inputs, the schema lets any data set have it; these are of what was staged.
        facets["dataQualityAssertions"] = asserted  # type: ignore[assignment]
    return OutputDataset(name.namespace, name.name, outputFacets=found, facets=facets)


def schema(columns: Iterable[Column]) -> SchemaDatasetFacet:
    """Names and Spark types, in their order."""
    fields = [
        SchemaDatasetFacetFields(column.name, column.type, ordinal_position=number)
        for number, column in enumerate(columns, start=1)
    ]
    return SchemaDatasetFacet(fields)


def partitions(directories: tuple[str, ...]) -> PartitionSubsetCondition | None:
    """Partition directories as conditions on their columns; None where the whole data set is meant, or too many are."""
    if not directories or "" in directories or len(directories) > MAX_PARTITIONS:
        return None
    return PartitionSubsetCondition([Partition(values_of(each), each) for each in directories])


def _storage(namespace: str, file_format: str) -> StorageDatasetFacet:
    return StorageDatasetFacet(namespace.partition(":")[0], file_format)
