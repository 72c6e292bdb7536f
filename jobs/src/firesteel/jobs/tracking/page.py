"""What MLflow's run page shows besides metrics and datasets: tags of the models, and the description."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from firesteel.conf.quantities import plural

if TYPE_CHECKING:
    from collections.abc import Iterable

    from firesteel.pipelines.plan.model import ModelPlan, Plan
    from firesteel.pipelines.result import RunResult


def model_tags(plan: Plan) -> dict[str, str]:
    """Return the tags by which a search finds the runs of a model version.

    `firesteel.model.NAME` is the version, `firesteel.model.NAME.registered` the model's name in the registry, and
    `firesteel.model.NAME.alias` the alias that the spec names. `NAME` is the model's name in the spec.
    A challenger has the same tags below `firesteel.challenger`.
    """
    tags: dict[str, str] = {}
    for kind, models in (("model", plan.models), ("challenger", challengers(plan))):
        for model in models:
            key = f"firesteel.{kind}.{model.name}"
            tags[key] = model.version
            if name := registered_name(model):
                tags[f"{key}.registered"] = name
                if alias := model.uri.partition("@")[2]:
                    tags[f"{key}.alias"] = alias
    return tags


def published_tag(locations: Iterable[str], partitions: Iterable[str]) -> str:
    """Return the sinks and partitions of a publish as the text of a tag, so that a search for a path finds the run."""
    return f"{' '.join(locations)}: {' '.join(partitions)}"


def registered_name(model: ModelPlan) -> str:
    """Return the model's name in the registry, or an empty string for the model of a folder."""
    if not model.resolved_uri.startswith("models:/"):
        return ""
    return model.resolved_uri.removeprefix("models:/").rpartition("/")[0]


def note(result: RunResult, plan: Plan) -> str:
    """Return the description of the run in Markdown."""
    counts = result.counts
    paths = ", ".join(f"`{sink.path}`" for sink in plan.sinks)
    published = [interval for interval in result.intervals if interval.state == "published"]
    verdict = f"**{result.state.capitalize()}**" + (f": {result.error}" if result.error else "")
    lines = [verdict]
    if published:
        partitions = sum(len(interval.partitions) for interval in published)
        lines.append(
            f"{len(published)} of {plural(len(result.intervals), 'interval')}, {plural(partitions, 'partition')} published to {paths}."
        )
    lines += [f"Model `{model.name}`: {_version(model)}." for model in plan.models]
    lines += [f"Challenger of `{model.name}`: {_version(model)}." for model in challengers(plan)]
    lines.append(
        f"{counts.rows_in:,} rows in = {counts.scored:,} scored + {counts.dead_letter:,} dead letters "
        f"+ {counts.quarantined:,} quarantined + {counts.dropped:,} dropped."
    )
    lines.append("Artifacts: `report.html` (gates, times and executors), `plan.json` (reasons) and `spec.yaml` (spec).")
    return "\n\n".join(lines)


def challengers(plan: Plan) -> list[ModelPlan]:
    """Return the pinned challenger of the score step, if there is one."""
    challenger = plan.score_step.challenger if plan.score_step else None
    return [challenger.pinned] if challenger is not None and challenger.pinned is not None else []


def _version(model: ModelPlan) -> str:
    """Return a link to the model version on the same MLflow server, or the location of a folder."""
    digest = f"SHA-256 {model.digest[:12]}"
    name = registered_name(model)
    if not name:
        return f"`{model.resolved_uri}`, {digest}"
    alias = model.uri.partition("@")[2]
    shown = f"{name} version {model.version}" + (f" (@{alias})" if alias else "")
    return f"[{shown}](#/models/{quote(name)}/versions/{model.version}), {digest}"
