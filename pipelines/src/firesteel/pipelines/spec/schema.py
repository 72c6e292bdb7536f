"""The JSON Schema of a spec, generated from its data model."""

from __future__ import annotations

from typing import Any

from firesteel.pipelines.spec.model import Spec


def spec_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) for editors. Scalars also accept text, because any value may be a `${...}` reference."""
    schema = Spec.model_json_schema(by_alias=True)
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "firesteel pipeline"
    _allow_references(schema)
    return schema


def _allow_references(node: Any) -> None:
    """Also allow a reference, which is text, for each number, boolean and list."""
    if isinstance(node, dict):
        if "oneOf" in node:  # a reference can match more than one choice
            node["anyOf"] = node.pop("oneOf")
        for value in list(node.values()):
            _allow_references(value)
        kind = node.get("type")
        if isinstance(kind, str) and kind in {"integer", "number", "boolean", "array"}:
            constraints = {key: node.pop(key) for key in list(node) if key not in {"default", "description", "title"}}
            node["anyOf"] = [constraints, {"type": "string", "pattern": r"^\$\{[^}]+\}$"}]
    elif isinstance(node, list):
        for value in node:
            _allow_references(value)
