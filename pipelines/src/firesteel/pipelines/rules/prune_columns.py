"""Prune columns: read only the columns on which a sink, a model or a gate depends."""

from __future__ import annotations

from dataclasses import replace

from firesteel.pipelines.rules.logical_plan import LogicalPlan


def prune_columns(logical: LogicalPlan) -> tuple[LogicalPlan, tuple[str, ...]]:
    """Return the plan with scans of only the needed columns."""
    needed = needed_columns(logical)
    effects = []
    for scan in logical.scans:
        used = needed[scan.source]
        not_null = {column.name for column in logical.analysis.relations[scan.source] if not column.nullable}
        read = tuple(column for column in scan.read if column in used or column in not_null)
        pruned = [column for column in scan.read if column not in read]
        if pruned:
            logical = logical.with_scan(replace(scan, read=read))
            effects.append(f"{scan.source}: {len(read)} of {len(scan.read)} columns, without {', '.join(pruned)}")
    return logical, tuple(effects)


def needed_columns(logical: LogicalPlan) -> dict[str, set[str]]:
    """Return relation -> its needed columns, from the sinks back to the sources."""
    analysis = logical.analysis
    needed: dict[str, set[str]] = {name: set() for name in analysis.relations}
    for sink in logical.spec.sinks.values():
        needed[sink.from_] |= _all(logical, sink.from_)
    for gate in logical.spec.gates.values():
        if gate.on in needed:
            named = {str(value) for expect in gate.expect for value in _scalars(expect.arguments)}
            needed[gate.on] |= named & _all(logical, gate.on)
            if gate.on in logical.spec.sources and any(expect.excludes_rows for expect in gate.expect):
                # The key identifies a quarantined row in its source.
                needed[gate.on] |= set(logical.spec.sources[gate.on].key) & _all(logical, gate.on)
    for step in reversed(analysis.order):
        score = logical.score(step)
        if score is not None:
            features = logical.features.get(step)
            columns = _all(logical, score.input)
            used = columns if features is None else {*features, *logical.challengers.get(step, ()), *score.keep}
            lower = {column.lower() for column in used}
            needed[score.input] |= {column for column in columns if column.lower() in lower}
        elif step in analysis.needs:
            outputs = frozenset(column.lower() for column in needed[step])
            for relation, column in analysis.needs[step].of(outputs):
                needed[relation].add(column)
        else:  # a step over a source whose columns are still unknown
            for relation in analysis.selects[step].reads:
                needed[relation] |= _all(logical, relation)
    return needed


def _all(logical: LogicalPlan, relation: str) -> set[str]:
    return {column.name for column in logical.analysis.relations[relation]}


def _scalars(value: object) -> list[object]:
    """Return all scalar values in an expectation's arguments, which include the names of columns."""
    if isinstance(value, dict):
        return [scalar for item in value.values() for scalar in _scalars(item)]
    if isinstance(value, list | tuple):
        return [scalar for item in value for scalar in _scalars(item)]
    return [value]
