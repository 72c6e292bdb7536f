"""The directories of a sink that one interval replaces, from the spec alone, and that no other may replace."""

from __future__ import annotations

from collections.abc import Sequence

from firesteel.conf.errors import SpecError, SpecErrors
from firesteel.conf.partitions import partition_name
from firesteel.pipelines.analysis import Analysis
from firesteel.pipelines.plan.inputs import selected
from firesteel.pipelines.plan.intervals import Slot
from firesteel.pipelines.plan.model import IntervalPlan
from firesteel.pipelines.spec.load import LoadedSpec


def check_replaced_once(loaded: LoadedSpec, intervals: Sequence[IntervalPlan]) -> None:
    """Check that no two intervals of a plan replace the same directory, or one within the other's.

    Raises
    ------
    SpecErrors
        FS1004 naming both intervals.
    """
    for name, sink in loaded.spec.sinks.items():
        if sink.mode != "replace_partitions":
            continue
        owners: dict[str, str] = {}
        replaced = [
            (directory, interval.id)
            for interval in intervals
            for output in interval.outputs
            if output.sink == name
            for directory in output.directories
        ]
        for directory, interval in replaced:
            owners.setdefault(directory, interval)
        for directory, interval in replaced:
            parts = directory.split("/")
            for level in range(len(parts)):
                owner = owners.get("/".join(parts[: level + 1]), interval)
                if owner != interval:
                    raise SpecErrors.of([replaced_twice(loaded, name, (owner, interval), directory)])


def replaced_twice(loaded: LoadedSpec, sink: str, intervals: tuple[str, str], directory: str) -> SpecError:
    """Return FS1004 for a directory that two intervals replace."""
    return SpecError(
        "FS1004",
        f"sinks.{sink}: the intervals {intervals[0]} and {intervals[1]} both replace {directory}.",
        where=loaded.tree.nearest(("sinks", sink, "partition_by")).where,
        hint=f"Partition the sink by a column that differs for each {loaded.spec.interval.unit}, or change interval.unit.",
    )


def replaced_directories(loaded: LoadedSpec, analysis: Analysis, sink_name: str, slot: Slot) -> tuple[str, ...]:
    """Return the directories that an interval replaces.

    The values of a partition column are known if it is an unchanged copy of a source's selected partition column; each value has
    one directory. From the first column with unknown values on, the parent directory is replaced.

    Raises
    ------
    SpecErrors
        FS1004 when the first column, the interval's, has no known value or more than one.
    """
    spec = loaded.spec
    sink = spec.sinks[sink_name]
    where = loaded.tree.nearest(("sinks", sink_name, "partition_by")).where
    directories = [""]
    for index, column in enumerate(sink.partition_by):
        relation, origin = analysis.trace(sink.from_, column)
        source = spec.sources.get(relation)
        values = selected(source, slot, where).get(origin) if source and origin in source.partitions else None
        if index == 0 and (values is None or len(values) != 1):
            problem = (
                "is not an unchanged copy of a selected source partition"
                if values is None
                else f"has {len(values)} values"
            )
            raise SpecErrors.of(
                [
                    SpecError(
                        "FS1004",
                        f"sinks.{sink_name}: `{column}` {problem} for one interval.",
                        where=where,
                        hint="Copy the source's partition column unchanged: a rerun must know which partitions it replaces.",
                    )
                ]
            )
        if values is None:
            break
        directories = [
            f"{head}/{partition_name(column, value)}".lstrip("/") for head in directories for value in values
        ]
    return tuple(directories)
