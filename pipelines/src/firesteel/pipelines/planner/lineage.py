"""Column lineage: which columns of which sources a published column is made of. From the spec alone.

As in OpenLineage's column lineage facet, what a value is computed from is kept apart from what decides which rows there are.
"""

from __future__ import annotations

from dataclasses import dataclass

from firesteel.pipelines.analysis import challenger_outputs_of
from firesteel.pipelines.plan.model import ColumnLineage, RowLineage
from firesteel.pipelines.rules.draft import Draft

Origins = frozenset[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class _Made:
    values: dict[str, Origins]
    models: dict[str, frozenset[str]]
    rows: Origins


def lineage(draft: Draft) -> tuple[tuple[ColumnLineage, ...], tuple[RowLineage, ...]]:
    """The lineage of every sink's columns, in their order."""
    logical = draft.logical
    made = {
        name: _Made(
            {column.name.lower(): frozenset({(name, column.name)}) for column in logical.relations[name]},
            {},
            frozenset(),
        )
        for name in draft.spec.sources
    }
    for step in logical.order:
        made[step] = _scored(draft, step, made) if draft.score(step) else _selected(draft, step, made)
    columns, rows = [], []
    for name, sink in draft.spec.sinks.items():
        source = made[sink.from_]
        for column in logical.relations[sink.from_]:
            key = column.name.lower()
            values = source.values.get(key, frozenset())
            columns.append(
                ColumnLineage(
                    name,
                    column.name,
                    tuple(sorted(values)),
                    tuple(sorted(source.models.get(key, frozenset()))),
                    copied=values == {logical.trace(sink.from_, column.name)},
                )
            )
        rows.append(RowLineage(name, tuple(sorted(source.rows))))
    return tuple(columns), tuple(rows)


def _scored(draft: Draft, step: str, made: dict[str, _Made]) -> _Made:
    score = draft.score(step)
    assert score is not None
    before = made[score.input]

    def whole(named: tuple[str, ...] | None) -> Origins:
        features = [name.lower() for name in named] if named is not None else list(before.values)
        return frozenset().union(*(before.values.get(name, frozenset()) for name in features))

    values = {name.lower(): before.values.get(name.lower(), frozenset()) for name in score.keep}
    models = {name.lower(): before.models.get(name.lower(), frozenset()) for name in score.keep}
    features = draft.features.get(step)
    outputs = dict.fromkeys(score.output, features)
    outputs |= {each.name: draft.rivals.get(step, features) for each in challenger_outputs_of(score)}
    for output, read in outputs.items():
        values[output.lower()] = whole(read)
        models[output.lower()] = frozenset({score.model})
    return _Made(values, models, before.rows)


def _selected(draft: Draft, step: str, made: dict[str, _Made]) -> _Made:
    needs = draft.logical.needs.get(step)
    if needs is None:
        return _Made({}, {}, frozenset())
    reads = draft.logical.selects[step].reads
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
