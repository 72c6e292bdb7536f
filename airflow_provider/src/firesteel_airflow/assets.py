"""Events of assets: what was published, for the DAGs that wait for it."""

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


def partitions(result: Mapping[str, Any], kin: str) -> Iterator[Partition]:
    """What this task published, by this try or one before it that could not say so.

    Parameters
    ----------
    kin
        The last part of the run ids of all tries of the task.
    """
    sink = next(iter(result["sinks"].values()), "").rstrip("/")
    for each in result["intervals"]:
        if not each["published_by"].endswith(f"-{kin}"):
            continue
        facts = {"pipeline": result["pipeline"], "interval": each["interval"], "run_id": each["published_by"]}
        for key in each["partitions"]:
            yield Partition(f"{sink}/{key}" if key else sink, key, facts)


def emit(context: Mapping[str, Any], outlets: Sequence[Any], result: Mapping[str, Any], kin: str) -> int:
    """Attach what was published to the outlets of the task; how many partitions.

    An `AssetAlias` gets an event of an asset for each partition. An `Asset` gets one event with the facts of the run; in a DAG
    whose timetable is `PartitionedAtRuntime`, one with the key of each partition.
    """
    from airflow.sdk import Asset, AssetAlias

    published = list(partitions(result, kin))
    facts = {name: result[name] for name in ("pipeline", "profile", "run_id", "state", "rows", "intervals_total")} | {
        "partitions": [each.key for each in published]
    }
    events = context["outlet_events"]
    keyed = bool(getattr(getattr(context["dag"], "timetable", None), "partitioned_at_runtime", False))
    for outlet in outlets:
        if isinstance(outlet, AssetAlias):
            for each in published:
                events[outlet].add(Asset(each.uri), extra=dict(each.facts))
        elif isinstance(outlet, Asset):
            events[outlet].extra.update(facts)
            if keyed:
                events[outlet].add_partitions([each.key for each in published if each.key])
    return len(published)
