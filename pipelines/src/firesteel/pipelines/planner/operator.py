"""Choose the operator of a score step: `direct` if the plan only maps rows, `arrow` if all features are numbers, else `pandas`.

All three return the same rows. They differ in how rows reach the model, and how scores reach the files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pydantic import JsonValue

from firesteel.pipelines.plan.model import (
    Column,
    GatePlan,
    ModelPlan,
    ScoreStepPlan,
    SinkPlan,
    SourcePlan,
    SqlStepPlan,
    StepPlan,
)
from firesteel.pipelines.sql.mapping import MapOnly, NotMapOnlyError, map_only
from firesteel.pipelines.sql.select import UNKNOWN, SqlText, parse_select

if TYPE_CHECKING:
    from firesteel.pipelines.plan.model import Plan

from firesteel.conf.errors import FiresteelError, Where
from firesteel.conf.types import FLOATS, INTEGERS

_NUMBERS = frozenset({*INTEGERS, *FLOATS})
_COPIED = frozenset({*_NUMBERS, "boolean", "string", "binary", "date", "timestamp"})
_PARTITIONS = frozenset({"string", "date", *INTEGERS})


BoundArgs = tuple[tuple[str, JsonValue], ...]


@dataclass(frozen=True, slots=True)
class Chain:
    """The part of a direct job before the score: one source, and SELECTs that only map its rows, in order."""

    source: SourcePlan
    maps: tuple[MapOnly, ...]
    columns: tuple[Column, ...]
    """Columns of the last SELECT."""


def with_operators(plan: Plan, requested: Mapping[str, str], args: Mapping[str, BoundArgs] | None = None) -> Plan:
    """Return the plan with an operator and its reason for each score step.

    Parameters
    ----------
    requested
        Score step -> the spec's choice: `auto`, `pandas`, `arrow` or `direct`.
    args
        SQL step -> its args with the values of an example interval, for args that refer to the interval.
    """
    models = {model.name: model for model in plan.models}
    bound = tuple(
        replace(step, args=args[step.name]) if args and isinstance(step, SqlStepPlan) and step.name in args else step
        for step in plan.steps
    )
    steps = tuple(
        _choose(replace(plan, steps=bound), step, models[step.model], requested[step.name])
        if isinstance(step, ScoreStepPlan)
        else step
        for step in plan.steps
    )
    return replace(plan, steps=steps)


def _choose(plan: Plan, step: ScoreStepPlan, model: ModelPlan, requested: str) -> ScoreStepPlan:
    if requested in {"pandas", "arrow"}:
        return replace(step, operator=requested, operator_reason="set in the spec")
    try:
        chain = direct_chain(plan.sources, plan.steps, plan.gates, plan.sinks, step)
    except NotMapOnlyError as why:
        refusal = f"not direct: {why}"
    else:
        path = " -> ".join([chain.source.name, *_between(plan.steps, step, chain.source.name), step.name])
        return replace(
            step, operator="direct", operator_reason=f"{path} only maps rows: tasks scan and write files directly"
        )
    if not model.digest:  # a sketch: the model is not resolved
        return replace(step, operator="auto", operator_reason=f"{refusal}; arrow or pandas, by the model's signature")
    if model.inputs and all(column.type in _NUMBERS for column in model.inputs):
        return replace(step, operator="arrow", operator_reason=f"{refusal}; all features are numbers")
    return replace(step, operator="pandas", operator_reason=f"{refusal}; not arrow: not all features are numbers")


def direct_chain(
    sources: Sequence[SourcePlan],
    steps: Sequence[StepPlan],
    gates: Sequence[GatePlan],
    sinks: Sequence[SinkPlan],
    step: ScoreStepPlan,
) -> Chain:
    """Return the chain of SELECTs from a source to the score step that only map rows.

    Raises
    ------
    NotMapOnlyError
        No such chain exists; the message is a phrase.
    """
    sink = sinks[0]
    if len(sinks) != 1 or sink.source != step.name:
        raise NotMapOnlyError(f"{sink.name} does not publish {step.name} directly")
    if any(gate.on == step.name for gate in gates):
        raise NotMapOnlyError(f"a gate checks {step.name} before it is staged")
    selects = {sql_step.name: sql_step for sql_step in steps if isinstance(sql_step, SqlStepPlan)}
    by_name = {source.name: source for source in sources}
    names = _between(steps, step, "")
    first = selects[names[0]].reads if names else (step.input,)
    if len(first) != 1 or first[0] not in by_name:
        raise NotMapOnlyError(f"{names[0] if names else step.name} reads more than one relation")
    source = by_name[first[0]]
    for relation in (source, sink):
        if relation.format != "parquet":
            raise NotMapOnlyError(f"{relation.name} has the format {relation.format}")
    columns = (*source.columns, *source.partitions)
    for column in columns:
        if column.type not in _COPIED and not column.type.startswith("decimal("):
            raise NotMapOnlyError(f"`{column.name}` of {source.name} is {column.type}")
    for column in source.partitions:
        if column.type not in _PARTITIONS:
            raise NotMapOnlyError(f"partition `{column.name}` of {source.name} is {column.type}")
    maps = []
    for name in names:
        try:
            tree = parse_select(SqlText(selects[name].sql, Where(""), in_file=False)).tree
            mapping = map_only(tree, columns, dict(selects[name].args))
        except NotMapOnlyError as why:
            raise NotMapOnlyError(f"{name}: {why}") from None
        except FiresteelError:
            raise NotMapOnlyError(f"{name} does not parse") from None
        columns = mapping.columns_of()
        for column in columns:
            if column.type not in _COPIED and not column.type.startswith("decimal("):
                raise NotMapOnlyError(f"{name}.{column.name} is {column.type}")
        maps.append(mapping)
    types = {column.name: column.type for column in columns}
    for name in step.columns_read:
        if name not in types:
            raise NotMapOnlyError(f"`{name}` is not a column of {step.input}")
    types = {name: types[name] for name in step.keep} | {output.name: output.type for output in step.produced}
    types |= {column.name: column.type for column in sink.columns if column.name in sink.added_columns}
    for name in sink.partition_by:
        if types.get(name, UNKNOWN) not in _PARTITIONS:
            raise NotMapOnlyError(f"partition `{name}` of {sink.name} is {types.get(name, UNKNOWN)}")
    return Chain(source, tuple(maps), columns)


def _between(steps: Sequence[StepPlan], step: ScoreStepPlan, source: str) -> list[str]:
    """Return the SELECTs between a source and the score, in order, as far back as each reads one relation."""
    selects = {sql_step.name: sql_step for sql_step in steps if isinstance(sql_step, SqlStepPlan)}
    names: list[str] = []
    relation = step.input
    while relation != source and relation in selects:
        names.insert(0, relation)
        if len(selects[relation].reads) != 1:
            break
        relation = selects[relation].reads[0]
    return names
