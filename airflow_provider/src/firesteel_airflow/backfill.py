"""A task group that scores a long range by one plan: pinned first, then part by part, each a task of its own in the grid."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

from airflow.sdk import TaskGroup

from firesteel_airflow.operator import FiresteelOperator
from firesteel_airflow.parts import Every, day_of, parts


def backfill_group(
    group_id: str,
    *,
    spec: str,
    start: str | date,
    end: str | date,
    every: Every = "month",
    at_once: int = 1,
    group: Mapping[str, Any] | None = None,
    **operator: Any,
) -> TaskGroup:
    """Score all intervals from `start` to `end`, both included, by one version of the model.

    ::

        pin --> 2013-01 --> 2013-02 --> ... --> finish          at_once=1
            `-> 2013-01 ..                                      at_once=2: two chains
            `-> 2013-02 ..

    `pin` plans the whole range, and keeps the plan in the storage. Each part scores what the ledger does not show as published by that
    plan. `finish` does what is left, which is nothing as a rule, and forgets the plan. All of it may be cleared and run again.

    Parameters
    ----------
    every
        How much of the range a task does.
    at_once
        Parts at the same time: so many chains.
    group
        Further arguments of the TaskGroup.
    operator
        Further arguments of each `FiresteelOperator`.
    """
    first, last = day_of(start), day_of(end)
    if last < first:
        raise ValueError(f"end {last} of task group {group_id} is before its start {first}")
    common = {**operator, "spec": spec, "mode": "backfill", "interval": first.isoformat(), "end": last.isoformat()}
    with TaskGroup(group_id, **(group or {})) as made:
        pin = FiresteelOperator(task_id="pin", pin=True, **common)
        finish = FiresteelOperator(task_id="finish", resume=True, **common)
        ends = [pin] * max(1, at_once)
        for number, (name, begins, closes) in enumerate(parts(first, last, every)):
            part = FiresteelOperator(task_id=name, part=f"{begins}..{closes}", **common)
            chain = number % len(ends)
            ends[chain] >> part
            ends[chain] = part
        for each in dict.fromkeys(ends):
            each >> finish
    return made
