"""Rules: small rewrites of how a pipeline is read and grouped, one a file. None changes what the pipeline means.

A rule takes a draft and gives a draft, and says in words what it did; `firesteel explain --rules` shows them. Their order
is that of `RULES`: partitions are pruned by the filters that were pushed.
"""

from __future__ import annotations

from typing import Protocol

from firesteel.pipelines.plan.model import RuleEffect
from firesteel.pipelines.rules.draft import Draft, Scan, first_draft
from firesteel.pipelines.rules.fuse_steps import fuse_steps
from firesteel.pipelines.rules.prune_columns import prune_columns
from firesteel.pipelines.rules.prune_partitions import prune_partitions
from firesteel.pipelines.rules.push_filters import push_filters

__all__ = ["RULES", "Draft", "Rule", "Scan", "first_draft", "optimize"]


class Rule(Protocol):
    """One rewrite."""

    __name__: str

    def __call__(self, draft: Draft) -> tuple[Draft, tuple[str, ...]]:
        """The draft after it, and what it did, a phrase each."""


RULES: tuple[Rule, ...] = (push_filters, prune_partitions, prune_columns, fuse_steps)


def optimize(draft: Draft) -> tuple[Draft, tuple[RuleEffect, ...]]:
    """Apply all rules once, in order."""
    effects = []
    for rule in RULES:
        draft, did = rule(draft)
        effects.append(RuleEffect(rule.__name__, did))
    return draft, tuple(effects)
