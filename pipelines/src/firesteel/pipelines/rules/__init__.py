"""The optimizer: rules that rewrite scans and stages without a change of the result, one rule per module.

A rule returns a new logical plan and descriptions of its changes; `firesteel explain --rules` shows them. `RULES` defines the order:
the pushed filters prune partitions.
"""

from __future__ import annotations

from typing import Protocol

from firesteel.pipelines.plan.model import RuleEffect
from firesteel.pipelines.rules.fuse_steps import fuse_steps
from firesteel.pipelines.rules.logical_plan import LogicalPlan, Scan, first_logical_plan
from firesteel.pipelines.rules.prune_columns import prune_columns
from firesteel.pipelines.rules.prune_partitions import prune_partitions
from firesteel.pipelines.rules.push_filters import push_filters

__all__ = ["RULES", "LogicalPlan", "Rule", "Scan", "first_logical_plan", "optimize"]


class Rule(Protocol):
    """A rewrite of a logical plan."""

    __name__: str

    def __call__(self, logical: LogicalPlan) -> tuple[LogicalPlan, tuple[str, ...]]:
        """Return the new logical plan, and a phrase for each change."""


RULES: tuple[Rule, ...] = (push_filters, prune_partitions, prune_columns, fuse_steps)


def optimize(logical: LogicalPlan) -> tuple[LogicalPlan, tuple[RuleEffect, ...]]:
    """Return the plan after all rules, applied once in order, and their effects."""
    effects = []
    for rule in RULES:
        logical, did = rule(logical)
        effects.append(RuleEffect(rule.__name__, did))
    return logical, tuple(effects)
