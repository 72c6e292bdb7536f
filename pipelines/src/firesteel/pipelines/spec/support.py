"""A pipeline has one score step and one sink. More are refused with FS1090, and never ignored."""

from __future__ import annotations

from firesteel.conf.errors import FiresteelError, SpecError
from firesteel.pipelines.spec.model import ScoreStep, Spec
from firesteel.pipelines.spec.tree import Node


def unsupported(spec: Spec, tree: Node) -> list[FiresteelError]:
    """Return one error for each score step or sink after the first."""
    scores = [("steps", name) for name, step in spec.steps.items() if isinstance(step, ScoreStep)]
    sinks = [("sinks", name) for name in spec.sinks]
    return [
        SpecError(
            "FS1090",
            f"`{'.'.join(path)}` is a second {kind}; a pipeline has one.",
            where=tree.nearest(path).where,
            hint="Write a pipeline for each.",
        )
        for kind, paths in (("score step", scores), ("sink", sinks))
        for path in paths[1:]
    ]
