"""What `workers` asks for is what tasks get: CPUs in local mode, GPUs of a real standalone cluster with a stand-in for their discovery."""

from __future__ import annotations

import os
import sys

import cloudpickle
import mlflow
import pandas as pd
import pyarrow.compute as pc
import pytest
from mlflow.models import infer_signature

from firesteel.jobs.embedded.standalone import EmbeddedStandalone
from support.runs import firesteel
from support.scoring_project import DAY, ScoringProject

pytestmark = pytest.mark.integration

DISCOVERY = """#!/bin/sh
echo '{"name": "gpu", "addresses": ["3", "5"]}'
"""
SIMPLE = "SELECT id, c, dt, origin FROM points"


class Devices(mlflow.pyfunc.PythonModel):
    """Scores a row with the GPU that its worker sees."""

    def predict(self, context, model_input, params=None):
        return [float(os.environ["CUDA_VISIBLE_DEVICES"])] * len(model_input)


@pytest.fixture
def project(tmp_path) -> ScoringProject:
    project = ScoringProject(tmp_path, f"file://{tmp_path}/data", "devices")
    project.write_points(rows=200)
    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # executors have not this module
    try:
        signature = infer_signature(pd.DataFrame({"c": [1.0]}), [1.0])
        mlflow.pyfunc.save_model(tmp_path / "model-devices", python_model=Devices(), signature=signature)
    finally:
        cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    return project


def test_each_task_sees_the_gpus_that_spark_gave_it_and_no_others(project, tmp_path):
    script = tmp_path / "gpus.sh"
    script.write_text(DISCOVERY)
    script.chmod(0o755)
    offers = {"spark.worker.resource.gpu.amount": "2", "spark.worker.resource.gpu.discoveryScript": str(script)}
    project.plan(sql=SIMPLE)
    path = project.folder / "pipeline.yaml"
    with EmbeddedStandalone(tmp_path / "cluster", cores=2, memory="2g", settings=offers) as cluster:
        resources = f'{{master: "{cluster.master}", executors: {{min: 2, max: 2, cores: 1, memory: 700m}}}}'
        text = path.read_text().replace('resources: {master: "local[2]"}', f"resources: {resources}")
        waits = "configuration: {spark.scheduler.minRegisteredResourcesRatio: '1.0', spark.sql.files.maxPartitionBytes: '2000'}"
        path.write_text(text.replace("      batch: {rows: 64}", "      workers: {gpus: 1}") + waits)
        done = firesteel("run", "--start", DAY, folder=project.folder)
    assert done.returncode == 0, done.stderr
    assert set(pc.unique(project.published()["p"]).to_pylist()) == {3.0, 5.0}
