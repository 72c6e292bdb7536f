"""Column pruning: only what reaches a sink, a model or a gate, or decides which rows do, is read from the files."""

from __future__ import annotations

from dataclasses import replace

from firesteel.pipelines.rules.logical_plan import LogicalPlan


def prune_columns(logical: LogicalPlan) -> tuple[LogicalPlan, tuple[str, ...]]:
    """From the sinks back to the sources, by the dependencies of each step's columns."""
    needed = needed_columns(logical)
    effects = []
    for scan in logical.scans:
        wanted = needed[scan.source]
        promised = {column.name for column in logical.analysis.relations[scan.source] if not column.nullable}
        read = tuple(column for column in scan.read if column in wanted or column in promised)
        left = [column for column in scan.read if column not in read]
        if left:
            logical = logical.with_scan(replace(scan, read=read))
            effects.append(f"{scan.source}: {len(read)} of {len(scan.read)} columns, without {', '.join(left)}")
    return logical, tuple(effects)


def needed_columns(logical: LogicalPlan) -> dict[str, set[str]]:
    """Relation -> its columns that something needs."""
    analysis = logical.analysis
    needed: dict[str, set[str]] = {name: set() for name in analysis.relations}
    for sink in logical.spec.sinks.values():
        needed[sink.from_] |= _all(logical, sink.from_)
    for gate in logical.spec.gates.values():
        if gate.on in needed:
            named = {str(value) for expect in gate.expect for value in _words(expect.arguments)}
            needed[gate.on] |= named & _all(logical, gate.on)
            if gate.on in logical.spec.sources and any(expect.excludes_rows for expect in gate.expect):
                # A quarantined row has all columns, so that it can be found in its source.
                needed[gate.on] |= set(logical.spec.sources[gate.on].key) & _all(logical, gate.on)
    for step in reversed(analysis.order):
        score = logical.score(step)
        if score is not None:
            features = logical.features.get(step)
            columns = _all(logical, score.input)
            wanted = columns if features is None else {*features, *logical.challengers.get(step, ()), *score.keep}
            lower = {column.lower() for column in wanted}
            needed[score.input] |= {column for column in columns if column.lower() in lower}
        elif step in analysis.needs:
            wanted = {column.lower() for column in needed[step]}
            for relation, column in analysis.needs[step].of(frozenset(wanted)):
                needed[relation].add(column)
        else:  # a step over a source whose columns are not known yet
            for relation in analysis.selects[step].reads:
                needed[relation] |= _all(logical, relation)
    return needed


def _all(logical: LogicalPlan, relation: str) -> set[str]:
    return {column.name for column in logical.analysis.relations[relation]}


def _words(value: object) -> list[object]:
    """All plain values in an expectation's arguments: one of them may be a column's name."""
    if isinstance(value, dict):
        return [word for each in value.values() for word in _words(each)]
    if isinstance(value, list | tuple):
        return [word for each in value for word in _words(each)]
    return [value]
