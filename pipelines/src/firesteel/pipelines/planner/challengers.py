"""Pin the challengers of a plan.

A challenger whose scores are published produces columns: its errors are errors of the plan, and its digest is part of the plan's
hash. The errors of an unpublished challenger are recorded in the plan; the run continues without it and reports it. An unpublished
challenger does not change the hash, so completed intervals are not scored again.
"""

from __future__ import annotations

from dataclasses import replace

from firesteel.conf.errors import FiresteelError, ModelError
from firesteel.pipelines.analysis import Analysis, challenger_outputs_of
from firesteel.pipelines.plan.model import ChallengerPlan, ModelPlan, ScoreStepPlan, StepPlan
from firesteel.pipelines.planner.models import ModelPinner
from firesteel.pipelines.planner.signature import Features, features_of
from firesteel.pipelines.spec.load import LoadedSpec
from firesteel.pipelines.spec.model import Score, ScoreStep, Spec


def with_challengers(
    loaded: LoadedSpec, analysis: Analysis, steps: tuple[StepPlan, ...], pin: ModelPinner, errors: list[FiresteelError]
) -> tuple[StepPlan, ...]:
    """Return the steps with pinned challengers.

    Parameters
    ----------
    errors
        Errors of published challengers are added to this list.
    """
    return tuple(
        replace(step, challenger=_challenger(loaded, analysis, step, pin, errors))
        if isinstance(step, ScoreStepPlan)
        else step
        for step in steps
    )


def unpinned_challengers(spec: Spec, steps: tuple[StepPlan, ...]) -> tuple[StepPlan, ...]:
    """Return the steps with the challengers of the spec, not pinned, for a sketch."""
    return tuple(
        replace(step, challenger=_unpinned(spec, _score(spec, step.name))) if isinstance(step, ScoreStepPlan) else step
        for step in steps
    )


def published_challengers(steps: tuple[StepPlan, ...]) -> list[ModelPlan]:
    """Return the pinned challengers whose scores are published, with names of their own."""
    challengers = (step.challenger for step in steps if isinstance(step, ScoreStepPlan))
    return [
        replace(challenger.pinned, name=f"{challenger.pinned.name} challenger")
        for challenger in challengers
        if challenger is not None and challenger.outputs and challenger.pinned is not None
    ]


def _challenger(
    loaded: LoadedSpec, analysis: Analysis, step: ScoreStepPlan, pin: ModelPinner, errors: list[FiresteelError]
) -> ChallengerPlan | None:
    spec = loaded.spec
    unpinned = _unpinned(spec, _score(spec, step.name))
    if unpinned is None:
        return None
    model = spec.models[step.model]
    where = loaded.tree.nearest(("models", step.model, "challenger")).where
    problems: list[FiresteelError] = []
    try:
        requested = model.model_copy(update={"uri": unpinned.uri, "challenger": None})
        pinned = pin(step.model, requested, where)
    except ModelError as error:
        problems.append(error)
        pinned = None
    features = Features(step.features, step.feature_names)
    if pinned is not None:
        features = features_of(_score(spec, step.name), analysis, pinned, where, problems)
    if not problems:
        return replace(unpinned, pinned=pinned, features=features.columns, feature_names=features.names)
    if unpinned.outputs:
        errors += problems
    return replace(unpinned, error=str(problems[0]))


def _unpinned(spec: Spec, score: Score) -> ChallengerPlan | None:
    challenger = spec.models[score.model].challenger
    if challenger is None:
        return None
    return ChallengerPlan(challenger.uri, None, challenger.tolerance, outputs=challenger_outputs_of(score))


def _score(spec: Spec, name: str) -> Score:
    step = spec.steps[name]
    assert isinstance(step, ScoreStep)  # the plan's score steps come from the spec's
    return step.score
