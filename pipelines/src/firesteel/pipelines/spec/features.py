"""Expand `features: {model_column: sql expression}` into a SQL step before the score step.

::

    scored: {score: {input: rows, keep: [id], features: {x: "a / 2", y: b}, ...}}

    scored_features: {sql: "SELECT `id`, (a / 2) AS `x`, (b) AS `y` FROM `rows`"}
    scored: {score: {input: scored_features, keep: [id], features: [x, y], ...}}

The expansion works on the tree, so errors in an expression show its location in `features`.
"""

from __future__ import annotations

from dataclasses import replace

from firesteel.conf.errors import FiresteelError, SpecError
from firesteel.pipelines.spec.tree import Node


def expand_features(tree: Node, errors: list[FiresteelError]) -> Node:
    """Return the tree with a SQL step before each score step whose `features` is a mapping."""
    steps = _mapping(_mapping(tree).get("steps"))
    taken = {name.lower() for name in (*steps, *_mapping(_mapping(tree).get("sources")))}
    expanded: dict[str, Node] = {}
    for name, step in steps.items():
        score = _mapping(step).get("score")
        if score is None or not _is_expandable(_mapping(score)):
            expanded[name] = step
            continue
        before = f"{name}_features"
        if before.lower() in taken:
            what = f"`{before}` already exists; `features` of {name} needs this name for its SELECT."
            errors.append(SpecError("FS1013", what, where=_mapping(score)["features"].where, hint="Rename the other."))
        expanded[before] = replace(step, value={"sql": _select(_mapping(score), errors)})
        expanded[name] = replace(step, value={**_mapping(step), "score": _rewritten(score, before)})
    if expanded.keys() == steps.keys():
        return tree
    return replace(tree, value={**_mapping(tree), "steps": replace(_mapping(tree)["steps"], value=expanded)})


def _is_expandable(score: dict[str, Node]) -> bool:
    """Return whether `features` maps to texts and the step has the other keys. The schema reports missing keys."""
    features, keep, relation = _mapping(score.get("features")), score.get("keep"), score.get("input")
    columns = keep.value if keep is not None else []
    return (
        bool(features)
        and all(isinstance(expression.value, str) for expression in features.values())
        and isinstance(columns, list)
        and all(isinstance(column.value, str) for column in columns)
        and relation is not None
        and isinstance(relation.value, str)
    )


def _select(score: dict[str, Node], errors: list[FiresteelError]) -> Node:
    keep = score["keep"].value if "keep" in score else []
    kept = [str(column.value) for column in keep] if isinstance(keep, list) else []
    columns = [_quoted(name) for name in kept]
    for name, expression in _mapping(score["features"]).items():
        text = str(expression.value).strip()
        if name.lower() not in {column.lower() for column in kept}:
            columns.append(f"({text}\n) AS {_quoted(name)}")  # the line break ends a comment at the end of the text
        elif text.strip("`").lower() != name.lower():
            what = f"`{name}` is both a column of `keep` and a feature computed as `{text}`."
            errors.append(
                SpecError("FS1013", what, where=expression.where, hint="Rename the kept column in a SQL step.")
            )
    sql = f"SELECT {', '.join(columns)} FROM {_quoted(str(score['input'].value))}"  # noqa: S608 - the spec's own SQL
    return replace(score["features"], value=sql)


def _rewritten(score: Node, relation: str) -> Node:
    values = _mapping(score)
    names: list[Node] = [replace(expression, value=name) for name, expression in _mapping(values["features"]).items()]
    return replace(
        score,
        value={
            **values,
            "input": replace(values["input"], value=relation),
            "features": replace(values["features"], value=names),
        },
    )


def _quoted(name: str) -> str:
    return f"`{name.replace('`', '``')}`"


def _mapping(node: Node | None) -> dict[str, Node]:
    return node.value if node is not None and isinstance(node.value, dict) else {}
