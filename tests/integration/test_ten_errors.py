"""The ten errors that the design gives as examples of the tone, word for word, from real parts."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import mlflow
import pytest

from firesteel.conf.errors import FiresteelError
from firesteel.jobs.run.plan_runner import run_plan
from support.picky import PICKY
from support.runs import DAY

pytestmark = pytest.mark.integration

SPEC = {
    "FS1003": {"partition_by: [dt, origin]": "partiton_by: [dt, origin]"},
    "FS1007": {"path: ${param.root}/scores": "path: ${param.rooot}/scores"},
    "FS1011": {"  scored:\n": "  features: {sql: SELECT 1}\n  scored:\n"},
}
PLAN = {
    "FS2004": ({}, {"w.wind_speed": "w.wind_sped"}),
    "FS3002": ({}, {"f.dep_delay,": "CAST(f.dep_delay AS STRING) AS dep_delay,"}),
    "FS3005": ({"@champion": "@prod"}, {}),
    "FS3009": ({"formats: [skops, onnx]": "formats: [onnx]"}, {}),
}


@pytest.mark.parametrize("code", sorted(SPEC.keys() | PLAN.keys()))
def test_errors_of_specs_and_plans(code, project, golden):
    changes, sql = PLAN.get(code, (SPEC.get(code), {}))
    with pytest.raises(FiresteelError) as caught:
        project.pipeline(changes, sql).plan(DAY)
    golden(f"errors/{code}.txt", f"{caught.value}\n")


def test_an_input_that_is_not_ready(project, golden):
    marker = project.root.removeprefix("file://") + f"/flights/dt={DAY}/_SUCCESS"
    Path(marker).unlink()
    with pytest.raises(FiresteelError) as caught:
        project.pipeline(
            {"ready: {marker: _SUCCESS}\n    on_missing": "ready: {marker: _SUCCESS, timeout: 1s}\n    on_missing"}
        ).plan(DAY, wait=True)
    golden("errors/FS4001.txt", f"{caught.value}\n")


def test_more_bad_rows_than_the_budget(project, picky, spark, runs, golden):
    budget = {"max_rows: 1000, max_fraction: 0.001": "max_rows: 2, max_fraction: 1.0"}
    result = run_plan(replace(project, tracking=picky).pipeline({**PICKY, **budget}).plan(DAY), spark=spark, runs=runs)
    text = re.sub(r"\d{8}T\d{6}-\w{6}", "RUN", result.error.replace(project.root, "ROOT"))
    golden("errors/FS5003.txt", f"{text}\n")


def test_an_alias_that_moved(project, spark, runs, tmp_path, golden):
    tracking = f"sqlite:///{shutil.copy(project.tracking.removeprefix('sqlite:///'), tmp_path)}"
    client = mlflow.MlflowClient(tracking_uri=tracking, registry_uri=tracking)
    plan = replace(project, tracking=tracking).pipeline().plan(DAY)
    version = client.get_model_version_by_alias("flight_delay", "champion")
    client.create_model_version("flight_delay", version.source, run_id=version.run_id)
    client.set_registered_model_alias("flight_delay", "champion", "2")
    with pytest.raises(FiresteelError) as caught:
        run_plan(plan, spark=spark, runs=runs)
    text = re.sub(r"sha [0-9a-f]+", "sha DIGEST", str(caught.value))
    golden("errors/FS6002.txt", f"{re.sub(r'plan [0-9a-f]+', 'plan HASH', text)}\n")
