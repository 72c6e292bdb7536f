"""The directories of a sink that one interval replaces, from the spec alone."""

from __future__ import annotations

from firesteel.conf.errors import SpecError, SpecErrors
from firesteel.conf.partitions import partition_name
from firesteel.pipelines.analysis import Analysis
from firesteel.pipelines.plan.inputs import selected
from firesteel.pipelines.plan.intervals import Slot
from firesteel.pipelines.spec.load import LoadedSpec


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
