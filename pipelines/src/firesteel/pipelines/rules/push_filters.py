"""Push filters down: apply conditions that every used row of a source must satisfy in its scan.

The conditions also stay in the SQL, so the result does not depend on this rule. Spark's scan skips row groups and files with them, and
`prune_partitions` uses them. The rule skips relations that a gate checks, because all of their rows are needed, and relations that
several steps read. A condition is never pushed through an outer join to the side that it fills with nulls.
"""

from __future__ import annotations

from dataclasses import replace

from firesteel.pipelines.rules.logical_plan import LogicalPlan
from firesteel.pipelines.sql.predicates import Predicate


def push_filters(logical: LogicalPlan) -> tuple[LogicalPlan, tuple[str, ...]]:
    """Return the plan with filters in its scans, from the last step to the first."""
    analysis = logical.analysis
    reads = logical.reads()
    excluded = logical.watched | {sink.from_ for sink in logical.spec.sinks.values()}
    pushed: dict[str, dict[Predicate, None]] = {}
    for step in reversed(analysis.order):
        needs = analysis.needs.get(step)
        if needs is None:  # a score step: rows that fail to score must be counted
            continue
        own = list(needs.conditions)
        for predicate in pushed.get(step, {}):
            origins = {name: needs.through.get(name) for name in predicate.columns}
            relations = {origin[0] for origin in origins.values() if origin}
            if all(origins.values()) and len(relations) == 1:
                names = {name: origin[1] for name, origin in origins.items() if origin}
                own.append(predicate.moved(relations.pop(), names))
        for predicate in own:
            if reads[predicate.relation] == 1 and predicate.relation not in excluded:
                pushed.setdefault(predicate.relation, {})[predicate] = None
    effects = []
    for scan in logical.scans:
        filters = tuple(predicate.sql for predicate in pushed.get(scan.source, {}))
        if filters:
            logical = logical.with_scan(replace(scan, filters=filters))
            effects.append(f"{scan.source}: {' AND '.join(filters)}")
    return logical, tuple(effects)
