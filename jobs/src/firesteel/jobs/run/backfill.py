"""The plan of a backfill: pinned once, kept in the storage until all of its intervals are published."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from firesteel.conf.errors import PlanDrift, SpecError, StorageError
from firesteel.pipelines.plan.intervals import slots
from firesteel.pipelines.plan.model import Plan
from firesteel.pipelines.publish.layout import Area, file_name
from firesteel.pipelines.publish.ledger import Ledger
from firesteel.pipelines.storage.open import locate
from firesteel.pipelines.storage.paths import join

if TYPE_CHECKING:
    from firesteel.pipelines import Pipeline
    from firesteel.pipelines.events import Progress
    from firesteel.pipelines.result import RunResult


def pinned(pipeline: Pipeline, start: str, end: str, *, resume: bool, on_progress: Progress) -> Plan:
    """The plan of a range: a new one, which is kept, or the one that was kept.

    Raises
    ------
    PlanDrift
        FS6004 when there is none to resume.
    """
    storage, base = locate(pipeline.loaded.spec.storage)
    path = _path(base, pipeline.loaded.profile, start, end)
    if resume:
        try:
            return Plan.from_json(storage.read(path).decode(), path)
        except StorageError as error:
            if error.code != "FS8003":
                raise
            raise PlanDrift(
                "FS6004",
                f"there is no unfinished backfill from {start} to {end}.",
                hint="Leave --resume out to begin one. Finished ones are not kept.",
            ) from None
    plan = pipeline.plan(start, end, on_progress=on_progress)
    storage.replace(path, plan.to_json().encode())
    return plan


def left_of(plan: Plan) -> Plan:
    """The plan with what the ledger shows as published by it marked as done."""
    storage, base = locate(plan.storage)
    ledger = Ledger(Area(storage, base, plan.pipeline, plan.profile))
    known = {sink.name: frozenset(ledger.intervals(sink.name)) for sink in plan.sinks}

    def done(interval: str, plan_hash: str) -> bool:
        return all(
            interval in known[sink.name]
            and (record := ledger.published(sink.name, interval)) is not None
            and record.plan_hash == plan_hash
            for sink in plan.sinks
        )

    return replace(
        plan,
        intervals=tuple(
            replace(each, action="skip", reason="published by this backfill")
            if each.action != "skip" and done(each.id, each.plan_hash)
            else each
            for each in plan.intervals
        ),
    )


def part_of(pipeline: Pipeline, plan: Plan, part: str) -> Plan:
    """The plan with the intervals of `FIRST..LAST` only.

    Raises
    ------
    SpecError
        FS1014 when the plan has none of them.
    """
    first, separator, last = part.partition("..")
    if not separator:
        raise SpecError("FS1014", f"--part {part} is not two intervals.", hint="Write it like 2013-06-01..2013-06-30.")
    asked = pipeline.loaded.spec.interval.model_copy(update={"lookback": 0})
    low, high = (slots(asked, each, each)[0].id for each in (first, last))
    kept = tuple(each for each in plan.intervals if low <= each.id <= high)  # names of one unit sort as time does
    if not kept:
        raise SpecError(
            "FS1014",
            f"--part {part} has no interval of the backfill, {plan.intervals[0].id} to {plan.intervals[-1].id}.",
        )
    return replace(plan, intervals=kept)


def only_planned(plan: Plan) -> Plan:
    """The plan with nothing to do in it, for a call that only keeps it."""
    return replace(
        plan,
        intervals=tuple(
            each if each.action == "skip" else replace(each, action="skip", reason=f"planned: {each.reason}")
            for each in plan.intervals
        ),
    )


def settle(plan: Plan, start: str, end: str, result: RunResult) -> None:
    """Forget the plan of a backfill that is published as a whole."""
    if result.exit_code == 0:
        storage, base = locate(plan.storage)
        storage.delete(_path(base, plan.profile, start, end))


def _path(base: str, profile: str, start: str, end: str) -> str:
    return join(base, "backfill", file_name(profile), f"{file_name(start)}_{file_name(end)}.json")
