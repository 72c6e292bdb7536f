"""Column lineage: which columns of which sources a published column is made of. From the spec alone.

As in OpenLineage's column lineage facet, what a value is computed from is kept apart from what decides which rows there are.
"""

from __future__ import annotations

from dataclasses import dataclass

from firesteel.pipelines.analysis import challenger_outputs_of
from firesteel.pipelines.plan.model import ColumnLineage, RowLineage
from firesteel.pipelines.rules.logical_plan import LogicalPlan

Origins = frozenset[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class _Made:
    values: dict[str, Origins]
    models: dict[str, frozenset[str]]
    rows: Origins


def lineage(logical: LogicalPlan) -> tuple[tuple[ColumnLineage, ...], tuple[RowLineage, ...]]:
    """The lineage of every sink's columns, in their order."""
    analysis = logical.analysis
    made = {
        name: _Made(
            {column.name.lower(): frozenset({(name, column.name)}) for column in analysis.relations[name]},
            {},
            frozenset(),
        )
        for name in logical.spec.sources
    }
    for step in analysis.order:
        made[step] = _scored(logical, step, made) if logical.score(step) else _selected(logical, step, made)
    columns, rows = [], []
    for name, sink in logical.spec.sinks.items():
        source = made[sink.from_]
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


def _scored(logical: LogicalPlan, step: str, made: dict[str, _Made]) -> _Made:
    score = logical.score(step)
    assert score is not None
    before = made[score.input]

    def whole(named: tuple[str, ...] | None) -> Origins:
        features = [name.lower() for name in named] if named is not None else list(before.values)
        return frozenset().union(*(before.values.get(name, frozenset()) for name in features))

    values = {name.lower(): before.values.get(name.lower(), frozenset()) for name in score.keep}
    models = {name.lower(): before.models.get(name.lower(), frozenset()) for name in score.keep}
    features = logical.features.get(step)
    outputs = dict.fromkeys(score.output, features)
    outputs |= {each.name: logical.challengers.get(step, features) for each in challenger_outputs_of(score)}
    for output, read in outputs.items():
        values[output.lower()] = whole(read)
        models[output.lower()] = frozenset({score.model})
    return _Made(values, models, before.rows)


def _selected(logical: LogicalPlan, step: str, made: dict[str, _Made]) -> _Made:
    needs = logical.analysis.needs.get(step)
    if needs is None:
        return _Made({}, {}, frozenset())
    reads = logical.analysis.selects[step].reads
    values, models = {}, {}
    for name, origins in needs.outputs.items():
        behind = [(made[relation], column.lower()) for relation, column in origins]
        values[name] = frozenset().union(*(each.values.get(column, frozenset()) for each, column in behind))
        models[name] = frozenset().union(*(each.models.get(column, frozenset()) for each, column in behind))
    lower = {name.lower(): each for name, each in made.items()}
    rows: Origins = frozenset().union(
        *(made[relation].values.get(column.lower(), frozenset()) for relation, column in needs.rows),
        *(lower[read.lower()].rows for read in reads),
    )
    return _Made(values, models, rows)
