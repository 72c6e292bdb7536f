"""Modules that models ship: each model's own, whatever another model or the process has under the same name."""

from __future__ import annotations

import sys
import warnings

import mlflow
import pandas as pd
import pyarrow as pa
import pytest
from mlflow.models import ModelSignature
from mlflow.types.schema import ColSpec, DataType, Schema

from firesteel.udfs.digest import digest_of
from firesteel.udfs.model import distribute_model, load_model, model_folder
from firesteel.udfs.model_errors import summarize_error
from firesteel.udfs.spec import ModelRef
from support.oracle import scored_rows, spec_of

LATE = """
import mlflow
class Scaled(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        from prep_features import SCALE
        from helpers.more import add
        return add(model_input["x"].to_numpy() * SCALE)
mlflow.models.set_model(Scaled())
"""


def scaled(folder, scale: int) -> ModelRef:
    """A model that imports its own modules at its first prediction."""
    code = folder / f"code-{scale}"
    (code / "helpers").mkdir(parents=True)
    (code / "prep_features.py").write_text(f"SCALE = {scale}\n")
    (code / "helpers" / "__init__.py").write_text("")
    (code / "helpers" / "more.py").write_text(f"def add(values):\n    return values + {scale} / 10\n")
    (folder / f"model_{scale}.py").write_text(LATE)
    target = folder / f"model-{scale}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlflow.pyfunc.save_model(
            target, python_model=str(folder / f"model_{scale}.py"), pip_requirements=[],
            code_paths=[str(code / "prep_features.py"), str(code / "helpers")],
            signature=ModelSignature(Schema([ColSpec(DataType.double, "x")])),
        )  # fmt: skip
    return ModelRef(f"scaled {scale}", digest_of(target).hex, str(target), format="pickle")


def test_two_models_with_modules_of_the_same_name_each_use_their_own(tmp_path):
    first, second = scaled(tmp_path, 1), scaled(tmp_path, 100)
    path, modules = list(sys.path), set(sys.modules)
    loaded = [load_model(ref, keep=2)[0] for ref in (first, second)]
    frame = pd.DataFrame({"x": [1.0, 2.0]})
    for _ in range(2):
        assert loaded[0].predict(frame).tolist() == [1.1, 2.1]
        assert loaded[1].predict(frame).tolist() == [110.0, 210.0]
    assert sys.path == path
    assert not {"prep_features", "helpers", "helpers.more"} & (set(sys.modules) - modules)


def test_a_module_of_the_process_is_hidden_while_the_model_runs_and_back_afterwards(tmp_path, monkeypatch):
    ours = type(sys)("prep_features")
    ours.SCALE = -1
    monkeypatch.setitem(sys.modules, "prep_features", ours)
    ref = scaled(tmp_path, 7)
    table = pa.table({"id": pa.array([0], pa.int64()), "x": [2.0]})
    scored, _ = scored_rows(ref, table, spec_of(ref, ("x",), {"p": "double"}), {"p": pa.float64()})
    assert scored[0]["p"] == pytest.approx(14.7)
    assert sys.modules["prep_features"] is ours


class Context:
    """What `distribute_model` asks of Spark: archives, unpacked as a JVM in a POSIX locale does it."""

    def __init__(self, root) -> None:
        self.root, self.listArchives, self.sparkContext = root, [], self

    def addArchive(self, text: str) -> None:  # noqa: N802 - Spark's name
        from zipfile import ZipFile

        path, _, name = text.rpartition("#")
        self.listArchives.append(text)
        with ZipFile(path) as archive:
            assert all(entry.isascii() for entry in archive.namelist())
            archive.extractall(self.root / name)


def test_file_names_that_are_not_ascii_survive_a_posix_locale(tmp_path, monkeypatch):
    pyspark = pytest.importorskip("pyspark")
    model = tmp_path / "model"
    (model / "größe").mkdir(parents=True)
    (model / "MLmodel").write_text("flavors: {}\n")
    (model / "größe" / "weights-日本.bin").write_bytes(b"w")
    (model / "100%.txt").write_bytes(b"plain")
    (model / "..%2F..%2Fplanted.firesteel-escaped").write_bytes(
        b"a path outside the folder, if it were not escaped again"
    )
    (model / "größe.firesteel-escaped").write_bytes(b"both")
    (tmp_path / "files").mkdir()
    digest = digest_of(model).hex
    (tmp_path / "driver").mkdir()
    monkeypatch.setattr(pyspark.SparkFiles, "getRootDirectory", lambda: str(tmp_path / "driver"))
    name = distribute_model(Context(tmp_path / "files"), model, digest)
    monkeypatch.setattr(pyspark.SparkFiles, "get", lambda text: str(tmp_path / "files" / text))
    assert digest_of(model_folder(name)).hex == digest
    assert model_folder(name) == model_folder(name)
    assert not list(tmp_path.rglob("planted"))


@pytest.mark.parametrize(
    ("error", "row", "said"),
    [
        (ValueError("could not convert string to float: 'Zoe'"), {"name": "Zoe"}, "ValueError: could not convert string to float: <value>"),
        (KeyError("age"), {"x": 1.0}, "KeyError: 'age'"),
        (ValueError("line 1\nInput X contains 12.345679"), {"x": 12.3456789}, "ValueError: Input X contains <value>"),
        (ValueError("unknown category 17 in column 2"), {"c": 17, "d": None}, "ValueError: unknown category <value> in column 2"),
        (ValueError("bad tag a"), {"tags": ["a", "b"], "x": {"y": "z"}}, "ValueError: bad tag <value>"),
        (
            RuntimeError("Failed to enforce schema of data '   x\n0  secret' with schema '['x': double]'. Error: Incompatible input types"),
            {"x": "secret"},
            "RuntimeError: Incompatible input types",
        ),
        (RuntimeError(), {}, "RuntimeError"),
    ],
)  # fmt: skip
def test_a_models_error_is_told_without_the_rows_values(error, row, said):
    assert summarize_error(error, row) == said


SIBLING = """
import os, sys
import mlflow
class Scaled(mlflow.pyfunc.PythonModel):
    def load_context(self, context):
        sys.path.insert(0, context.artifacts["src"])
        import helperc
        self.early = helperc.SCALE
    def predict(self, context, model_input, params=None):
        import helperd
        return model_input["x"].to_numpy() * self.early + helperd.ADDED
mlflow.models.set_model(Scaled())
"""


def with_artifacts(folder, scale: int) -> ModelRef:
    """A model that puts a folder of its artifacts on the path, and imports one module when it is loaded and one when it predicts."""
    source = folder / f"src-{scale}"
    source.mkdir()
    (source / "helperc.py").write_text(f"SCALE = {scale}\n")
    (source / "helperd.py").write_text(f"ADDED = {scale} / 10\n")
    (source / "numpy.yaml").write_text("not a module\n")
    (folder / f"artifacts_{scale}.py").write_text(SIBLING)
    target = folder / f"artifacts-{scale}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlflow.pyfunc.save_model(
            target, python_model=str(folder / f"artifacts_{scale}.py"), pip_requirements=[], artifacts={"src": str(source)},
            code_paths=[str(source / "numpy.yaml")], signature=ModelSignature(Schema([ColSpec(DataType.double, "x")])),
        )  # fmt: skip
    return ModelRef(f"artifacts {scale}", digest_of(target).hex, str(target), format="pickle")


def test_modules_that_a_model_finds_by_a_path_of_its_own_belong_to_it(tmp_path):
    path = list(sys.path)
    loaded = [load_model(with_artifacts(tmp_path, scale), keep=2)[0] for scale in (1, 100)]
    frame = pd.DataFrame({"x": [1.0, 2.0]})
    for _ in range(2):
        assert loaded[0].predict(frame).tolist() == [1.1, 2.1]
        assert loaded[1].predict(frame).tolist() == [110.0, 210.0]
    assert sys.path == path
    assert not {"helperc", "helperd"} & set(sys.modules)
