"""Parts of the language that this version does not do yet. They are refused with FS1090; nothing is silently ignored."""

from __future__ import annotations

from collections.abc import Iterator

from firesteel.conf.errors import FiresteelError, SpecError
from firesteel.pipelines.spec.model import ScoreStep, Spec
from firesteel.pipelines.spec.tree import KeyPath, Node


def unsupported(spec: Spec, tree: Node) -> list[FiresteelError]:
    """One error for each use of what is not there yet."""
    return [
        SpecError(
            "FS1090",
            f"`{'.'.join(map(str, path))}` {what} is not supported yet.",
            where=tree.nearest(path).where,
            hint="Leave it out for now.",
        )
        for path, what in _uses(spec)
    ]


def _uses(spec: Spec) -> Iterator[tuple[KeyPath, str]]:
    interval = spec.interval
    if interval.batch_size != 1:
        yield ("interval", "batch_size"), "other than 1"
    scores = [name for name, step in spec.steps.items() if isinstance(step, ScoreStep)]
    yield from ((("steps", name), "as a second score step") for name in scores[1:])
    if len(spec.sinks) > 1:
        yield ("sinks", list(spec.sinks)[1]), "(more than one sink)"
