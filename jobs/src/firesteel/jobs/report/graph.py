"""Draw the pipeline as a graph of sources, steps, models and sinks, with the gate results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from firesteel.conf.quantities import plural
from firesteel.jobs.report.svg import element, picture
from firesteel.pipelines.plan.model import ScoreStepPlan

if TYPE_CHECKING:
    from collections.abc import Mapping

    from markupsafe import Markup

    from firesteel.pipelines.plan.model import Plan

NODE_W, NODE_H, GAP, LAYER_GAP, PAD = 166, 62, 16, 46, 4
_CHARACTERS = 22
"""Characters of 12 px text that fit into a node."""


@dataclass(frozen=True, slots=True)
class Node:
    """One relation. `inputs` are the relations that it reads; `gate` is a result such as `passed`, or empty."""

    name: str
    kind: Literal["source", "sql", "score", "sink"]
    note: str
    inputs: tuple[str, ...]
    gate: str = ""


def nodes_of(plan: Plan, verdicts: Mapping[str, str]) -> tuple[Node, ...]:
    """Return the plan's relations in topological order.

    Parameters
    ----------
    verdicts
        Gate results by relation (`flights`, `sink:scores`).
    """
    files: dict[str, set[str]] = {}
    for interval in plan.intervals:
        for scan in interval.inputs:
            files.setdefault(scan.source, set()).update(file.path for file in scan.files)
    nodes = [
        Node(
            source.name,
            "source",
            f"{source.format}, {plural(len(files.get(source.name, ())), 'file')}",
            (),
            verdicts.get(source.name, ""),
        )
        for source in plan.sources
    ]
    versions = {model.name: model.version for model in plan.models}
    for step in plan.steps:
        gate = verdicts.get(step.name, "")
        if isinstance(step, ScoreStepPlan):
            nodes.append(Node(step.name, "score", f"{step.model} v{versions[step.model]}", (step.input,), gate))
        else:
            nodes.append(Node(step.name, "sql", "SQL", step.reads, gate))
    nodes += [
        Node(
            f"sink:{sink.name}",
            "sink",
            f"{sink.format} by {', '.join(sink.partition_by)}",
            (sink.source,),
            verdicts.get(f"sink:{sink.name}", ""),
        )
        for sink in plan.sinks
    ]
    return tuple(nodes)


def draw(nodes: tuple[Node, ...], key: str, *, down: bool) -> Markup:
    """Draw the graph from left to right, or from top to bottom if `down` is set (for narrow screens)."""
    positions, width, height = _layout(nodes, down=down)
    edges = [
        element("path", d=_curve(positions[input_name], positions[node.name], down=down), class_="edge")
        for node in nodes
        for input_name in node.inputs
        if input_name in positions
    ]
    boxes = [_box(node, *positions[node.name]) for node in nodes]
    return picture(width, height, "Pipeline", describe(nodes), *edges, *boxes, class_="graph", key=key)


def describe(nodes: tuple[Node, ...]) -> str:
    """Return the graph as text."""
    sentences = []
    for node in nodes:
        name = node.name.removeprefix("sink:")
        gate = f" (gate {node.gate})" if node.gate else ""
        if node.kind == "source":
            sentences.append(f"Source {name}, {node.note}{gate}.")
        elif node.kind == "sink":
            sentences.append(f"Sink {name} is published from {', '.join(node.inputs)}{gate}.")
        elif node.kind == "score":
            sentences.append(f"Step {name} scores {', '.join(node.inputs)} with model {node.note}{gate}.")
        else:
            sentences.append(f"Step {name} reads {', '.join(node.inputs)}{gate}.")
    return " ".join(sentences)


def _layout(nodes: tuple[Node, ...], *, down: bool) -> tuple[dict[str, tuple[float, float]], float, float]:
    """Assign each relation to the layer after its deepest input, and sort each layer by the position of the inputs."""
    depth: dict[str, int] = {}
    for node in nodes:
        depth[node.name] = 1 + max((depth.get(input_name, -1) for input_name in node.inputs), default=-1)
    deepest = max(depth.values(), default=0)
    for node in nodes:
        if node.kind == "sink":
            depth[node.name] = deepest
    layers: list[list[Node]] = [[] for _ in range(deepest + 1)]
    for node in nodes:
        layers[depth[node.name]].append(node)
    along, across = (NODE_H, NODE_W) if down else (NODE_W, NODE_H)
    breadth = max((len(layer) for layer in layers), default=1) * (across + GAP) - GAP
    centre: dict[str, float] = {}
    places: dict[str, tuple[float, float]] = {}
    for level, layer in enumerate(layers):
        # The sort is stable: sources keep the order of the spec.
        layer.sort(
            key=lambda node: sum(centre.get(input_name, 0.0) for input_name in node.inputs) / max(1, len(node.inputs))
        )
        start = (breadth - (len(layer) * (across + GAP) - GAP)) / 2
        for index, node in enumerate(layer):
            cross = start + index * (across + GAP)
            centre[node.name] = cross + across / 2
            main = level * (along + LAYER_GAP)
            places[node.name] = (PAD + cross, PAD + main) if down else (PAD + main, PAD + cross)
    length = len(layers) * (along + LAYER_GAP) - LAYER_GAP + 2 * PAD
    size = breadth + 2 * PAD
    return places, (size if down else length), (length if down else size)


def _curve(start: tuple[float, float], end: tuple[float, float], *, down: bool) -> str:
    if down:
        x1, y1, x2, y2 = start[0] + NODE_W / 2, start[1] + NODE_H, end[0] + NODE_W / 2, end[1] - 5
        middle = (y1 + y2) / 2
        return f"M{x1:g} {y1:g} C{x1:g} {middle:g} {x2:g} {middle:g} {x2:g} {y2:g} m-4 -6 l4 6 l4 -6"
    x1, y1, x2, y2 = start[0] + NODE_W, start[1] + NODE_H / 2, end[0] - 5, end[1] + NODE_H / 2
    middle = (x1 + x2) / 2
    return f"M{x1:g} {y1:g} C{middle:g} {y1:g} {middle:g} {y2:g} {x2:g} {y2:g} m-6 -4 l6 4 l-6 4"


def _box(node: Node, x: float, y: float) -> Markup:
    name = node.name.removeprefix("sink:")
    lines = [
        element("title", name),
        element("rect", x=x, y=y, width=NODE_W, height=NODE_H, rx=8, class_=f"node {node.kind}"),
        element("text", _clip(name), x=x + 12, y=y + 22, class_="node-name"),
        element("text", _clip(f"{_KINDS[node.kind]}{node.note}"), x=x + 12, y=y + 38, class_="node-note"),
    ]
    if node.gate:
        state = "bad" if node.gate == "failed" else "warn" if node.gate == "warned" else "good"
        mark = {"good": "✓", "warn": "!", "bad": "✗"}[state]
        lines.append(element("text", f"{mark} gate {node.gate}", x=x + 12, y=y + 54, class_=f"node-gate {state}"))
    return element("g", *lines)


_KINDS = {"source": "", "sql": "step, ", "score": "score, ", "sink": ""}


def _clip(text: str) -> str:
    return text if len(text) <= _CHARACTERS else text[: _CHARACTERS - 1] + "…"
