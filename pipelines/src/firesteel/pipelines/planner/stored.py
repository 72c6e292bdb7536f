"""Compare a stored plan with the spec that a user runs: others may be able to write where the plan is stored.

A plan contains SQL, paths, models and settings. A command that reads one from the storage, as `backfill --resume` does, must run the spec
that its user names, with the pinned inputs and model versions, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from firesteel.conf.errors import PlanDrift, Where
from firesteel.pipelines.plan.model import ModelPlan, Plan, ScoreStepPlan, StepPlan
from firesteel.pipelines.plan.security import security_conf
from firesteel.pipelines.planner.resources import spark_conf
from firesteel.pipelines.spec.load import LoadedSpec

_EQUAL = (
    "pipeline",
    "profile",
    "storage",
    "gates",
    "tracking",
    "master",
    "security",
    "signing_key",
    "batch_concurrency",
)


def check_matches(plan: Plan, loaded: LoadedSpec, sketch: Plan) -> None:
    """Check that a plan from the storage is one of this spec. Inputs, model versions and the number of executors may differ.

    Parameters
    ----------
    sketch
        The plan of the spec without models and data; see `Pipeline.sketch`.

    Raises
    ------
    PlanDrift
        FS6005 naming the first part that differs.
    """
    for part in _differences(plan, loaded, sketch):
        raise PlanDrift(
            "FS6005",
            f"the stored plan does not match the spec: {part} differs. One of them was changed. Nothing was run.",
            where=Where(plan.file.name if plan.file else "the plan"),
            hint="Run without --resume and --part to make a new plan. Intervals that are published with an equal plan are skipped.",
        )


def _differences(plan: Plan, loaded: LoadedSpec, expected: Plan) -> Iterator[str]:
    yield from (name for name in _EQUAL if getattr(plan, name) != getattr(expected, name))
    spec = loaded.spec
    sinks = {sink.name: replace(sink, columns=()) for sink in expected.sinks}
    if sinks != {sink.name: replace(sink, columns=()) for sink in plan.sinks}:
        yield "sinks"
    sources = {source.name: replace(source, columns=(), read=(), filters=()) for source in expected.sources}
    for source in plan.sources:
        if replace(source, columns=(), read=(), filters=()) != sources.get(source.name):
            yield f"sources.{source.name}"
    if [_declared(step) for step in plan.steps] != [_declared(step) for step in expected.steps]:
        yield "steps"
    if {model.name for model in plan.models} != spec.models.keys():
        yield "models"
    pinned = [(model, spec.models[model.name].uri) for model in plan.models if model.name in spec.models]
    for step in plan.steps:
        challenger = step.challenger if isinstance(step, ScoreStepPlan) else None
        if challenger is not None and challenger.pinned is not None:
            pinned.append((replace(challenger.pinned, name=step.model), challenger.uri))  # type: ignore[union-attr]
    yield from (f"models.{model.name}" for model, uri in pinned if not _is_of_spec(model, uri, loaded))
    file_bytes = next((sink.file_bytes for sink in expected.sinks), None)
    configured = spark_conf(
        spec.resources, security_conf(spec), plan.resources, spec.workers, file_bytes, spec.interval.batch_concurrency
    )
    if plan.spark_conf != configured:
        yield "configuration"


def _declared(step: StepPlan) -> object:
    """Return what the spec says about a step. The rest comes from the model's signature and the data."""
    if not isinstance(step, ScoreStepPlan):
        return replace(step, columns=())
    challenger = step.challenger
    published = challenger and (challenger.uri, challenger.tolerance, challenger.outputs)
    return (step.name, step.input, step.model, step.keep, step.outputs, step.on_error, published)


def _is_of_spec(model: ModelPlan, uri: str, loaded: LoadedSpec) -> bool:
    declared = loaded.spec.models.get(model.name)
    return (
        declared is not None
        and (model.uri, model.method, model.skops_types) == (uri, declared.method, declared.trust.skops_types)
        and model.format in declared.trust.formats
        and model.size_bytes <= declared.trust.max_size
    )
