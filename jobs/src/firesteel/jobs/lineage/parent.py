"""Read the parent run that an orchestrator sets in `OPENLINEAGE_PARENT_ID` and `OPENLINEAGE_ROOT_PARENT_ID`.

Airflow: `env={"OPENLINEAGE_PARENT_ID": "{{ macros.OpenLineageProviderPlugin.lineage_parent_id(task_instance) }}"}`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from openlineage.client.generated.parent_run import Job, ParentRunFacet, Root, RootJob, RootRun, Run

PARENT = "OPENLINEAGE_PARENT_ID"
ROOT = "OPENLINEAGE_ROOT_PARENT_ID"


@dataclass(frozen=True, slots=True)
class RunName:
    """A run of a job: namespace, job name and run UUID."""

    namespace: str
    job: str
    run_id: str

    @classmethod
    def parse(cls, text: str) -> RunName:
        """Parse `namespace/name/runId`. The namespace may contain slashes, the name may not.

        Raises
        ------
        ValueError
            The text has another format.

        Examples
        --------
        >>> RunName.parse("http://airflow/daily.score/0196b2a6-9a04-7d3b-8f53-000000000000").job
        'daily.score'
        """
        namespace, _, rest = text.strip().rpartition("/")
        namespace, _, job = namespace.rpartition("/")
        if not namespace or not job:
            raise ValueError("expected namespace/name/runId")
        return cls(namespace, job, str(UUID(rest)))


@dataclass(frozen=True, slots=True)
class Parent:
    """The parent run and the root run of a run."""

    run: RunName
    root: RunName | None = None

    def facet(self) -> ParentRunFacet:
        """Return the parent facet of a child run."""
        top = self.root or self.run
        return ParentRunFacet(
            Run(self.run.run_id),
            Job(self.run.namespace, self.run.job),
            Root(RootRun(top.run_id), RootJob(top.namespace, top.job)),
        )

    def for_children_of(self, run: RunName) -> Parent:
        """Return the parent of the children of `run`, with the same root."""
        return Parent(run, self.root or self.run)


def parent_from_environment(environ: Mapping[str, str] = os.environ) -> tuple[Parent | None, str]:
    """Return the parent from the environment, and the problem if it is not valid."""
    names: dict[str, RunName] = {}
    for name in (PARENT, ROOT):
        if text := environ.get(name):
            try:
                names[name] = RunName.parse(text)
            except ValueError as error:
                return None, f"{name} is ignored: {error}"
    if PARENT not in names:
        return None, ""
    return Parent(names[PARENT], names.get(ROOT)), ""
