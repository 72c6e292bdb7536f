"""Who started this run, as orchestrators say it: `OPENLINEAGE_PARENT_ID` and `OPENLINEAGE_ROOT_PARENT_ID`.

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
    """A run of another job: its namespace, its name, the run's UUID."""

    namespace: str
    job: str
    run_id: str

    @classmethod
    def parse(cls, text: str) -> RunName:
        """Read `namespace/name/runId`; a namespace may hold slashes, a name may not.

        Raises
        ------
        ValueError
            It is of another form.

        Examples
        --------
        >>> RunName.parse("http://airflow/daily.score/0196b2a6-9a04-7d3b-8f53-000000000000").job
        'daily.score'
        """
        namespace, _, rest = text.strip().rpartition("/")
        namespace, _, job = namespace.rpartition("/")
        if not namespace or not job:
            raise ValueError("it is not namespace/name/runId")
        return cls(namespace, job, str(UUID(rest)))


@dataclass(frozen=True, slots=True)
class Parent:
    """The run that a run is part of, and the outermost one that both are part of."""

    run: RunName
    root: RunName | None = None

    def facet(self) -> ParentRunFacet:
        """The facet of a run within it."""
        top = self.root or self.run
        return ParentRunFacet(
            Run(self.run.run_id),
            Job(self.run.namespace, self.run.job),
            Root(RootRun(top.run_id), RootJob(top.namespace, top.job)),
        )

    def of_child(self, run: RunName) -> Parent:
        """The parent that `run`, which is within it, is to its own children."""
        return Parent(run, self.root or self.run)


def given_parent(environ: Mapping[str, str] = os.environ) -> tuple[Parent | None, str]:
    """The parent that the environment names, and what is wrong with it."""
    found: dict[str, RunName] = {}
    for name in (PARENT, ROOT):
        if text := environ.get(name):
            try:
                found[name] = RunName.parse(text)
            except ValueError as error:
                return None, f"{name} is not used: {error}"
    if PARENT not in found:
        return None, ""
    return Parent(found[PARENT], found.get(ROOT)), ""
