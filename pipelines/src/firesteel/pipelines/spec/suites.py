"""`gates.NAME.suite: file.json`: a suite of Great Expectations, as its own store writes it, in place of `expect`.

::

    {"name": "flights", "expectations": [{"type": "expect_...", "kwargs": {...}, "severity": "warning", "id": ...}, ...]}

Done on the tree, like `features.py`: an expectation of a suite is checked as one of the spec, and what is wrong with it is said with
its place in the file. Files of Great Expectations before 1.0 (`expectation_type`) are read as well.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from firesteel.conf.errors import FiresteelError, SpecError, SpecErrors, Where
from firesteel.pipelines.spec.refs import has_reference
from firesteel.pipelines.spec.tree import Node, parse_tree

_OURS_TO_CHOOSE = {"batch_id", "catch_exceptions", "include_config", "result_format"}
"""Arguments that change no verdict. Files of Great Expectations before 1.0 are full of them."""
_SAID = ("description", "notes")
_SEVERITIES = {"critical": "critical", "warning": "warning", "info": "warning"}


def expand_suites(tree: Node, folder: Path, errors: list[FiresteelError]) -> Node:
    """The tree with the expectations of each gate's suite before those of its `expect`.

    Parameters
    ----------
    folder
        The spec's: a suite lies in it.
    errors
        What is wrong is added here; such a gate keeps its `suite`.
    """
    gates = _mapping(_mapping(tree).get("gates"))
    found = {name: _expanded(gate, folder, errors) for name, gate in gates.items()}
    if all(found[name] is gates[name] for name in gates):
        return tree
    return replace(tree, value={**_mapping(tree), "gates": replace(_mapping(tree)["gates"], value=found)})


def _expanded(gate: Node, folder: Path, errors: list[FiresteelError]) -> Node:
    named = _mapping(gate).get("suite")
    if named is None or not isinstance(named.value, str):
        return gate
    try:
        expectations = _read(named.value, folder, named.where)
    except SpecErrors as wrong:
        errors += wrong.errors
        return gate
    inline = _mapping(gate).get("expect")
    if inline is not None and not isinstance(inline.value, list):
        return gate  # what is wrong with it is for the schema to say
    more = inline.value if inline is not None and isinstance(inline.value, list) else []
    rest = {key: node for key, node in _mapping(gate).items() if key != "suite"}
    return replace(gate, value={**rest, "expect": replace(named, value=[*expectations, *more])})


def _read(name: str, folder: Path, where: Where) -> list[Node]:
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise _error("FS1015", f"suite `{name}` is outside the spec's folder.", where)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        problem = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise _error("FS1001", f"cannot read suite `{name}`: {problem}.", where) from None
    try:
        json.loads(text)
    except (ValueError, RecursionError) as error:
        at = Where(name, error.lineno, error.colno) if isinstance(error, json.JSONDecodeError) else Where(name)
        what = error.msg if isinstance(error, json.JSONDecodeError) else "nested too deeply"
        raise _error("FS1002", f"not valid JSON: {what}.", at) from None
    # Within JSON a tab is white space, and YAML takes none; everything else of JSON is YAML, which knows its places.
    parsed = parse_tree(text.replace("\t", " "), name)
    if parsed.errors:
        raise SpecErrors.of(list(parsed.errors))
    listed = _mapping(parsed.root).get("expectations")
    if listed is None or not isinstance(listed.value, list) or not listed.value:
        hint = "A suite is what Great Expectations keeps below gx/expectations."
        raise _error("FS1005", f"`expectations` is missing in suite `{name}`.", parsed.root.where, hint)
    return [_expectation(each) for each in listed.value]


def _expectation(node: Node) -> Node:
    """One entry of a suite as one of `expect`."""
    entry = _mapping(node)
    type_ = entry.get("type") or entry.get("expectation_type")
    if type_ is None or not isinstance(type_.value, str):
        raise _error("FS1005", "`type` is missing in an expectation of the suite.", node.where)
    kwargs = _mapping(entry.get("kwargs"))
    for key, value in kwargs.items():
        if "$PARAMETER" in _mapping(value):
            what = f"{type_.value}: `{key}` is a suite parameter, which only a checkpoint of Great Expectations knows."
            raise _error("FS1004", what, value.where, "Write the value itself into the suite.")
        if has_reference(json.dumps(value.plain(), default=str)):
            what = f"{type_.value}: `{key}` holds a reference, and suites are taken as they are."
            raise _error("FS1019", what, value.where, "Put the expectation into `expect`, or write the value itself.")
    made = {key: value for key, value in kwargs.items() if key not in _OURS_TO_CHOOSE}
    said = {key: entry[key] for key in _SAID if key in entry and entry[key].value is not None}
    severity = entry.get("severity")
    if severity is not None and severity.value is not None:
        made["severity"] = replace(severity, value=_SEVERITIES.get(str(severity.value), severity.value))
    return replace(node, value={**said, **made, "type": type_})


def _error(code: str, what: str, where: Where, hint: str = "") -> SpecErrors:
    return SpecErrors((SpecError(code, what, where=where, hint=hint),))


def _mapping(node: Node | None) -> dict[str, Node]:
    return node.value if node is not None and isinstance(node.value, dict) else {}
