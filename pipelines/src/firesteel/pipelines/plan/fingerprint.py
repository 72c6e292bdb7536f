"""Hashes of a plan. They decide when an interval is scored again.

The input of `code_hash` is the meaning of the spec. It excludes comments, the order of keys, descriptions, resources, security,
tracking, storage, Spark settings that change no row, values of location params (`type: uri`), the policy for the packages of models,
and comments and white space in SQL.
`plan_hash` adds the models' digests, the environment, the interval and its input manifest. Its inputs are stored by name, so that
a later plan can report which of them changed.
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
"""(name, fingerprint) of each hash input, sorted by name."""

GATE = "gate "
"""Prefix of the hash input of a gate."""

Args = tuple[tuple[str, tuple[tuple[str, JsonValue], ...]], ...]
"""SQL step -> arg -> value."""

_EXCLUDED = {"owner", "description", "storage", "resources", "security", "tracking", "profiles", "params"}
_SCORE_EXECUTION = ("workers", "warmup")
"""Keys of a score step that change no row. An unpublished challenger and the tolerance change none either."""
_SINK_EXECUTION = ("retain", "files", "compression", "on_empty", "min_rows")
"""Keys of a sink that change no row."""
_TEXTS = {"description", "meta", "notes"}
"""Texts about an expectation."""


def code_parts(canonical: Spec, sql: Mapping[str, str]) -> Parts:
    """Return the hash inputs `spec` and `gate NAME` of each gate. Most gates change no row; those that exclude rows are in both.

    Parameters
    ----------
    canonical
        The spec with location params left as references.
    sql
        Canonical SQL of each SQL step, which replaces the text.
    """
    meaning = canonical.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude=_EXCLUDED)
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
        model.pop("requirements", None)
        if name not in published:
            model.pop("challenger", None)
        elif "challenger" in model:
            model["challenger"].pop("tolerance", None)
    for step in meaning.get("steps", {}).values():
        for name in _SCORE_EXECUTION:
            step.get("score", {}).pop(name, None)
    meaning["interval"].pop("batch_concurrency", None)
    for source in meaning["sources"].values():
        source.pop("verify", None)  # the input manifests have its effect
    for sink in meaning.get("sinks", {}).values():
        for name in _SINK_EXECUTION:
            sink.pop(name, None)
    settings = {key: value for key, value in meaning.pop("configuration", {}).items() if changes_results(key)}
    if settings:
        meaning["configuration"] = settings
    gates = meaning.pop("gates", {})
    for gate in gates.values():
        gate["expect"] = [
            {key: value for key, value in expect.items() if key not in _TEXTS} for expect in gate.get("expect", [])
        ]
    if excluding := _excluding(gates):
        meaning["gates"] = excluding
    return (*((f"{GATE}{name}", _digest(gate)) for name, gate in sorted(gates.items())), ("spec", _digest(meaning)))


def _excluding(gates: Mapping[str, Any]) -> list[Any]:
    """Return the expectations that exclude rows, without the names of their gates."""
    expectations = [
        [gate["on"], expect]
        for gate in gates.values()
        for expect in gate["expect"]
        if expect.get("on_fail") in {"quarantine", "drop"}
    ]
    return sorted(expectations, key=lambda item: json.dumps(item, sort_keys=True, default=str))


def code_hash(parts: Parts) -> str:
    """Return the SHA-256 (hex) of the spec's meaning."""
    return _digest(parts)


def hash_inputs(
    code: Parts, models: Iterable[ModelPlan], environment: str, inputs: Iterable[SourceInput], args: Args = ()
) -> Parts:
    """Return the hash inputs of one interval by name; `args` are the args that refer to the interval."""
    parts = dict(code)
    if args:
        parts["args"] = _digest([[step, dict(values)] for step, values in args])
    parts |= {f"model {model.name}": f"v{model.version} {model.digest}" for model in models}
    parts["environment"] = environment
    parts |= {f"input {source.source}": _manifest(source) for source in inputs}
    return tuple(sorted(parts.items()))


def plan_hash(parts: Parts, interval: str) -> str:
    """Return the SHA-256 (hex) of one interval's hash inputs: equal hashes mean equal results.

    A model's version is not part of the hash: the same files under another version give the same hash.
    """
    meaning = {name: text.partition(" ")[2] if name.startswith("model ") else text for name, text in parts}
    return _digest({"interval": interval, "parts": meaning})


def changed_parts(before: Parts, now: Parts) -> tuple[str, ...]:
    """Return a description of each hash input that differs."""
    old, new = dict(before), dict(now)
    return tuple(
        f"{name} ({_short(old.get(name))} -> {_short(new.get(name))})"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    )


def changed_gates(before: Parts, now: Parts) -> frozenset[str] | None:
    """Return the names of the gates that were changed, added or removed; None if another hash input differs, too."""
    changed = {name for name, _ in set(before) ^ set(now)}
    if not all(name.startswith(GATE) for name in changed):
        return None
    return frozenset(name.removeprefix(GATE) for name in changed)


def _manifest(source: SourceInput) -> str:
    size = byte_size(sum(file.length for file in source.files))
    digest = _digest([[*file.identity] for file in source.files])
    return f"{len(source.files)} files, {size}, {digest}"


def _short(text: str | None) -> str:
    """Return a fingerprint with its digest cut to eight digits."""
    if text is None:
        return "none"
    head, _, last = text.rpartition(" ")
    return f"{head} {last[:8]}".strip() if len(last) == 64 else text


def _digest(value: JsonValue | Mapping[str, object] | Parts) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
