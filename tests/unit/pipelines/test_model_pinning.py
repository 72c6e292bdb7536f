"""The packages of the planner are compared with those that a model requires only if executors have the same Python."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from firesteel.pipelines.planner.models import sets_python
from support.data import write_days
from support.specs import FixedBackend, example_with

DAY = "2013-06-01"
METHOD = "    method: predict_proba"


class Asked(FixedBackend):
    """Keeps the policies that it was asked to apply."""

    def __init__(self) -> None:
        super().__init__()
        self.policies: list[str] = []

    def resolve_model(self, name, model, tracking_uri, where):
        self.policies.append(model.requirements)
        return super().resolve_model(name, model, tracking_uri, where)


@pytest.mark.parametrize(
    ("changes", "options", "asked"),
    [
        ({}, {}, "enforce"),
        ({METHOD: f"{METHOD}\n    requirements: warn"}, {}, "warn"),
        ({METHOD: f"{METHOD}\n    requirements: warn"}, {"other_python": True}, "ignore"),
        ({}, {"other_python": True}, "ignore"),
        ({"configuration: {": "configuration: {spark.pyspark.python: ./environment/bin/python, "}, {}, "ignore"),
    ],
)
def test_the_policy_reaches_the_planner_and_the_executors(tmp_path, changes, options, asked):
    from firesteel.pipelines import Pipeline

    write_days(tmp_path / "data", [DAY])
    challenger = {
        "    uri: models:/flight_delay@champion": "    challenger: models:/flight_delay@next\n    uri: models:/flight_delay@champion"
    }
    path = example_with(tmp_path / "project", {**changes, **challenger})
    backend = Asked()
    pipeline = Pipeline.load(path, params={"root": f"file://{tmp_path}/data"}, backend=backend)
    plan = pipeline.plan(DAY, **options)
    assert backend.policies == [asked, asked], "the challenger has the model's policy"
    written = "warn" if METHOD in changes else "enforce"
    assert (plan.models[0].requirements, plan.score_step.challenger.pinned.requirements) == (written, written)


@pytest.mark.parametrize(
    ("master", "settings", "environment", "expected"),
    [
        ("local[2]", {}, None, False),
        ("yarn", {"spark.executor.memory": "1g"}, None, False),
        ("yarn", {}, sys.executable, False),
        ("yarn", {}, str(Path(sys.executable).with_name("python3")), False),
        ("yarn", {}, "/bin/sh", True),
        ("yarn", {}, "no-such-python", True),
        ("yarn", {"spark.pyspark.python": "/opt/python"}, None, True),
        ("yarn", {"spark.pyspark.python": sys.executable}, None, False),
        ("yarn", {"spark.pyspark.python": ""}, None, False),
        ("yarn", {"spark.kubernetes.container.image": "image"}, None, True),
        ("yarn", {"spark.executorEnv.PYSPARK_PYTHON": "/opt/python"}, None, True),
        ("k8s://https://host", {}, None, True),
    ],
)
def test_settings_and_the_environment_give_executors_another_python(
    monkeypatch, master, settings, environment, expected
):
    monkeypatch.delenv("PYSPARK_PYTHON", raising=False)
    if environment:
        monkeypatch.setenv("PYSPARK_PYTHON", environment)
    assert sets_python(master, settings) == expected
