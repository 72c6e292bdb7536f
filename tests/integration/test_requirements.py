"""A real model whose requirements differ from this environment: at plan time, in a run, and on executors."""

from __future__ import annotations

import socket
import sys
from dataclasses import replace
from pathlib import Path

import mlflow
import pandas as pd
import pytest
import sklearn
from mlflow.models import infer_signature
from pyspark.errors import PySparkException

from firesteel.conf.errors import ModelError
from firesteel.jobs.cli.main import invoke
from firesteel.jobs.run.plan_runner import run_plan
from firesteel.udfs.model import ModelRef, digest_of, distribute_model, load_model
from firesteel.udfs.score import score, worker_error
from firesteel.udfs.spec import ErrorBudget, Output, ScoreSpec
from support.models import save
from support.scoring_project import DAY, ScoringProject

pytestmark = pytest.mark.integration

HERE = sklearn.__version__
MINOR = "scikit-learn==1.0.1"
OTHER_MAJOR = "scikit-learn==0.24.2"


@pytest.fixture
def points(tmp_path) -> ScoringProject:
    project = ScoringProject(tmp_path, f"file://{tmp_path}/data")
    project.write_points(rows=20, files=1)
    return project


def requires(project: ScoringProject, *lines: str) -> None:
    """Save the project's model with these requirements."""
    save("logistic", project.folder / "model-logistic", example=True, requirements=lines)


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (["no-such-package>=1"], "requires no-such-package>=1 (not installed) in this Python environment."),
        ([OTHER_MAJOR, "numpy==1.0"], f"requires {OTHER_MAJOR} (found {HERE}) in this Python environment."),
    ],
)
def test_a_plan_refuses_packages_with_which_the_model_cannot_be_loaded(points, capsys, lines, says):
    requires(points, *lines)
    with pytest.raises(ModelError, match="FS3013"):
        points.plan()
    spec = points.folder / "pipeline.yaml"
    assert invoke(["plan", str(spec), "--start", DAY]) == ModelError.exit_code
    shown = " ".join(capsys.readouterr().err.split())
    assert "FS3013" in shown
    assert f"model m {says}" in shown
    assert "requirements: warn" in shown
    spec.write_text(spec.read_text().replace("method: predict_proba", "method: predict_proba, requirements: warn"))
    assert invoke(["plan", str(spec), "--start", DAY]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert f"Warning: model m: its requirements differ from this Python environment: {lines[0]} (" in shown
    assert "Loading or scoring can fail." in shown


def test_submit_compares_its_packages_only_if_executors_have_the_same(points, capsys, monkeypatch):
    requires(points, "no-such-package")
    with pytest.raises(ModelError, match="FS3013"):
        points.plan()
    monkeypatch.chdir(points.folder)
    Path("environment.tar.gz").touch()
    submit = ["submit", "pipeline.yaml", "--start", DAY]
    assert invoke(submit) == ModelError.exit_code
    assert invoke([*submit, "--python", sys.executable]) == ModelError.exit_code
    for other in (
        ["--archive", "environment.tar.gz"],
        ["--python", "/opt/python"],
        ["--conf", "spark.pyspark.python=p"],
    ):
        capsys.readouterr()
        assert invoke([*submit, *other]) == 0, capsys.readouterr().err
        assert "spark-submit" in capsys.readouterr().out


def test_another_minor_version_is_a_warning_in_plan_report_and_mlflow(points, spark, runs, caplog):
    requires(points, MINOR)
    plan = points.plan()
    warning = (
        f"model m: its requirements differ from this Python environment: {MINOR} (found {HERE}). Scores can differ."
    )
    assert plan.model_warnings == (warning,)
    result = run_plan(plan, spark=spark, runs=runs)
    assert result.state == "published", result.error
    assert warning in caplog.text
    assert warning in Path(result.report).read_text(encoding="utf-8")
    client = mlflow.MlflowClient(tracking_uri=plan.tracking.uri)
    assert client.get_run(result.mlflow_run_id).data.tags["firesteel.warning"] == warning


def test_executors_with_another_environment_than_the_planner_compare_theirs(points, spark, runs):
    requires(points, OTHER_MAJOR)
    with pytest.raises(ModelError, match="FS3013"):
        points.plan()
    spec = points.folder / "pipeline.yaml"
    plan = _planned_elsewhere(spec)
    assert plan.model_warnings == ()
    result = run_plan(plan, spark=spark, runs=runs)
    assert (result.state, result.exit_code) == ("failed", ModelError.exit_code)
    says = f"FS3013 model m requires {OTHER_MAJOR} (found {HERE}) in the Python environment of executor {socket.gethostname()}."
    assert says in result.error
    tolerant = replace(plan, models=(replace(plan.models[0], requirements="warn"),))
    assert run_plan(tolerant, spark=spark, runs=runs).state == "published"


def _planned_elsewhere(spec: Path):
    from firesteel.pipelines import Pipeline

    return Pipeline.load(spec).plan(DAY, other_python=True)


LAZY = """
import mlflow


class Lazy(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        import no_such_package

        return no_such_package.score(model_input)


mlflow.models.set_model(Lazy())
"""


@pytest.mark.parametrize("budget", [ErrorBudget(), ErrorBudget("dead_letter", 1000)])
def test_a_module_that_is_missing_on_an_executor_is_named_and_makes_no_dead_letters(spark, tmp_path, budget):
    folder, code = tmp_path / "model", tmp_path / "lazy.py"
    code.write_text(LAZY)
    frame = pd.DataFrame({"x": [1.0]})
    mlflow.pyfunc.save_model(
        folder, python_model=code, pip_requirements=[], signature=infer_signature(frame, frame["x"])
    )
    digest = digest_of(folder).hex
    ref = ModelRef("m", digest, distribute_model(spark, folder, digest), format="pickle")
    spec = ScoreSpec(ref, ("x",), ("id",), (Output("y", "double"),), on_error=budget)
    scored = score(spark.range(5).selectExpr("id", "CAST(id AS DOUBLE) AS x"), spec)
    with pytest.raises(PySparkException) as caught:
        scored.df.count()
    error = worker_error(caught.value)
    assert error.code == "FS3013"
    assert "the package no_such_package (module `no_such_package`) is not installed" in error.what
    assert "dead_letter" not in error.hint


def test_a_model_that_cannot_be_loaded_names_the_package(tmp_path):
    folder = tmp_path / "model"
    (tmp_path / "data").write_bytes(b"x")
    mlflow.pyfunc.save_model(folder, loader_module="json", data_path=tmp_path / "data", pip_requirements=[])
    mlmodel = folder / "MLmodel"
    mlmodel.write_text(mlmodel.read_text().replace("loader_module: json", "loader_module: no_such_module"))

    def load() -> ModelError:
        with pytest.raises(ModelError) as caught:
            load_model(ModelRef("m", digest_of(folder).hex, str(folder), format="pickle"))
        return caught.value

    error = load()
    assert error.code == "FS3012"
    assert "the package no_such_module (module `no_such_module`) is not installed" in error.what
    (folder / "requirements.txt").write_text("no-such-module==2\n")
    error = load()
    assert error.code == "FS3013"
    assert "requires no-such-module==2 (not installed)" in error.what
