"""Hashes of a plan: what they are made of decides when work is done again.

`code_hash` is made of the meaning of the spec: comments, order of keys, descriptions, resources, security, tracking, storage, Spark
settings that change no row, and the values of location params (`type: uri`) are left out, and SQL counts without comments
and white space.
`plan_hash` adds the models' digests, the environment, the interval and its input manifest. Its parts are kept by name,
so that a later plan can say which of them changed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import JsonValue

from firesteel.conf.quantities import byte_size
from firesteel.pipelines.plan.model import ModelPlan, SourceInput
from firesteel.pipelines.plan.settings import changes_results
from firesteel.pipelines.spec.model import Spec

Parts = tuple[tuple[str, str], ...]
"""(name, text that is equal when the part is), sorted by name."""

Args = tuple[tuple[str, tuple[tuple[str, JsonValue], ...]], ...]
"""SQL step -> arg -> value."""

_LEFT_OUT = {"owner", "description", "storage", "resources", "security", "tracking", "profiles", "params"}
_HOW = ("workers", "warmup")
"""What of a score step changes no row. Neither does a challenger that is not published, nor its tolerance."""
_CHECKED_OR_KEPT = ("retain", "files", "on_empty", "min_rows")
"""What of a sink changes no row."""
_SAID = {"description", "meta", "notes"}
"""What people write about an expectation."""


def code_parts(canonical: Spec, sql: Mapping[str, str]) -> Parts:
    """Return the spec's meaning by part. Gates are a part of their own, except for expectations that exclude rows.

    Parameters
    ----------
    canonical
        The spec with location params left as references.
    sql
        Canonical SQL of each SQL step: replaces the text.
    """
    meaning = canonical.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude=_LEFT_OUT)
    for name, text in sql.items():
        step = meaning["steps"][name]
        step.pop("sql_file", None)
        step["sql"] = text
    published = {
        step["score"]["model"]
        for step in meaning.get("steps", {}).values()
        if step.get("score", {}).get("publish_challenger")
    }
    for name, model in meaning.get("models", {}).items():
        if name not in published:
            model.pop("challenger", None)
        elif "challenger" in model:
            model["challenger"].pop("tolerance", None)
    for step in meaning.get("steps", {}).values():
        for name in _HOW:
            step.get("score", {}).pop(name, None)
    meaning["interval"].pop("batch_concurrency", None)  # intervals do not know of those that run beside them
    for sink in meaning.get("sinks", {}).values():
        for name in _CHECKED_OR_KEPT:
            sink.pop(name, None)
    settings = {key: value for key, value in meaning.pop("configuration", {}).items() if changes_results(key)}
    if settings:
        meaning["configuration"] = settings
    gates = meaning.pop("gates", {})
    for gate in gates.values():
        gate["expect"] = [
            {key: value for key, value in each.items() if key not in _SAID} for each in gate.get("expect", [])
        ]
    if taking := _taking(gates):
        meaning["gates"] = taking
    return (("gates", _digest(gates)), ("spec", _digest(meaning)))


def _taking(gates: Mapping[str, Any]) -> list[Any]:
    """The expectations that decide which rows are scored; what their gates are called does not matter."""
    found = [
        [gate["on"], each]
        for gate in gates.values()
        for each in gate["expect"]
        if each.get("on_fail") in {"quarantine", "drop"}
    ]
    return sorted(found, key=lambda each: json.dumps(each, sort_keys=True, default=str))


def code_hash(parts: Parts) -> str:
    """SHA-256 (hex) of what the pipeline means."""
    return _digest(parts)


def hash_inputs(
    code: Parts, models: Iterable[ModelPlan], environment: str, inputs: Iterable[SourceInput], args: Args = ()
) -> Parts:
    """Everything that one interval's result depends on, by name; `args` are those that differ from interval to interval."""
    parts = dict(code)
    if args:
        parts["args"] = _digest([[step, dict(values)] for step, values in args])
    parts |= {f"model {model.name}": f"v{model.version} {model.digest}" for model in models}
    parts["environment"] = environment
    parts |= {f"input {each.source}": _manifest(each) for each in inputs}
    return tuple(sorted(parts.items()))


def plan_hash(parts: Parts, interval: str) -> str:
    """SHA-256 (hex) of one interval's work: equal hashes mean equal results.

    A model's version is its name and no more: the same bytes under another version give the same hash.
    """
    meaning = {name: text.partition(" ")[2] if name.startswith("model ") else text for name, text in parts}
    return _digest({"interval": interval, "parts": meaning})


def what_changed(before: Parts, now: Parts) -> tuple[str, ...]:
    """The parts that differ, in words."""
    old, new = dict(before), dict(now)
    return tuple(
        f"{name} ({_short(old.get(name))} -> {_short(new.get(name))})"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    )


def _manifest(each: SourceInput) -> str:
    size = byte_size(sum(file.length for file in each.files))
    digest = _digest([[file.path, file.length, file.modified_ms] for file in each.files])
    return f"{len(each.files)} files, {size}, {digest}"


def _short(text: str | None) -> str:
    """Digests by their first eight digits."""
    if text is None:
        return "none"
    head, _, last = text.rpartition(" ")
    return f"{head} {last[:8]}".strip() if len(last) == 64 else text


def _digest(value: JsonValue | Mapping[str, object] | Parts) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
