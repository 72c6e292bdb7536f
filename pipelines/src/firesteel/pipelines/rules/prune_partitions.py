"""Partition pruning: directories whose value a pushed condition rules out are not listed and not read.

Only conditions that list text values (`=`, `IN`) are used, and never on the interval's own column: whether an interval
is there and ready must not depend on SQL. What a rerun replaces does not change.
"""

from __future__ import annotations

from dataclasses import replace

from firesteel.pipelines.rules.logical_plan import LogicalPlan
from firesteel.pipelines.spec.values import parse_column_type
from firesteel.pipelines.sql.predicates import Predicate

_TEXT = {"string", "date"}
"""Types whose values are written in one way only. `month=06` and `month=6` are the same int."""


def prune_partitions(logical: LogicalPlan) -> tuple[LogicalPlan, tuple[str, ...]]:
    """Intersect the values of all conditions on a partition column."""
    effects = []
    for scan in logical.scans:
        source = logical.spec.sources[scan.source]
        only: dict[str, tuple[str, ...]] = {}
        for column, text in source.partitions.items():
            kind = parse_column_type(text)[0]
            if column == logical.spec.interval.column or kind not in _TEXT:
                continue
            for sql in scan.filters:
                values = Predicate(scan.source, sql).values(column, kind)
                if values is not None:
                    before = only.get(column, values)
                    only[column] = tuple(value for value in before if value in values)
        if only:
            logical = logical.with_scan(replace(scan, only=tuple(only.items())))
            effects += [f"{scan.source}: only {column}={'|'.join(values)}" for column, values in only.items()]
    return logical, tuple(effects)
