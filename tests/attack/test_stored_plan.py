"""The plan of a backfill waits in the storage, where others may be able to write: `--resume` runs the spec of its user, and nothing else."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from firesteel.conf.errors import NotAllowed, PlanDrift
from firesteel.jobs.run.backfill import load_or_plan
from firesteel.pipelines import Pipeline, Plan
from firesteel.pipelines.events import no_progress
from firesteel.pipelines.plan.model import LineagePlan, ScoreStepPlan
from support.data import write_days
from support.keys import Key, new_key
from support.specs import FixedBackend, example_with

FIRST, LAST = "2013-06-01", "2013-06-02"


def pipeline_of(tmp_path: Path, key: Key | None = None, changes: dict[str, str] | None = None) -> Pipeline:
    resources = 'resources: {master: "local[2]"}\n'
    signed = {resources: f'{resources}security: {{mode: none, signing_key: "{key.reference}"}}\n'} if key else {}
    spec = example_with(tmp_path / "project", signed | (changes or {}))
    return Pipeline.load(spec, params={"root": f"file://{tmp_path}/data"}, backend=FixedBackend())


@pytest.fixture
def pipeline(tmp_path) -> Pipeline:
    write_days(tmp_path / "data", [FIRST, LAST])
    return pipeline_of(tmp_path)


def start(pipeline: Pipeline, tmp_path: Path) -> Path:
    load_or_plan(pipeline, FIRST, LAST, resume=False, on_progress=no_progress)
    (stored,) = (tmp_path / "data").rglob("backfill/*/*.json")
    return stored


def resume(pipeline: Pipeline) -> Plan:
    return load_or_plan(pipeline, FIRST, LAST, resume=True, on_progress=no_progress)


def _steps(plan: Plan, **changes: object) -> Plan:
    steps = (replace(plan.steps[0], **changes), *plan.steps[1:])
    return replace(plan, steps=steps)


def _score(plan: Plan, **changes: object) -> Plan:
    return replace(
        plan, steps=tuple(replace(step, **changes) if isinstance(step, ScoreStepPlan) else step for step in plan.steps)
    )


def _models(plan: Plan, **changes: object) -> Plan:
    return replace(plan, models=tuple(replace(model, **changes) for model in plan.models))


FORGED = {
    "sql": lambda plan: _steps(plan, sql="SELECT 1 AS flight_id"),
    "args": lambda plan: _steps(plan, args=(("min_distance", 9999),)),
    "kept columns": lambda plan: _score(plan, keep=("flight_id",)),
    "a format that runs code": lambda plan: _models(plan, format="pickle"),
    "types that run code": lambda plan: _models(plan, skops_types=("subprocess.Popen",)),
    "another model": lambda plan: _models(plan, uri="/tmp/evil", resolved_uri="file:///tmp/evil"),
    "one model more": lambda plan: replace(plan, models=(*plan.models, replace(plan.models[0], name="more"))),
    "a huge model": lambda plan: _models(plan, size_bytes=1 << 50),
    "sink": lambda plan: replace(plan, sinks=(replace(plan.sinks[0], path="file:///tmp/other"),)),
    "source": lambda plan: replace(
        plan, sources=(replace(plan.sources[0], path="file:///etc"), *plan.sources[1:])
    ),
    "storage": lambda plan: replace(plan, storage="file:///tmp/other"),
    "no gates": lambda plan: replace(plan, gates=()),
    "settings": lambda plan: replace(
        plan, spark_conf=(*plan.spark_conf, ("spark.driver.extraJavaOptions", "-javaagent:/tmp/evil.jar"))
    ),
    "master": lambda plan: replace(plan, master="spark://evil:7077"),
    "server": lambda plan: replace(plan, tracking=replace(plan.tracking, uri="http://evil")),
    "lineage": lambda plan: replace(
        plan, tracking=replace(plan.tracking, openlineage=LineagePlan("http", "http://evil", "ns", 5.0, False))
    ),
    "pipeline": lambda plan: replace(plan, pipeline="other"),
    "no key": lambda plan: replace(plan, signing_key="${secret:a/b}"),
}  # fmt: skip


@pytest.mark.parametrize("what", FORGED)
def test_a_forged_plan_is_not_run_under_the_spec(pipeline, tmp_path, what):
    stored = start(pipeline, tmp_path)
    plan = resume(pipeline)
    forged = FORGED[what](replace(plan, file=None))
    stored.write_text(forged.to_json())  # with the right digest
    with pytest.raises(PlanDrift, match="FS6005.*does not match the spec"):
        resume(pipeline)


def test_a_new_version_of_the_model_and_new_data_are_no_difference(pipeline, tmp_path):
    """That is what a stored plan is for."""
    start(pipeline, tmp_path)
    later = Pipeline(pipeline.loaded, pipeline.analysis, FixedBackend(digest="e" * 64, version="8"))
    assert [model.version for model in resume(later).models] == ["7"]


def test_a_spec_that_was_changed_needs_a_new_plan(pipeline, tmp_path):
    start(pipeline, tmp_path)
    changed = pipeline_of(tmp_path, changes={"max_fraction: 0.001": "max_fraction: 0.9"})
    with pytest.raises(PlanDrift, match="FS6005"):
        resume(changed)


@pytest.mark.parametrize("harm", ["other key", "no signature", "other content"])
def test_with_a_key_the_stored_plan_must_be_signed_by_it(tmp_path, monkeypatch, harm):
    monkeypatch.setenv("FIRESTEEL_SECRETS_DIR", str(tmp_path / "secrets"))
    write_days(tmp_path / "data", [FIRST, LAST])
    key, other = new_key(tmp_path / "secrets", "key"), new_key(tmp_path / "secrets", "other")
    pipeline = pipeline_of(tmp_path, key)
    stored = start(pipeline, tmp_path)
    plan = resume(pipeline)
    assert plan.intervals
    if harm == "other key":
        start(pipeline_of(tmp_path, other), tmp_path)
        pipeline = pipeline_of(tmp_path, key)
    else:
        content = json.loads(replace(plan, file=None, owner="mallory").to_json())
        if harm == "other content":
            content |= {name: json.loads(stored.read_text())[name] for name in ("key", "signature")}
        stored.write_text(json.dumps(content))
    with pytest.raises(NotAllowed, match="FS7605"):
        resume(pipeline)
