"""A task group that scores a long range with one plan: `pin` stores the plan, then each part is a task."""

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
    """Score all intervals from `start` to `end`, both included, with one version of the model.

    ::

        pin --> 2013-01 --> 2013-02 --> ... --> finish          at_once=1
            `-> 2013-01 ..                                      at_once=2: two chains
            `-> 2013-02 ..

    `pin` plans the whole range and stores the plan. Each part scores the intervals that this plan has not published. `finish` scores
    the remaining ones, normally none, and deletes the plan. Every task can be cleared and run again.

    Parameters
    ----------
    every
        The size of a part.
    at_once
        The number of concurrent parts.
    group
        Further arguments of the TaskGroup.
    operator
        Further arguments of each `FiresteelOperator`.
    """
    first, last = day_of(start), day_of(end)
    if last < first:
        raise ValueError(f"end {last} of task group {group_id} is before its start {first}")
    common = {**operator, "spec": spec, "mode": "backfill", "interval": first.isoformat(), "end": last.isoformat()}
    with TaskGroup(group_id, **(group or {})) as task_group:
        pin = FiresteelOperator(task_id="pin", pin=True, **common)
        finish = FiresteelOperator(task_id="finish", resume=True, **common)
        ends = [pin] * max(1, at_once)
        for number, (name, part_start, part_end) in enumerate(parts(first, last, every)):
            part = FiresteelOperator(task_id=name, part=f"{part_start}..{part_end}", **common)
            chain = number % len(ends)
            ends[chain] >> part
            ends[chain] = part
        for last_part in dict.fromkeys(ends):
            last_part >> finish
    return task_group
