"""Check the JSON of an event against the classes of the official client: every key must be known, every facet of the class that it names."""

from __future__ import annotations

import importlib
import json
import pkgutil
import types
import typing
from enum import Enum
from pathlib import Path
from typing import Any

import attr
import jsonschema
import openlineage.client.generated
from openlineage.client.event_v2 import RunEvent

from firesteel.jobs.lineage.facets import FiresteelModelFacet, FiresteelRunFacet

OWN = json.loads((Path(__file__).parents[2] / "docs" / "reference" / "lineage-facets.json").read_text())


def _facet_classes() -> dict[str, type]:
    found: dict[str, type] = {}
    for module in pkgutil.iter_modules(openlineage.client.generated.__path__):
        for each in vars(importlib.import_module(f"openlineage.client.generated.{module.name}")).values():
            if isinstance(each, type) and hasattr(each, "_get_schema"):
                found[each._get_schema()] = each
    for own in (FiresteelRunFacet, FiresteelModelFacet):
        found[own._get_schema()] = own
    return found


_FACETS = _facet_classes()


def check_event(event: dict[str, Any]) -> RunEvent:
    """Return the event as an object of the client. Raise AssertionError or ValueError if it is not valid."""
    found = _build(RunEvent, event, "event")
    for place in (event["run"], event["job"], *event["inputs"], *event["outputs"]):
        for facet in place["facets"].values():
            if facet["_schemaURL"].startswith(OWN["$id"]):
                jsonschema.validate(facet, {**OWN, "$ref": facet["_schemaURL"].removeprefix(OWN["$id"])})
    return found


def _build(kind: Any, value: Any, place: str) -> Any:
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        return _one_of([arg for arg in args if arg is not type(None)], value, place)
    if origin is dict:
        return {key: _build(args[1], each, f"{place}.{key}") for key, each in value.items()}
    if origin is list:
        return [_build(args[0], each, f"{place}[{index}]") for index, each in enumerate(value)]
    if origin is typing.Literal:
        assert value in args, place
        return value
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind(value)
    if isinstance(kind, type) and attr.has(kind):
        return _object(kind, value, place)
    assert isinstance(value, int | float if kind is float else kind), f"{place}: {value!r} is no {kind}"
    return value


def _one_of(kinds: list[Any], value: Any, place: str) -> Any:
    problems = []
    for kind in kinds:
        if isinstance(value, dict) and attr.has(kind):
            tag = next((field.default for field in attr.fields(kind) if field.name == "type"), attr.NOTHING)
            if tag is not attr.NOTHING and tag != value.get("type"):
                continue
        try:
            return _build(kind, value, place)
        except (AssertionError, TypeError, ValueError) as error:
            problems.append(str(error))
    raise AssertionError(f"{place}: {value!r} fits none: {problems}")


def _object(kind: type, value: dict[str, Any], place: str) -> Any:
    assert isinstance(value, dict), f"{place}: {value!r} is no object"
    if "_schemaURL" in value:
        named = _FACETS[value["_schemaURL"]]
        base = getattr(kind, "__name__", "")
        assert issubclass(named, kind) or base == "DatasetFacet", f"{place}: {named} is no {kind}"
        kind = named
    fields = {field.name: field for field in attr.fields(kind)}
    assert value.keys() <= fields.keys(), f"{place}: unknown {value.keys() - fields.keys()}"
    hints = typing.get_type_hints(kind, None, {"Any": Any, "ClassVar": typing.ClassVar})
    arguments, missing = {}, []
    for name, field in fields.items():
        if name in value:
            built = _build(hints[name], value[name], f"{place}.{name}")
            if field.init:
                arguments[field.alias] = built
        elif field.default is attr.NOTHING:
            missing.append(name)
    assert not missing, f"{place}: {missing} are missing"
    return kind(**arguments)
