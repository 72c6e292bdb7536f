"""Convert the plan's column lineage of a sink, through SQL and models, to OpenLineage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from openlineage.client.generated.column_lineage_dataset import (
    ColumnLineageDatasetFacet,
    Fields,
    InputField,
    Transformation,
)

from firesteel.jobs.lineage.names import DatasetName, dataset_name, model_name

if TYPE_CHECKING:
    from firesteel.pipelines.plan.model import ColumnLineage, ModelPlan, Plan

COPIED = Transformation("DIRECT", "IDENTITY")
COMPUTED = Transformation("DIRECT", "TRANSFORMATION")
DECIDES = Transformation("INDIRECT", description="determines the rows: filter, join or group")


def column_lineage(plan: Plan, sink: str, tracking_uri: str) -> ColumnLineageDatasetFacet:
    """Return the inputs of each column, including model outputs, and the columns that determine the rows.

    A score depends on its features and on the model, so it has an edge from each feature and one from the model's output. Each model
    is a dataset.
    """
    sources = {source.name: dataset_name(source.path) for source in plan.sources}
    models = {model.name: model for model in plan.models}
    fields = {
        column.column: Fields(
            [
                *(_field(sources[source], name, _transformation(column, models)) for source, name in column.values),
                *(_output(models[model], tracking_uri) for model in column.models),
            ]
        )
        for column in plan.lineage
        if column.sink == sink
    }
    rows = [pair for row_lineage in plan.row_lineage if row_lineage.sink == sink for pair in row_lineage.rows]
    return ColumnLineageDatasetFacet(fields, [_field(sources[source], name, DECIDES) for source, name in rows])


def _field(dataset: DatasetName, column: str, transformation: Transformation) -> InputField:
    return InputField(dataset.namespace, dataset.name, column, [transformation])


def _transformation(column: ColumnLineage, models: dict[str, ModelPlan]) -> Transformation:
    if column.copied:
        return COPIED
    if not column.models:
        return COMPUTED
    models_text = ", ".join(models[name].resolved_uri for name in column.models)
    return Transformation("DIRECT", "TRANSFORMATION", f"a feature of {models_text}")


def _output(model: ModelPlan, tracking_uri: str) -> InputField:
    name = model_name(model, tracking_uri)
    transformation = Transformation("DIRECT", "TRANSFORMATION", f"{model.method} of {model.resolved_uri}")
    return InputField(name.namespace, name.name, model.method, [transformation])
