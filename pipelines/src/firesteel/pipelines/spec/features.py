"""`features: {model_column: sql expression}`: a SELECT before the score, written for the user.

::

    scored: {score: {input: rows, keep: [id], features: {x: "a / 2", y: b}, ...}}

    scored_features: {sql: "SELECT `id`, (a / 2) AS `x`, (b) AS `y` FROM `rows`"}
    scored: {score: {input: scored_features, keep: [id], features: [x, y], ...}}

Done on the tree, where every value knows its place: what is wrong with an expression is said where `features` stands.
"""

from __future__ import annotations

from dataclasses import replace

from firesteel.conf.errors import FiresteelError, SpecError
from firesteel.pipelines.spec.tree import Node


def expand_features(tree: Node, errors: list[FiresteelError]) -> Node:
    """The tree with a SQL step before each score step whose `features` is a mapping; anything else stays as it is."""
    steps = _mapping(_mapping(tree).get("steps"))
    taken = {name.lower() for name in (*steps, *_mapping(_mapping(tree).get("sources")))}
    found: dict[str, Node] = {}
    for name, step in steps.items():
        score = _mapping(step).get("score")
        if score is None or not _is_expandable(_mapping(score)):
            found[name] = step
            continue
        before = f"{name}_features"
        if before.lower() in taken:
            what = f"`{before}` is the name of the SELECT that `features` of {name} stands for, and is taken."
            errors.append(SpecError("FS1013", what, where=_mapping(score)["features"].where, hint="Rename the other."))
        found[before] = replace(step, value={"sql": _select(_mapping(score), errors)})
        found[name] = replace(step, value={**_mapping(step), "score": _rewritten(score, before)})
    if found.keys() == steps.keys():
        return tree
    return replace(tree, value={**_mapping(tree), "steps": replace(_mapping(tree)["steps"], value=found)})


def _is_expandable(score: dict[str, Node]) -> bool:
    """Whether there is a mapping of texts, and all that a SELECT needs; what is missing is reported by the schema."""
    features, keep, relation = _mapping(score.get("features")), score.get("keep"), score.get("input")
    kept = keep.value if keep is not None else []
    return (
        bool(features)
        and all(isinstance(each.value, str) for each in features.values())
        and isinstance(kept, list)
        and all(isinstance(each.value, str) for each in kept)
        and relation is not None
        and isinstance(relation.value, str)
    )


def _select(score: dict[str, Node], errors: list[FiresteelError]) -> Node:
    keep = score["keep"].value if "keep" in score else []
    kept = [str(each.value) for each in keep] if isinstance(keep, list) else []
    columns = [_quoted(name) for name in kept]
    for name, expression in _mapping(score["features"]).items():
        text = str(expression.value).strip()
        if name.lower() not in {each.lower() for each in kept}:
            columns.append(f"({text}\n) AS {_quoted(name)}")  # the line ends whatever comment the text ends with
        elif text.strip("`").lower() != name.lower():
            what = f"`{name}` is kept as it is, and is a feature made of `{text}`."
            errors.append(
                SpecError("FS1013", what, where=expression.where, hint="Keep it under another name, by a SQL step.")
            )
    sql = f"SELECT {', '.join(columns)} FROM {_quoted(str(score['input'].value))}"  # noqa: S608 - the spec's own SQL
    return replace(score["features"], value=sql)


def _rewritten(score: Node, relation: str) -> Node:
    values = _mapping(score)
    names: list[Node] = [replace(each, value=name) for name, each in _mapping(values["features"]).items()]
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
