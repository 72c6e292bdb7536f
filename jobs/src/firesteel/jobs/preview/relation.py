"""Compute the rows of one relation for one interval, as a run does. Gates are not evaluated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from firesteel.conf.errors import SpecError
from firesteel.jobs.run.models import distribute
from firesteel.jobs.run.scoring import score_spec
from firesteel.jobs.spark.lower import make_view, read_sources
from firesteel.jobs.tracking.registry import fetch_pinned
from firesteel.pipelines.plan.model import ScoreStepPlan
from firesteel.pipelines.plan.security import held_to_security
from firesteel.pipelines.publish.state_store import StateStore
from firesteel.pipelines.spec.refs import did_you_mean
from firesteel.udfs.score import score

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from firesteel.pipelines.plan.model import Plan
    from firesteel.udfs.score import ScoredFrame

_SEED = 0
"""The seed of samples. The same plan and fraction give the same rows while Spark reads the files in the same partitions."""


@dataclass(frozen=True, slots=True)
class Preview:
    """The rows of a relation. `scored` has the counts of the model after an action; None if the relation needs no model."""

    frame: DataFrame
    scored: ScoredFrame | None


@held_to_security
def preview(session: SparkSession, plan: Plan, relation: str, sample: float | None = None) -> Preview:
    """Return the rows of a source or step for the plan's last interval.

    Parameters
    ----------
    session
        A session of `open_session`. It gets a view of each source and of each step that the relation needs.
    sample
        The fraction of rows to take. If the relation needs scores, the input of the score step is sampled; otherwise, the relation.

    Raises
    ------
    SpecError
        FS1010 when the plan has no such source or step.
    """
    needed = _needed(plan, relation)
    interval = plan.intervals[-1]  # a spec with `lookback` plans the intervals before it, too
    scored: ScoredFrame | None = None
    read_sources(session, plan, interval)
    for step in plan.steps:
        if step.name not in needed:
            continue
        if isinstance(step, ScoreStepPlan):
            scored = _score(session, plan, step, sample)
            scored.df.createOrReplaceTempView(step.name)
        else:
            make_view(session, step, interval)
    frame = session.table(relation)
    return Preview(frame if scored is not None else _sampled(frame, sample), scored)


def _needed(plan: Plan, relation: str) -> set[str]:
    """Return the relation and the steps and sources that it reads, directly or not."""
    reads = {step.name: (step.input,) if isinstance(step, ScoreStepPlan) else step.reads for step in plan.steps}
    known = (*reads, *(source.name for source in plan.sources))
    if relation not in known:
        raise SpecError(
            "FS1010",
            f"{plan.pipeline} has no step or source `{relation}`.",
            hint=did_you_mean(relation, known) or f"There are: {', '.join(known)}.",
        )
    needed, pending = set(), [relation]
    while pending:
        name = pending.pop()
        needed.add(name)
        pending += reads.get(name, ())
    return needed


def _score(session: SparkSession, plan: Plan, step: ScoreStepPlan, sample: float | None) -> ScoredFrame:
    model = next(model for model in plan.models if model.name == step.model)
    folder = fetch_pinned(model, plan.tracking.uri, StateStore.of(plan))
    spec = score_spec(step, distribute(session, model, folder))
    return score(_sampled(session.table(step.input), sample), spec)


def _sampled(frame: DataFrame, fraction: float | None) -> DataFrame:
    return frame if fraction is None else frame.sample(fraction, _SEED)
