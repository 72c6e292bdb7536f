"""Define firesteel's facets, which link an event to a plan, to MLflow and to a model's digest.

A test checks them against their JSON Schema in `docs/reference/lineage-facets.json`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attr
from openlineage.client.generated.base import DatasetFacet, RunFacet

from firesteel.conf.version import VERSION

if TYPE_CHECKING:
    from firesteel.pipelines.plan.model import ModelPlan

PRODUCER = f"urn:firesteel:{VERSION}"
SCHEMA = "urn:firesteel:lineage-facets:1"


@attr.define
class FiresteelRunFacet(RunFacet):
    """A pipeline's run, or a run of one interval. Fields that do not apply are None."""

    runId: str  # noqa: N815 - OpenLineage's spelling, as of all fields here
    pipeline: str
    profile: str
    codeHash: str | None = None  # noqa: N815
    planHash: str | None = None  # noqa: N815
    interval: str | None = None
    reason: str | None = None
    state: str | None = None
    mlflowRunId: str | None = None  # noqa: N815
    mlflowUri: str | None = None  # noqa: N815
    rowsIn: int | None = None  # noqa: N815
    scored: int | None = None
    deadLetter: int | None = None  # noqa: N815
    quarantined: int | None = None
    dropped: int | None = None

    @staticmethod
    def _get_schema() -> str:
        return f"{SCHEMA}#/$defs/FiresteelRunFacet"


@attr.define
class FiresteelModelFacet(DatasetFacet):
    """A pinned model. `digest` is the SHA-256 of its files, which executors verify before they load the model."""

    uri: str
    resolvedUri: str  # noqa: N815
    version: str
    digest: str
    format: str
    method: str
    sizeBytes: int  # noqa: N815
    inputs: list[dict[str, Any]]

    @staticmethod
    def _get_schema() -> str:
        return f"{SCHEMA}#/$defs/FiresteelModelFacet"

    @classmethod
    def of(cls, model: ModelPlan) -> FiresteelModelFacet:
        """Return the facet of a planned model."""
        return cls(
            uri=model.uri,
            resolvedUri=model.resolved_uri,
            version=model.version,
            digest=model.digest,
            format=model.format,
            method=model.method,
            sizeBytes=model.size_bytes,
            inputs=[{"name": column.name, "type": column.type, "nullable": column.nullable} for column in model.inputs],
        )
