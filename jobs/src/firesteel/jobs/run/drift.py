"""Has what a plan pinned moved? Looked at before the work and again before the journal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from firesteel.conf.errors import PlanDrift
from firesteel.pipelines.plan.inputs import list_files
from firesteel.pipelines.storage.open import locate

if TYPE_CHECKING:
    from firesteel.pipelines.plan.model import IntervalPlan, Plan


def check_inputs(plan: Plan, interval: IntervalPlan) -> None:
    """Hold the input manifest against the storage.

    Raises
    ------
    PlanDrift
        FS6001 naming the source, and what came, went or changed.
    """
    sources = {source.name: source for source in plan.sources}
    for each in interval.inputs:
        source = sources[each.source]
        storage, path = locate(source.path)
        now = {file.path: file for file in list_files(storage, path, each.directories, source.marker)}
        then = {file.path: file for file in each.files}
        if now == then:
            continue
        new, gone = sorted(now.keys() - then.keys()), sorted(then.keys() - now.keys())
        changed = sorted(name for name in now.keys() & then.keys() if now[name] != then[name])
        parts = [
            f"{len(names)} {what} ({names[0]})"
            for what, names in (("new", new), ("gone", gone), ("changed", changed))
            if names
        ]
        raise PlanDrift(
            "FS6001",
            f"{each.source} {interval.id}: files moved since the plan: {', '.join(parts)}. Nothing was published.",
            hint="Run `plan` again.",
        )
