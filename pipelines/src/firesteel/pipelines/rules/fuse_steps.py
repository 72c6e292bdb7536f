"""Fuse steps: run steps that process row by row in one stage.

A step joins the stage of its input unless it needs a shuffle (join, group, sort). A score step is always in the stage of its input.
Distributing rows over a sink's partitions starts a new stage.
"""

from __future__ import annotations

from dataclasses import replace

from firesteel.pipelines.plan.model import StagePlan
from firesteel.pipelines.rules.logical_plan import LogicalPlan


def fuse_steps(logical: LogicalPlan) -> tuple[LogicalPlan, tuple[str, ...]]:
    """Return the plan with fused stages. A step that two others read is computed in the stage of each."""
    stages: list[StagePlan] = []
    stage_of: dict[str, int] = {}
    for stage in logical.stages:
        (step,) = stage.steps
        needs = logical.analysis.needs.get(step)
        reads = _reads(logical, step)
        exchanges = (*stage.exchanges, *(needs.exchanges if needs else ()))
        before = stage_of.get(reads[0]) if len(reads) == 1 else None
        if before is not None and not exchanges:
            stages[before] = replace(stages[before], steps=(*stages[before].steps, step))
            stage_of[step] = before
        else:
            stage_of[step] = len(stages)
            stages.append(StagePlan((step,), exchanges))
    fused = [stage for stage in stages if len(stage.steps) > 1]
    return replace(logical, stages=tuple(stages)), tuple(" + ".join(stage.steps) for stage in fused)


def _reads(logical: LogicalPlan, step: str) -> tuple[str, ...]:
    if step.startswith("sink:"):
        return (logical.spec.sinks[step.removeprefix("sink:")].from_,)
    score = logical.score(step)
    return (score.input,) if score else logical.analysis.selects[step].reads
