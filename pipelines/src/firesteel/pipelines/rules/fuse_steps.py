"""Fused steps: what can be done row by row while reading runs as one stage, without writing in between.

A step joins the stage of what it reads unless its rows must first be brought together (a join, a group, a sort). The
scoring is always part of the stage of its input; spreading rows over a sink's partitions begins a new one.
"""

from __future__ import annotations

from dataclasses import replace

from firesteel.pipelines.plan.model import StagePlan
from firesteel.pipelines.rules.logical_plan import LogicalPlan


def fuse_steps(logical: LogicalPlan) -> tuple[LogicalPlan, tuple[str, ...]]:
    """In the order of the steps; a step that two others read is computed in the stage of each."""
    stages: list[StagePlan] = []
    place: dict[str, int] = {}
    for stage in logical.stages:
        (step,) = stage.steps
        needs = logical.analysis.needs.get(step)
        reads = _reads(logical, step)
        exchanges = (*stage.exchanges, *(needs.exchanges if needs else ()))
        before = place.get(reads[0]) if len(reads) == 1 else None
        if before is not None and not exchanges:
            stages[before] = replace(stages[before], steps=(*stages[before].steps, step))
            place[step] = before
        else:
            place[step] = len(stages)
            stages.append(StagePlan((step,), exchanges))
    fused = [stage for stage in stages if len(stage.steps) > 1]
    return replace(logical, stages=tuple(stages)), tuple(" + ".join(stage.steps) for stage in fused)


def _reads(logical: LogicalPlan, step: str) -> tuple[str, ...]:
    if step.startswith("sink:"):
        return (logical.spec.sinks[step.removeprefix("sink:")].from_,)
    score = logical.score(step)
    return (score.input,) if score else logical.analysis.selects[step].reads
