"""Asset events for the published partitions, which start other DAGs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Partition:
    """A published partition: `uri` of its directory, `key` relative to the sink."""

    uri: str
    key: str
    facts: Mapping[str, Any]


def partitions(result: Mapping[str, Any], task_key: str) -> Iterator[Partition]:
    """Return the partitions that this task has published, in this try or an earlier one that emitted no events.

    Parameters
    ----------
    task_key
        The last part of the run ids of all tries of the task.
    """
    sink = next(iter(result["sinks"].values()), "").rstrip("/")
    for interval in result["intervals"]:
        if not interval["published_by"].endswith(f"-{task_key}"):
            continue
        facts = {"pipeline": result["pipeline"], "interval": interval["interval"], "run_id": interval["published_by"]}
        for key in interval["partitions"]:
            yield Partition(f"{sink}/{key}" if key else sink, key, facts)


def emit(context: Mapping[str, Any], outlets: Sequence[Any], result: Mapping[str, Any], task_key: str) -> int:
    """Add events for the published partitions to the outlets of the task, and return the number of partitions.

    An `AssetAlias` gets an asset event for each partition. An `Asset` gets one event with the facts of the run, and in a DAG
    with the timetable `PartitionedAtRuntime` also the key of each partition.
    """
    from airflow.sdk import Asset, AssetAlias

    published = list(partitions(result, task_key))
    facts = {name: result[name] for name in ("pipeline", "profile", "run_id", "state", "rows", "intervals_total")} | {
        "partitions": [partition.key for partition in published]
    }
    events = context["outlet_events"]
    keyed = bool(getattr(getattr(context["dag"], "timetable", None), "partitioned_at_runtime", False))
    for outlet in outlets:
        if isinstance(outlet, AssetAlias):
            for partition in published:
                events[outlet].add(Asset(partition.uri), extra=dict(partition.facts))
        elif isinstance(outlet, Asset):
            events[outlet].extra.update(facts)
            if keyed:
                events[outlet].add_partitions([partition.key for partition in published if partition.key])
    return len(published)
