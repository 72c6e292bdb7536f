"""A plan as a tree for terminals: a sink at the root, and below each relation the relations that it reads."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.text import Text
from rich.tree import Tree

from firesteel.conf.quantities import byte_size, plural
from firesteel.pipelines.plan.model import ScoreStepPlan, SqlStepPlan

if TYPE_CHECKING:
    from firesteel.pipelines.plan.model import Plan, SinkPlan, SourcePlan

NAMES_SHOWN = 12
GUIDE = 4
"""Width, in columns, of the guide lines of one level."""


def trees(plan: Plan, width: int | None = None) -> list[Tree]:
    """Return one tree for each sink. A relation that two steps read is drawn once; the second time only its name appears.

    Parameters
    ----------
    width
        Width of the terminal in columns. Longer lines are wrapped between words, never inside a path.
    """
    drawn: set[str] = set()
    roots = []
    for sink in plan.sinks:
        root = Tree(_sink(plan, sink), guide_style="dim")
        _below(root, plan, sink.source, drawn)
        if width is not None:
            _wrap(root, width)
        roots.append(root)
    return roots


def _wrap(node: Tree, width: int) -> None:
    lines = Text.from_markup(str(node.label)).split("\n")
    node.label = Text("\n").join(part for line in lines for part in line.divide(_breaks(line.plain, width)))
    for child in node.children:
        _wrap(child, width - GUIDE)


def _breaks(line: str, width: int) -> list[int]:
    """Return the offsets at which to break a line so that only single words exceed `width`."""
    breaks, start = [], 0
    for word in re.finditer(r"\S+", line):
        if word.start() > start and word.end() - start > width:
            start = word.start()
            breaks.append(start)
    return breaks


def _below(node: Tree, plan: Plan, relation: str, drawn: set[str]) -> None:
    steps = {step.name: step for step in plan.steps}
    sources = {source.name: source for source in plan.sources}
    if relation in drawn:
        node.add(f"[bold]{relation}[/]  [dim](shown above)[/]")
        return
    drawn.add(relation)
    gates = "".join(
        f"\n[dim]gate[/] {gate.name}: {_gate(gate.expectations)}" for gate in plan.gates if gate.on == relation
    )
    if relation in sources:
        node.add(_source(plan, sources[relation]) + gates)
        return
    step = steps.get(relation)
    if isinstance(step, ScoreStepPlan):
        _below(node.add(_score(plan, step) + gates), plan, step.input, drawn)
    elif isinstance(step, SqlStepPlan):
        branch = node.add(f"[bold]{step.name}[/]  SQL, {_columns([column.name for column in step.columns])}" + gates)
        for read in step.reads:
            name = next((known for known in (*steps, *sources) if known.lower() == read.lower()), read)
            _below(branch, plan, name, drawn)


def _sink(plan: Plan, sink: SinkPlan) -> str:
    gates = "".join(
        f"\n[dim]gate[/] {gate.name}: {_gate(gate.expectations)}"
        for gate in plan.gates
        if gate.on == f"sink:{sink.name}"
    )
    count = sum(
        len(output.directories)
        for interval in plan.intervals
        for output in interval.outputs
        if output.sink == sink.name
    )
    action = "appends to" if sink.mode == "append_once" else "replaces"
    replaced = f", {action} {plural(count, 'partition')}" if count else f", {sink.mode}"
    return f"[bold green]{sink.name}[/]  publishes to {escape(sink.path)} by {', '.join(sink.partition_by)}{replaced}{gates}"


def _source(plan: Plan, source: SourcePlan) -> str:
    lines = [f"[bold cyan]{source.name}[/]  {source.format} {escape(source.path)}"]
    lines.append(f"reads {_columns(source.read)}")
    if source.selection:
        directories = plan.selected_directories(source.name)
        lines.append(escape(f"{source.selection}{f': {directories}' if directories else ''}"))
    if source.filters:
        lines.append(f"where {escape(' AND '.join(source.filters))}")
    inputs = [item for interval in plan.intervals for item in interval.inputs if item.source == source.name]
    if inputs:
        files = {file.path: file.length for item in inputs for file in item.files}
        partitions = {directory for item in inputs for directory in item.directories}
        size = byte_size(sum(files.values()))
        within = "" if partitions == {""} else f" in {plural(len(partitions), 'partition')}"
        lines.append(f"{plural(len(files), 'file')}, {size}{within}")
    return "\n".join(lines)


def _score(plan: Plan, step: ScoreStepPlan) -> str:
    model = next(model for model in plan.models if model.name == step.model)
    outputs = ", ".join(f"{output.name} {output.type}" for output in step.outputs)
    pinned = (
        f"v{model.version}, sha256 {model.digest[:12]}, {model.format}, {byte_size(model.size_bytes)}"
        if model.digest
        else "not resolved yet"
    )
    lines = [
        f"[bold magenta]{step.name}[/]  scores with [bold]{model.name}[/] ({escape(model.uri)}: {pinned}) -> {outputs}",
        f"operator {step.operator}: {step.operator_reason}",
    ]
    return "\n".join(lines)


def _columns(names: tuple[str, ...] | list[str]) -> str:
    if not names:
        return "`plan` reads the columns from the data"
    names = [escape(name) for name in names]
    more = f", and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return f"{plural(len(names), 'column')}: {', '.join(names[:NAMES_SHOWN])}{more}"


def _gate(expectations: tuple[object, ...]) -> str:
    return plural(len(expectations), "expectation")
