"""Open the state store of a spec."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from firesteel.conf.errors import SpecErrors

if TYPE_CHECKING:
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
