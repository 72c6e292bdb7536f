"""Hashes of a plan: what they are made of decides when work is done again.

`code_hash` is made of the meaning of the spec: comments, order of keys, descriptions, resources, tracking, storage and
the values of location params (`type: uri`) are left out, and SQL counts without comments and white space.
`plan_hash` adds the models' digests, the environment, the interval and its input manifest.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping

from pydantic import JsonValue

from firesteel.pipelines.plan.model import ModelPlan, SourceInput
from firesteel.pipelines.spec.model import Spec

_LEFT_OUT = {"owner", "description", "storage", "resources", "tracking", "profiles", "params"}


def code_hash(canonical: Spec, sql: Mapping[str, str]) -> str:
    """SHA-256 (hex) of what the pipeline means.

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
    for gate in meaning.get("gates", {}).values():
        gate.pop("description", None)
    return _digest(meaning)


def plan_hash(
    code: str, models: Iterable[ModelPlan], environment: str, interval: str, inputs: Iterable[SourceInput]
) -> str:
    """SHA-256 (hex) of one interval's work: equal hashes mean equal results."""
    return _digest(
        {
            "code": code,
            "models": {model.name: [model.digest, model.method] for model in models},
            "environment": environment,
            "interval": interval,
            "inputs": {
                each.source: [[file.path, file.length, file.modified_ms] for file in each.files] for each in inputs
            },
        }
    )


def _digest(value: JsonValue | Mapping[str, object]) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
