"""The rows of one relation for one interval, as a run would compute them. Gates are not evaluated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from firesteel.conf.errors import SpecError
from firesteel.jobs.run.scoring import score_spec
from firesteel.jobs.spark.lower import make_view, read_sources
from firesteel.jobs.tracking.registry import fetch_pinned
from firesteel.pipelines.plan.model import ScoreStepPlan
from firesteel.pipelines.spec.refs import did_you_mean
from firesteel.udfs.model import ModelRef, distribute_model
from firesteel.udfs.score import score

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from firesteel.pipelines.plan.model import Plan
    from firesteel.udfs.score import ScoredFrame

_SEED = 0
"""Of every sample: the same plan and fraction give the same rows, as long as Spark reads the files in the same partitions."""


@dataclass(frozen=True, slots=True)
class Preview:
    """The rows of a relation; `scored` counts the model's rows after an action, where the relation needs the model."""

    frame: DataFrame
    scored: ScoredFrame | None


def preview(session: SparkSession, plan: Plan, relation: str, sample: float | None = None) -> Preview:
    """Return the rows of a source or step for the plan's first interval.

    Parameters
    ----------
    session
        A session of the plan's own, as `open_session` gives it: views of the plan's sources and steps are made in it.
    sample
        The fraction of rows to take: of the score step's input where the relation needs scores, else of the relation.

    Raises
    ------
    SpecError
        FS1010 when the plan has no such source or step.
    """
    needed = _needed(plan, relation)
    interval = plan.intervals[0]
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
    folder = fetch_pinned(model, plan.tracking.uri)
    archive = distribute_model(session, folder, model.digest)
    spec = score_spec(step, ModelRef(model.name, model.digest, archive, model.method))
    return score(_sampled(session.table(step.input), sample), spec)


def _sampled(frame: DataFrame, fraction: float | None) -> DataFrame:
    return frame if fraction is None else frame.sample(fraction, _SEED)
