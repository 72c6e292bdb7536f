"""Send models to the executors."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from firesteel.conf.errors import FiresteelError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from firesteel.pipelines.plan.model import ModelPlan, Plan
    from firesteel.udfs.model import ModelRef

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ChallengerModel:
    """The challenger that the executors have. `model` is None where it is not scored; `reason` then says why."""

    model: ModelRef | None = None
    reason: str = ""


NO_CHALLENGER = ChallengerModel()


def distribute(session: SparkSession, model: ModelPlan, folder: Path) -> ModelRef:
    """Send the files of a pinned model to the executors, and return the reference by which they load it."""
    from firesteel.udfs.model import ModelRef, distribute_model

    archive = distribute_model(session, folder, model.digest)
    return ModelRef(
        model.name,
        model.digest,
        archive,
        model.method,
        format=model.format,
        skops_types=model.skops_types,
        requirements=model.requirements,
    )


def distribute_models(session: SparkSession, plan: Plan, folders: Mapping[str, Path]) -> dict[str, ModelRef]:
    """Send the plan's models that have a folder to the executors."""
    return {
        model.name: distribute(session, model, folders[model.name]) for model in plan.models if model.name in folders
    }


def distribute_challenger(session: SparkSession, plan: Plan) -> ChallengerModel:
    """Send the score step's challenger to the executors. If that fails, the champion scores without it.

    Raises
    ------
    FiresteelError
        The sink publishes the challenger's scores, and the challenger cannot be loaded.
    """
    from firesteel.jobs.tracking.registry import fetch_pinned

    planned = plan.score_step.challenger if plan.score_step else None
    if planned is None or planned.pinned is None or planned.error:
        return ChallengerModel(reason=planned.error if planned else "")
    model = planned.pinned
    try:
        sent = distribute(session, model, fetch_pinned(model, plan.tracking.uri))
    except FiresteelError as error:
        if planned.outputs:
            raise
        _log.warning("the challenger of %s is not scored: %s", model.name, error)
        return ChallengerModel(reason=str(error))
    return ChallengerModel(replace(sent, name=f"{model.name} challenger"))
