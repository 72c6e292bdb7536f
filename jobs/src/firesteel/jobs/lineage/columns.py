"""Column lineage of a sink, from the plan's own: through the SQL, and through the model."""

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
DECIDES = Transformation("INDIRECT", description="decides which rows there are: a filter, a join, a group")


def column_lineage(plan: Plan, sink: str, tracking_uri: str) -> ColumnLineageDatasetFacet:
    """Each column with what its values are computed from, the model's output among it, and what decides about rows.

    A score is a function of its features and of the model: it has an edge from each feature, and one from the output of
    the model, which is a data set of its own.
    """
    sources = {source.name: dataset_name(source.path) for source in plan.sources}
    models = {model.name: model for model in plan.models}
    fields = {
        column.column: Fields(
            [
                *(_field(sources[source], name, _how(column, models)) for source, name in column.values),
                *(_output(models[model], tracking_uri) for model in column.models),
            ]
        )
        for column in plan.lineage
        if column.sink == sink
    }
    rows = [pair for each in plan.row_lineage if each.sink == sink for pair in each.rows]
    return ColumnLineageDatasetFacet(fields, [_field(sources[source], name, DECIDES) for source, name in rows])


def _field(dataset: DatasetName, column: str, how: Transformation) -> InputField:
    return InputField(dataset.namespace, dataset.name, column, [how])


def _how(column: ColumnLineage, models: dict[str, ModelPlan]) -> Transformation:
    if column.copied:
        return COPIED
    if not column.models:
        return COMPUTED
    by = ", ".join(models[name].resolved_uri for name in column.models)
    return Transformation("DIRECT", "TRANSFORMATION", f"a feature of {by}")


def _output(model: ModelPlan, tracking_uri: str) -> InputField:
    name = model_name(model, tracking_uri)
    how = Transformation("DIRECT", "TRANSFORMATION", f"{model.method} of {model.resolved_uri}")
    return InputField(name.namespace, name.name, model.method, [how])
