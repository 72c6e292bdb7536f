"""The directories of a sink that one interval replaces, from the spec alone, and that no other may replace."""

from __future__ import annotations

from collections.abc import Sequence

from firesteel.conf.errors import SpecError, SpecErrors, Where
from firesteel.conf.partitions import parse_selected, partition_name, value_text
from firesteel.pipelines.analysis import Analysis
from firesteel.pipelines.plan.inputs import selected
from firesteel.pipelines.plan.intervals import Slot, formatted_values
from firesteel.pipelines.plan.model import IntervalPlan
from firesteel.pipelines.spec.date_formats import split_format
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
    added = dict(added_values(loaded, sink_name, slot))
    directories = [""]
    for index, column in enumerate(sink.partition_by):
        relation, origin = analysis.trace(sink.from_, column)
        source = spec.sources.get(relation)
        values = selected(source, slot, where).get(origin) if source and origin in source.partitions else None
        if column in added:
            if values is not None and len(values) != 1:
                raise SpecErrors.of([_several(sink_name, column, len(values), where)])
            values = (added[column],)
        if index == 0 and (values is None or len(values) != 1):
            if values is not None:
                raise SpecErrors.of([_several(sink_name, column, len(values), where)])
            what = f"sinks.{sink_name}: `{column}` is not an unchanged copy of a selected source partition for one interval."
            raise SpecErrors.of([SpecError("FS1004", what, where=where, hint=_COPY)])
        if values is None:
            break
        directories = [
            f"{head}/{partition_name(column, value)}".lstrip("/") for head in directories for value in values
        ]
    return tuple(directories)


def added_values(loaded: LoadedSpec, sink_name: str, slot: Slot) -> tuple[tuple[str, str], ...]:
    """Return column -> value of the partition columns with a format, which firesteel adds to the rows of an interval.

    Raises
    ------
    SpecErrors
        FS1004 when a format has several values in one interval, or values that are not of its type.
    """
    where = loaded.tree.nearest(("sinks", sink_name, "partition_by")).where
    values = []
    for column, text in loaded.spec.sinks[sink_name].formats.items():
        kind, format_ = split_format(text)
        found = formatted_values(format_, slot)
        if len(found) != 1:
            raise SpecErrors.of([_several(sink_name, column, len(found), where)])
        try:
            values.append((column, value_text(parse_selected(found[0], kind))))
        except ValueError as error:
            raise SpecErrors.of(
                [SpecError("FS1004", f"sinks.{sink_name}: `{column}`: {error}.", where=where)]
            ) from None
    return tuple(values)


_COPY = (
    "Copy the source's partition column unchanged, or give it a format such as `dt: %Y%m%d`: a rerun must know which partitions it "
    "replaces."
)


def _several(sink: str, column: str, count: int, where: Where) -> SpecError:
    return SpecError(
        "FS1004", f"sinks.{sink}: `{column}` has {count} values for one interval.", where=where, hint=_COPY
    )
