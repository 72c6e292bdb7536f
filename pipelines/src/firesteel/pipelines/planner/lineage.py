"""Column lineage: the source columns of each published column, from the spec alone.

As in OpenLineage's column lineage facet, the columns that a value is computed from are separate from the columns that select rows.
"""

from __future__ import annotations

from dataclasses import dataclass

from firesteel.pipelines.analysis import challenger_outputs_of
from firesteel.pipelines.plan.model import ColumnLineage, RowLineage
from firesteel.pipelines.rules.logical_plan import LogicalPlan

Origins = frozenset[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class _Lineage:
    values: dict[str, Origins]
    models: dict[str, frozenset[str]]
    rows: Origins


def lineage(logical: LogicalPlan) -> tuple[tuple[ColumnLineage, ...], tuple[RowLineage, ...]]:
    """Return the lineage of every sink's columns, in their order, and of its rows."""
    analysis = logical.analysis
    lineages = {
        name: _Lineage(
            {column.name.lower(): frozenset({(name, column.name)}) for column in analysis.relations[name]},
            {},
            frozenset(),
        )
        for name in logical.spec.sources
    }
    for step in analysis.order:
        lineages[step] = _scored(logical, step, lineages) if logical.score(step) else _selected(logical, step, lineages)
    columns, rows = [], []
    for name, sink in logical.spec.sinks.items():
        source = lineages[sink.from_]
        for column in analysis.relations[sink.from_]:
            key = column.name.lower()
            values = source.values.get(key, frozenset())
            columns.append(
                ColumnLineage(
                    name,
                    column.name,
                    tuple(sorted(values)),
                    tuple(sorted(source.models.get(key, frozenset()))),
                    copied=values == {analysis.trace(sink.from_, column.name)},
                )
            )
        rows.append(RowLineage(name, tuple(sorted(source.rows))))
    return tuple(columns), tuple(rows)


def _scored(logical: LogicalPlan, step: str, lineages: dict[str, _Lineage]) -> _Lineage:
    score = logical.score(step)
    assert score is not None
    before = lineages[score.input]

    def origins_of(columns: tuple[str, ...] | None) -> Origins:
        features = [name.lower() for name in columns] if columns is not None else list(before.values)
        return frozenset().union(*(before.values.get(name, frozenset()) for name in features))

    values = {name.lower(): before.values.get(name.lower(), frozenset()) for name in score.keep}
    models = {name.lower(): before.models.get(name.lower(), frozenset()) for name in score.keep}
    features = logical.features.get(step)
    outputs = dict.fromkeys(score.output, features)
    outputs |= {output.name: logical.challengers.get(step, features) for output in challenger_outputs_of(score)}
    for output, read in outputs.items():
        values[output.lower()] = origins_of(read)
        models[output.lower()] = frozenset({score.model})
    return _Lineage(values, models, before.rows)


def _selected(logical: LogicalPlan, step: str, lineages: dict[str, _Lineage]) -> _Lineage:
    needs = logical.analysis.needs.get(step)
    if needs is None:
        return _Lineage({}, {}, frozenset())
    reads = logical.analysis.selects[step].reads
    values, models = {}, {}
    for name, origins in needs.outputs.items():
        inputs = [(lineages[relation], column.lower()) for relation, column in origins]
        values[name] = frozenset().union(*(known.values.get(column, frozenset()) for known, column in inputs))
        models[name] = frozenset().union(*(known.models.get(column, frozenset()) for known, column in inputs))
    lower = {name.lower(): known for name, known in lineages.items()}
    rows: Origins = frozenset().union(
        *(lineages[relation].values.get(column.lower(), frozenset()) for relation, column in needs.rows),
        *(lower[read.lower()].rows for read in reads),
    )
    return _Lineage(values, models, rows)
