"""Prune partitions: skip directories that a pushed condition excludes.

The rule uses only conditions that list text values (`=`, `IN`), and none on columns that hold the interval, because the readiness of an
interval must not depend on SQL. The directories that a rerun replaces do not change.
"""

from __future__ import annotations

from dataclasses import replace

from firesteel.pipelines.plan.intervals import names_interval
from firesteel.pipelines.rules.logical_plan import LogicalPlan
from firesteel.pipelines.spec.values import parse_column_type
from firesteel.pipelines.sql.predicates import Predicate

_TEXT = {"string", "date"}
"""Types with a unique text for each value; for int, `month=06` and `month=6` are the same value."""


def prune_partitions(logical: LogicalPlan) -> tuple[LogicalPlan, tuple[str, ...]]:
    """Return the plan with scans of only the partition values that satisfy all conditions."""
    effects = []
    for scan in logical.scans:
        source = logical.spec.sources[scan.source]
        only: dict[str, tuple[str, ...]] = {}
        for column, text in source.partitions.items():
            kind = parse_column_type(text)[0]
            of_interval = column in source.select and names_interval(source.select[column])
            if column == logical.spec.interval.column or of_interval or kind not in _TEXT:
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
