"""The wheel is what executors and users get: it must hold everything, and import from the zip itself."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration


def test_the_wheel_holds_every_component_and_imports_from_the_zip(wheel, tmp_path):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {
        "firesteel/__init__.py",
        "firesteel/py.typed",
        "firesteel/api/score.py",
        "firesteel/conf/errors.py",
        "firesteel/pipelines/pipeline.py",
        "firesteel/udfs/score.py",
        "firesteel/rdma_shuffle/checks.py",
        "firesteel/rdma_shuffle/firesteel-shuffle.jar",
        "firesteel/jobs/run_plan.py",
        "firesteel/conf/log4j2.properties",
        "firesteel/jobs/demo/project/pipeline.yaml",
        "firesteel/jobs/demo/project/sql/features.sql",
        "firesteel/jobs/demo/project/tests/flights.yaml",
        "firesteel/jobs/demo/project/tests/short_and_long.csv",
        "firesteel/jobs/project/starter/tests/scores.yaml",
        "firesteel/jobs/project/starter/pipeline.yaml",
    } <= names
    assert not any(name.endswith(".java") for name in names)
    assert not any(name.startswith(("tests/", "tools/")) for name in names)
    code = "import sys; sys.path.insert(0, sys.argv[1]); import firesteel.udfs; print(firesteel.__file__, sys.modules[firesteel.Pipeline.__module__].__file__, sys.modules[firesteel.score.__module__].__file__)"
    done = subprocess.run([sys.executable, "-I", "-c", code, str(wheel)], check=True, capture_output=True, text=True)
    assert [path.startswith(str(wheel)) for path in done.stdout.split()] == [True] * 3
    code = "import sys; sys.path[:] = [sys.argv[1], *(each for each in sys.path if 'site-packages' not in each)]; from importlib.metadata import entry_points; print(*(each.value for group in ('firesteel.backends', 'mlflow.artifact_repository') for each in entry_points(group=group)))"
    done = subprocess.run([sys.executable, "-I", "-c", code, str(wheel)], check=True, capture_output=True, text=True)
    assert done.stdout.split() == [  # what a driver with the wheel on --py-files finds
        "firesteel.jobs.backend:SparkBackend",
        "firesteel.jobs.tracking.hdfs_artifacts:HdfsArtifacts",
    ]
    code = "import sys; sys.path.insert(0, sys.argv[1]); from firesteel.rdma_shuffle.jar import build_or_find; print(build_or_find())"
    words = [sys.executable, "-I", "-c", code, str(wheel)]
    environ = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = subprocess.run(words, check=True, capture_output=True, text=True, env=environ)
    jar = Path(done.stdout.strip())
    assert jar.parent == tmp_path / "cache" / "firesteel"
    assert "firesteel/shuffle/ShufflePlugin.class" in zipfile.ZipFile(jar).namelist()
