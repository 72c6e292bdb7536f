"""Rules: small rewrites of how a pipeline is read and grouped, one a file. None changes what the pipeline means.

A rule takes a logical and gives a logical, and says in words what it did; `firesteel explain --rules` shows them. Their order
is that of `RULES`: partitions are pruned by the filters that were pushed.
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
    """One rewrite."""

    __name__: str

    def __call__(self, logical: LogicalPlan) -> tuple[LogicalPlan, tuple[str, ...]]:
        """The logical after it, and what it did, a phrase each."""


RULES: tuple[Rule, ...] = (push_filters, prune_partitions, prune_columns, fuse_steps)


def optimize(logical: LogicalPlan) -> tuple[LogicalPlan, tuple[RuleEffect, ...]]:
    """Apply all rules once, in order."""
    effects = []
    for rule in RULES:
        logical, did = rule(logical)
        effects.append(RuleEffect(rule.__name__, did))
    return logical, tuple(effects)
