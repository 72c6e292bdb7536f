"""The plan of a backfill: made once and stored until all of its intervals are published."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from firesteel.conf.errors import PlanDrift, SpecError, StorageError
from firesteel.pipelines.plan.intervals import slots
from firesteel.pipelines.plan.model import Plan
from firesteel.pipelines.planner.decide import Published
from firesteel.pipelines.planner.stored import check_matches
from firesteel.pipelines.publish.signers import require_own_signature, write_plan
from firesteel.pipelines.publish.state_store import StateStore, file_name
from firesteel.pipelines.storage.paths import join

if TYPE_CHECKING:
    from firesteel.pipelines import Pipeline
    from firesteel.pipelines.events import Progress
    from firesteel.pipelines.plan.model import IntervalPlan, SinkPlan
    from firesteel.pipelines.result import RunResult


def load_or_plan(
    pipeline: Pipeline, start: str, end: str, *, resume: bool, other_python: bool = False, on_progress: Progress
) -> Plan:
    """Return the plan of a range: a new one, which is stored, or with `resume` the stored one.

    Raises
    ------
    PlanDrift
        FS6004 when no plan is stored, FS6005 when the stored one is not one of this spec.
    NotAllowed
        FS7605 when the spec has a key, and this key has not signed the stored plan.
    """
    loaded = pipeline.loaded
    store = StateStore.at(loaded.spec.storage, loaded.spec.name, loaded.profile)
    path = _path(store, start, end)
    if resume:
        try:
            text = store.storage.read(path).decode(errors="replace")
        except StorageError as error:
            if error.code != "FS8003":
                raise
            raise PlanDrift(
                "FS6004",
                f"there is no unfinished backfill from {start} to {end}.",
                hint="Start one without --resume. The plan of a finished backfill is deleted.",
            ) from None
        plan = Plan.from_json(text, path)
        require_own_signature(plan, loaded.spec.security.signing_key or "")
        check_matches(plan, loaded, pipeline.sketch())
        return plan
    plan = pipeline.plan(start, end, other_python=other_python, on_progress=on_progress)
    store.storage.replace(path, write_plan(plan).encode())
    return plan


def skip_published(plan: Plan) -> Plan:
    """Return the plan with the intervals skipped that the ledger shows as published by it, if their files are there."""
    published = Published.of(
        StateStore.of(plan),
        {sink.name: sink.path for sink in plan.sinks},
        [interval.id for interval in plan.intervals if interval.action != "skip"],
    )
    done = {interval.id for interval in plan.intervals if interval.action != "skip"}
    for sink in plan.sinks:
        done = {interval.id for interval in plan.intervals if interval.id in done and _holds(published, sink, interval)}
        done -= published.missing(sink.name, sorted(done)).keys()
    return replace(
        plan,
        intervals=tuple(
            replace(interval, action="skip", reason="published by this backfill") if interval.id in done else interval
            for interval in plan.intervals
        ),
    )


def _holds(published: Published, sink: SinkPlan, interval: IntervalPlan) -> bool:
    record = published.last(sink.name, interval.id)
    finished = interval.id not in published.unfinished[sink.name]
    return finished and record is not None and record.plan_hash == interval.plan_hash


def select_part(pipeline: Pipeline, plan: Plan, part: str) -> Plan:
    """Return the plan with the intervals of `FIRST..LAST` only.

    Raises
    ------
    SpecError
        FS1014 when the plan has none of them.
    """
    first, separator, last = part.partition("..")
    if not separator:
        raise SpecError(
            "FS1014",
            f"--part {part} is not a range FIRST..LAST.",
            hint="Write two intervals, such as 2013-06-01..2013-06-30.",
        )
    asked = pipeline.loaded.spec.interval.model_copy(update={"lookback": 0})
    low, high = (slots(asked, name, name)[0].id for name in (first, last))
    selected = tuple(i for i in plan.intervals if low <= i.id <= high)  # ids of one unit sort by time
    if not selected:
        raise SpecError(
            "FS1014",
            f"--part {part} has no interval of the backfill, {plan.intervals[0].id} to {plan.intervals[-1].id}.",
        )
    return replace(plan, intervals=selected)


def skip_all(plan: Plan) -> Plan:
    """Return the plan with all intervals skipped, for a call that only stores it."""
    return replace(
        plan,
        intervals=tuple(
            interval
            if interval.action == "skip"
            else replace(interval, action="skip", reason=f"planned: {interval.reason}")
            for interval in plan.intervals
        ),
    )


def delete_if_complete(plan: Plan, start: str, end: str, result: RunResult) -> None:
    """Delete the stored plan when all of its intervals are published."""
    if result.exit_code == 0:
        store = StateStore.of(plan)
        store.storage.delete(_path(store, start, end))


def _path(store: StateStore, start: str, end: str) -> str:
    return join(store.base, "backfill", file_name(store.profile), f"{file_name(start)}_{file_name(end)}.json")
