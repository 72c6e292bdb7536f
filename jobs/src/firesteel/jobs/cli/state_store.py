"""Open the state store of a spec, and update MLflow from it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from firesteel.conf.errors import SpecErrors
from firesteel.pipelines.plan.security import held_to_security

if TYPE_CHECKING:
    from firesteel.jobs.tracking.settle import Settled
    from firesteel.pipelines.publish.transaction import StateStore
    from firesteel.pipelines.spec.load import LoadedSpec


def open_state_store(spec: Path, profile: str, params: dict[str, str]) -> tuple[LoadedSpec, StateStore]:
    """Return the loaded spec and its state store. Raise SpecErrors if the spec has errors."""
    from firesteel.pipelines.publish.transaction import StateStore
    from firesteel.pipelines.spec.load import load_spec

    loaded = load_spec(spec, profile=profile, params=params)
    if loaded.errors:
        raise SpecErrors.of(list(loaded.errors))
    spec_ = loaded.spec
    return loaded, StateStore.at(spec_.storage, spec_.name, loaded.profile, spec_.security.signing_key or "")


@held_to_security
def settle(loaded: LoadedSpec, store: StateStore, *, has_limit: bool = True) -> Settled:
    """Deliver kept records to MLflow, and end the MLflow runs of dead drivers as the ledger says. Problems are warnings."""
    from firesteel.jobs.tracking.experiment import experiment_name
    from firesteel.jobs.tracking.settle import LIMIT_S, settle_runs

    mlflow = loaded.spec.tracking.mlflow
    experiment = experiment_name(mlflow.experiment, store.pipeline)
    return settle_runs(store, mlflow.uri, experiment, limit_s=LIMIT_S if has_limit else None)
