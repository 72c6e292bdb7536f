"""Column pruning: only what reaches a sink, a model or a gate, or decides which rows do, is read from the files."""

from __future__ import annotations

from dataclasses import replace

from firesteel.pipelines.rules.draft import Draft


def prune_columns(draft: Draft) -> tuple[Draft, tuple[str, ...]]:
    """From the sinks back to the sources, by the dependencies of each step's columns."""
    needed = needed_columns(draft)
    effects = []
    for scan in draft.scans:
        wanted = needed[scan.source]
        promised = {column.name for column in draft.logical.relations[scan.source] if not column.nullable}
        read = tuple(column for column in scan.read if column in wanted or column in promised)
        left = [column for column in scan.read if column not in read]
        if left:
            draft = draft.with_scan(replace(scan, read=read))
            effects.append(f"{scan.source}: {len(read)} of {len(scan.read)} columns, without {', '.join(left)}")
    return draft, tuple(effects)


def needed_columns(draft: Draft) -> dict[str, set[str]]:
    """Relation -> its columns that something needs."""
    logical = draft.logical
    needed: dict[str, set[str]] = {name: set() for name in logical.relations}
    for sink in draft.spec.sinks.values():
        needed[sink.from_] |= _all(draft, sink.from_)
    for gate in draft.spec.gates.values():
        if gate.on in needed:
            named = {str(value) for expect in gate.expect for value in _words(expect.arguments)}
            needed[gate.on] |= named & _all(draft, gate.on)
            if gate.on in draft.spec.sources and any(expect.excludes_rows for expect in gate.expect):
                # A quarantined row has all columns, so that it can be found in its source.
                needed[gate.on] |= set(draft.spec.sources[gate.on].key) & _all(draft, gate.on)
    for step in reversed(logical.order):
        score = draft.score(step)
        if score is not None:
            features = draft.features.get(step)
            columns = _all(draft, score.input)
            wanted = columns if features is None else {*features, *draft.rivals.get(step, ()), *score.keep}
            lower = {column.lower() for column in wanted}
            needed[score.input] |= {column for column in columns if column.lower() in lower}
        elif step in logical.needs:
            wanted = {column.lower() for column in needed[step]}
            for relation, column in logical.needs[step].of(frozenset(wanted)):
                needed[relation].add(column)
        else:  # a step over a source whose columns are not known yet
            for relation in logical.selects[step].reads:
                needed[relation] |= _all(draft, relation)
    return needed


def _all(draft: Draft, relation: str) -> set[str]:
    return {column.name for column in draft.logical.relations[relation]}


def _words(value: object) -> list[object]:
    """All plain values in an expectation's arguments: one of them may be a column's name."""
    if isinstance(value, dict):
        return [word for each in value.values() for word in _words(each)]
    if isinstance(value, list | tuple):
        return [word for each in value for word in _words(each)]
    return [value]
