"""Challengers of a plan: pinned as models are, and never in the way of the champion.

A challenger whose scores are published makes rows: what is wrong with it is an error, and its bytes are in the plan's hash. One that only
stands beside does not: what is wrong with it is written into the plan, the run goes without it and says so; and a run that was done is
not done again for its sake.
"""

from __future__ import annotations

from dataclasses import replace

from firesteel.conf.errors import FiresteelError, ModelError
from firesteel.pipelines.analysis import Analysis, challenger_outputs_of
from firesteel.pipelines.backend import Backend
from firesteel.pipelines.plan.model import ChallengerPlan, ModelPlan, ScoreStepPlan, StepPlan
from firesteel.pipelines.planner.signature import Features, features_of
from firesteel.pipelines.spec.load import LoadedSpec
from firesteel.pipelines.spec.model import Score, ScoreStep, Spec


def with_challengers(
    loaded: LoadedSpec, analysis: Analysis, steps: tuple[StepPlan, ...], backend: Backend, errors: list[FiresteelError]
) -> tuple[StepPlan, ...]:
    """The steps with their models' challengers, pinned.

    Parameters
    ----------
    errors
        What is wrong with challengers that are published is added here.
    """
    return tuple(
        replace(step, challenger=_challenger(loaded, analysis, step, backend, errors))
        if isinstance(step, ScoreStepPlan)
        else step
        for step in steps
    )


def unpinned_challengers(spec: Spec, steps: tuple[StepPlan, ...]) -> tuple[StepPlan, ...]:
    """The steps with what the spec says of challengers, for a sketch."""
    return tuple(
        replace(step, challenger=_said(spec, _score(spec, step.name))) if isinstance(step, ScoreStepPlan) else step
        for step in steps
    )


def published_challengers(steps: tuple[StepPlan, ...]) -> list[ModelPlan]:
    """Those that make rows, by names of their own."""
    found = (step.challenger for step in steps if isinstance(step, ScoreStepPlan))
    return [
        replace(each.pinned, name=f"{each.pinned.name} challenger")
        for each in found
        if each is not None and each.outputs and each.pinned is not None
    ]


def _challenger(
    loaded: LoadedSpec, analysis: Analysis, step: ScoreStepPlan, backend: Backend, errors: list[FiresteelError]
) -> ChallengerPlan | None:
    spec = loaded.spec
    said = _said(spec, _score(spec, step.name))
    if said is None:
        return None
    model = spec.models[step.model]
    where = loaded.tree.nearest(("models", step.model, "challenger")).where
    wrong: list[FiresteelError] = []
    try:
        asked = model.model_copy(update={"uri": said.uri, "challenger": None})
        pinned = backend.resolve_model(step.model, asked, spec.tracking.mlflow.uri, where)
    except ModelError as error:
        wrong.append(error)
        pinned = None
    features = Features(step.features, step.feature_names)
    if pinned is not None:
        features = features_of(_score(spec, step.name), analysis, pinned, where, wrong)
    if not wrong:
        return replace(said, pinned=pinned, features=features.columns, feature_names=features.names)
    if said.outputs:
        errors += wrong
    return replace(said, error=str(wrong[0]))


def _said(spec: Spec, score: Score) -> ChallengerPlan | None:
    challenger = spec.models[score.model].challenger
    if challenger is None:
        return None
    return ChallengerPlan(challenger.uri, None, challenger.tolerance, outputs=challenger_outputs_of(score))


def _score(spec: Spec, name: str) -> Score:
    step = spec.steps[name]
    assert isinstance(step, ScoreStep)  # it is what the plan's step was made of
    return step.score
