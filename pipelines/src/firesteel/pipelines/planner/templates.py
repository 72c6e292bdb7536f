"""Check the templates of a spec (`select`, `args`) by resolving them for example intervals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from firesteel.conf.errors import FiresteelError, SpecError, SpecErrors, Where
from firesteel.conf.partitions import is_selectable
from firesteel.pipelines.analysis import Analysis
from firesteel.pipelines.plan.choices import choices
from firesteel.pipelines.plan.intervals import (
    Slot,
    bound_arg,
    check_begin,
    check_timezone,
    first_slots,
    selected_values,
)
from firesteel.pipelines.planner.outputs import replaced_directories, replaced_twice
from firesteel.pipelines.spec.date_formats import unit_of_formats
from firesteel.pipelines.spec.load import LoadedSpec
from firesteel.pipelines.spec.model import Latest, Select, Source, SqlStep
from firesteel.pipelines.spec.values import parse_column_type

_NARROWER = ("date", "int")
"""Types to propose for a value before `string`, which accepts any."""


def template_errors(loaded: LoadedSpec, analysis: Analysis) -> list[FiresteelError]:
    """Return the errors of the interval, and of the templates that are resolved for each interval."""
    interval = loaded.spec.interval
    errors: list[FiresteelError] = []
    for key, check, valid in (("timezone", check_timezone, "UTC"), ("begin", check_begin, "2000-01-01")):
        try:
            check(interval)
        except SpecError as error:
            errors.append(_at(loaded, key, error))
            interval = interval.model_copy(update={key: valid})  # so that the templates can still be checked
    examples = first_slots(interval)
    if not examples:
        errors.append(_at(loaded, "begin", SpecError("FS1014", "interval.begin is at the end of the calendar.")))
    errors += [*_selects(loaded, examples), *_args(loaded, examples)]
    errors += _sinks(loaded, analysis, () if errors else examples)
    return loaded.root_causes(errors)


def _at(loaded: LoadedSpec, key: str, error: SpecError) -> SpecError:
    where = loaded.tree.nearest(("interval", key)).where
    return SpecError(error.code, error.what, where=where, hint=error.hint)


def _selects(loaded: LoadedSpec, examples: Sequence[Slot]) -> Iterator[FiresteelError]:
    """Yield FS1004 for each selected value that does not match its partition's type."""
    for name, source in loaded.spec.sources.items():
        errors = list(_latest(name, source, loaded))
        for column, text in source.levels.items():
            kind, _ = parse_column_type(text)
            if "<" in kind:
                where = loaded.tree.nearest(("sources", name, "partitions", column)).where
                what = f"`sources.{name}.partitions.{column}`: a partition column cannot be of type {kind}."
                errors.append(
                    SpecError("FS1004", what, where=where, hint="Use a simple type such as string, date or int.")
                )
            elif column in source.select:
                errors += _values(name, column, source.select[column], kind, examples, loaded)
        if not errors:
            errors += _ranges(name, source, examples, loaded)
        yield from {
            error.where: error for error in reversed(errors)
        }.values()  # a range over several columns is one mistake


def _values(
    name: str, column: str, select: Select, kind: str, examples: Sequence[Slot], loaded: LoadedSpec
) -> Iterator[FiresteelError]:
    whole, node = (loaded.tree.nearest(("sources", name, "select", *last)) for last in ((), (column,)))
    place = f"sources.{name}.select" if node is whole else f"sources.{name}.select.{column}"
    for slot in examples:
        try:
            values = selected_values(select, slot)
        except ValueError as error:
            yield SpecError("FS1004", f"`{place}`: {error}.", where=node.where)
            return
        if not values:
            yield SpecError("FS1004", f"`{place}` selects nothing.", where=node.where)
            return
        mismatch = next((value for value in values if not is_selectable(value, kind)), None)
        if mismatch is not None:
            yield _type_mismatch(place, kind, mismatch, slot, loaded, node.where)
            return


def _ranges(name: str, source: Source, examples: Sequence[Slot], loaded: LoadedSpec) -> Iterator[FiresteelError]:
    """Yield FS1004 if a range has fewer partitions than it needs."""
    where = loaded.tree.nearest(("sources", name, "select")).where
    for slot in examples:
        try:
            choices(source, slot, where)
        except SpecError as error:
            yield SpecError(error.code, f"`sources.{name}.{error.what.removeprefix('`')}", where=where)
            return


def _latest(name: str, source: Source, loaded: LoadedSpec) -> Iterator[FiresteelError]:
    """Yield FS1004 if the formats of `select: latest` do not name one period together."""
    formats = [select.format for select in source.select.values() if isinstance(select, Latest)]
    if formats and unit_of_formats(formats) is None:
        what = f"`sources.{name}.select`: the newest of {', '.join(formats)} is not known: they do not name one hour, day, week, month or year."
        where = loaded.tree.nearest(("sources", name, "select")).where
        hint = "Use formats such as %Y%m%d, or %Y, %m and %d."
        yield SpecError("FS1004", what, where=where, hint=hint)


def _type_mismatch(place: str, kind: str, value: str, slot: Slot, loaded: LoadedSpec, where: Where) -> FiresteelError:
    better = next((type_ for type_ in _NARROWER if is_selectable(value, type_)), "string")
    names = {key: text for key, text in slot.names.items() if key != "hour" or loaded.spec.interval.unit == "hour"}
    fitting = [f"${{interval.{key}}}" for key, text in names.items() if is_selectable(text, kind)]
    other = f", or select {' or '.join(fitting)}" if fitting and kind != "string" else ""
    return SpecError(
        "FS1004",
        f"`{place}` is `{value}` for the interval {slot.id}, which is not a value of the partition's type {kind}.",
        where=where,
        hint=f"Declare the partition as {better}{other}.",
    )


def _args(loaded: LoadedSpec, examples: Sequence[Slot]) -> Iterator[FiresteelError]:
    for name, step in loaded.spec.steps.items():
        for arg, value in step.args.items() if isinstance(step, SqlStep) else ():
            problem = "a mapping cannot be bound to a marker" if isinstance(value, dict) else ""
            try:
                for slot in examples:
                    bound_arg(value, slot)
            except ValueError as error:
                problem = str(error)
            if problem:
                where = loaded.tree.nearest(("steps", name, "args", arg)).where
                yield SpecError("FS1004", f"`steps.{name}.args.{arg}`: {problem}.", where=where)


def _sinks(loaded: LoadedSpec, analysis: Analysis, examples: Sequence[Slot]) -> Iterator[FiresteelError]:
    """Yield FS1004 if the directories that an interval replaces are unknown, or two intervals replace the same one."""
    if loaded.is_replaced("sources") or loaded.is_replaced("interval"):
        return
    for name, sink in loaded.spec.sinks.items():
        first, is_added = sink.partition_by[0], sink.partition_by[0] in sink.formats
        if not is_added and first not in {column.name for column in analysis.relations.get(sink.from_, ())}:
            continue  # already reported
        where = loaded.tree.nearest(("sinks", name, "partition_by")).where
        published = {column.name for column in analysis.relations.get(sink.from_, ())} | {*sink.lineage_columns}
        if analysis.relations.get(sink.from_) and published <= {*sink.partition_by}:
            what = f"sinks.{name} publishes only its partition columns."
            yield SpecError("FS1004", what, where=where, hint="Keep or compute one more column.")
        relation, origin = analysis.trace(sink.from_, first)
        known = relation in loaded.spec.sources or (relation in analysis.relations and relation not in analysis.unsure)
        if not (known or is_added) or loaded.spec.interval.column not in (None, first):
            continue
        if loaded.tree.nearest(("sources", relation, "select", origin)).where in loaded.unclear:
            continue
        try:
            directories = [set(replaced_directories(loaded, analysis, name, slot)) for slot in examples]
        except SpecErrors as errors:
            yield from errors.errors
            continue
        except SpecError:  # a select that cannot be computed is already reported
            continue
        for slot, other in zip(examples[1:], directories[1:], strict=True):
            if sink.mode == "replace_partitions" and directories[0] & other:
                yield replaced_twice(loaded, name, (examples[0].id, slot.id), min(directories[0] & other))
                break
