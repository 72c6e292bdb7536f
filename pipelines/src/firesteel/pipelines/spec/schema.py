"""The JSON Schema of a spec, from the one model."""

from __future__ import annotations

from typing import Any

from firesteel.pipelines.spec.model import Spec


def spec_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) for editors. Any value may also be a `${...}` reference, so scalars accept text as well."""
    schema = Spec.model_json_schema(by_alias=True)
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "firesteel pipeline"
    _allow_references(schema)
    return schema


def _allow_references(node: Any) -> None:
    """A number or boolean may be written as a reference, which is text until it is resolved."""
    if isinstance(node, dict):
        if "oneOf" in node:  # a reference may stand for any of the forms: more than one can match
            node["anyOf"] = node.pop("oneOf")
        for value in list(node.values()):
            _allow_references(value)
        kind = node.get("type")
        if isinstance(kind, str) and kind in {"integer", "number", "boolean", "array"}:
            kept = {key: node.pop(key) for key in list(node) if key not in {"default", "description", "title"}}
            node["anyOf"] = [kept, {"type": "string", "pattern": r"^\$\{[^}]+\}$"}]
    elif isinstance(node, list):
        for value in node:
            _allow_references(value)
