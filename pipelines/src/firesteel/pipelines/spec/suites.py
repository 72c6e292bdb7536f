"""Expand `gates.NAME.suite: file.json`, the JSON file of a Great Expectations suite.

::

    {"name": "flights", "expectations": [{"type": "expect_...", "kwargs": {...}, "severity": "warning", "id": ...}, ...]}

The expansion works on the tree, as in `features.py`: expectations of a suite are checked like those of the spec, and errors show
their location in the suite's file. Files of Great Expectations before 1.0 (`expectation_type`) work too.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from firesteel.conf.errors import FiresteelError, SpecError, SpecErrors, Where
from firesteel.conf.files import UnusableFileError, read_user_text
from firesteel.pipelines.spec.refs import has_reference
from firesteel.pipelines.spec.tree import Node, parse_tree

_IGNORED = {"batch_id", "catch_exceptions", "include_config", "result_format"}
"""Arguments that do not change the result. Files of Great Expectations before 1.0 contain many."""
_TEXTS = ("description", "notes")
_SEVERITIES = {"critical": "critical", "warning": "warning", "info": "warning"}


def expand_suites(tree: Node, folder: Path, errors: list[FiresteelError]) -> Node:
    """Return the tree with the expectations of each gate's suite before those of its `expect`.

    Parameters
    ----------
    folder
        The spec's folder, which contains the suites.
    errors
        Errors are added to this list; a gate with an error keeps its `suite`.
    """
    gates = _mapping(_mapping(tree).get("gates"))
    expanded = {name: _expanded(gate, folder, errors) for name, gate in gates.items()}
    if all(expanded[name] is gates[name] for name in gates):
        return tree
    return replace(tree, value={**_mapping(tree), "gates": replace(_mapping(tree)["gates"], value=expanded)})


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
        return gate  # the schema reports the error
    more = inline.value if inline is not None and isinstance(inline.value, list) else []
    rest = {key: node for key, node in _mapping(gate).items() if key != "suite"}
    return replace(gate, value={**rest, "expect": replace(named, value=[*expectations, *more])})


def _read(name: str, folder: Path, where: Where) -> list[Node]:
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise _error("FS1015", f"suite `{name}` is outside the spec's folder.", where)
    try:
        text = read_user_text(path)
    except UnusableFileError as error:
        raise _error("FS1001", f"suite `{name}` {error.why}.", where) from None
    try:
        json.loads(text)
    except (ValueError, RecursionError) as error:
        at = Where(name, error.lineno, error.colno) if isinstance(error, json.JSONDecodeError) else Where(name)
        what = error.msg if isinstance(error, json.JSONDecodeError) else "nested too deeply"
        raise _error("FS1002", f"suite `{name}` is not valid JSON: {what}.", at) from None
    # JSON is YAML except for tabs, which YAML refuses. The YAML parser gives locations.
    parsed = parse_tree(text.replace("\t", " "), name)
    if parsed.errors:
        raise SpecErrors.of(list(parsed.errors))
    listed = _mapping(parsed.root).get("expectations")
    if listed is None or not isinstance(listed.value, list) or not listed.value:
        hint = "Use a suite file that Great Expectations wrote, from gx/expectations."
        raise _error("FS1005", f"`expectations` is missing in suite `{name}`.", parsed.root.where, hint)
    return [_expectation(item) for item in listed.value]


def _expectation(node: Node) -> Node:
    """Return an entry of a suite in the format of `expect`."""
    entry = _mapping(node)
    type_ = entry.get("type") or entry.get("expectation_type")
    if type_ is None or not isinstance(type_.value, str):
        raise _error("FS1005", "`type` is missing in an expectation of the suite.", node.where)
    kwargs = _mapping(entry.get("kwargs"))
    for key, value in kwargs.items():
        if "$PARAMETER" in _mapping(value):
            what = f"{type_.value}: `{key}` is a suite parameter; only a Great Expectations checkpoint has its value."
            raise _error("FS1004", what, value.where, "Write the value into the suite.")
        if has_reference(json.dumps(value.plain(), default=str)):
            what = f"{type_.value}: `{key}` contains a reference; references in suites are not resolved."
            raise _error("FS1019", what, value.where, "Move the expectation to `expect`, or write the value.")
    arguments = {key: value for key, value in kwargs.items() if key not in _IGNORED}
    texts = {key: entry[key] for key in _TEXTS if key in entry and entry[key].value is not None}
    severity = entry.get("severity")
    if severity is not None and severity.value is not None:
        arguments["severity"] = replace(severity, value=_SEVERITIES.get(str(severity.value), severity.value))
    return replace(node, value={**texts, **arguments, "type": type_})


def _error(code: str, what: str, where: Where, hint: str = "") -> SpecErrors:
    return SpecErrors((SpecError(code, what, where=where, hint=hint),))


def _mapping(node: Node | None) -> dict[str, Node]:
    return node.value if node is not None and isinstance(node.value, dict) else {}
