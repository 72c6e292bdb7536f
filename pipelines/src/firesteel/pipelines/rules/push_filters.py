"""Filter push-down: conditions that every row of a source must fulfil to matter are asked where it is read.

They stay in the SQL, so that the result cannot depend on them. Spark's own scan skips row groups and files by them; the
plan shows them, and partitions are pruned by them. A relation that a gate looks at is read whole, and one that is read
twice may matter in two ways: neither is touched. Conditions never pass an outer join to the side it fills with nulls.
"""

from __future__ import annotations

from dataclasses import replace

from firesteel.pipelines.rules.logical_plan import LogicalPlan
from firesteel.pipelines.sql.predicates import Predicate


def push_filters(logical: LogicalPlan) -> tuple[LogicalPlan, tuple[str, ...]]:
    """From the last step to the first: a condition on a step that only copies the column goes on to what it reads."""
    analysis = logical.analysis
    reads = logical.reads()
    left_alone = logical.watched | {sink.from_ for sink in logical.spec.sinks.values()}
    asked: dict[str, dict[Predicate, None]] = {}
    for step in reversed(analysis.order):
        needs = analysis.needs.get(step)
        if needs is None:  # a score step: a row that the model fails on must not vanish before it is counted
            continue
        own = list(needs.conditions)
        for predicate in asked.get(step, {}):
            origins = {name: needs.through.get(name) for name in predicate.columns}
            relations = {origin[0] for origin in origins.values() if origin}
            if all(origins.values()) and len(relations) == 1:
                names = {name: origin[1] for name, origin in origins.items() if origin}
                own.append(predicate.moved(relations.pop(), names))
        for predicate in own:
            if reads[predicate.relation] == 1 and predicate.relation not in left_alone:
                asked.setdefault(predicate.relation, {})[predicate] = None
    effects = []
    for scan in logical.scans:
        filters = tuple(predicate.sql for predicate in asked.get(scan.source, {}))
        if filters:
            logical = logical.with_scan(replace(scan, filters=filters))
            effects.append(f"{scan.source}: {' AND '.join(filters)}")
    return logical, tuple(effects)
