"""A model that the spec does not trust as code runs none: neither when it is planned nor when a worker loads it.

Each hostile model writes a marker file when MLflow loads it, which each test shows at its end.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import pickle
import py_compile
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import mlflow
import numpy as np
import pandas as pd
import pytest
import yaml
from mlflow.models import ModelSignature
from mlflow.types.schema import ColSpec, Schema
from ruamel.yaml import YAML

from firesteel.conf.errors import FiresteelError, ModelError
from firesteel.jobs.tracking.registry import resolve_model
from firesteel.udfs.digest import digest_of
from firesteel.udfs.guard import guarded
from firesteel.udfs.mlmodel import read_mlmodel
from firesteel.udfs.model import load_model
from firesteel.udfs.onnx_files import external_files
from firesteel.udfs.spec import ModelRef
from firesteel.udfs.trust import check_trust
from support.models import FEATURES, reference, save, training

TRUSTED = ("skops", "onnx", "lightgbm", "xgboost")
SIGNATURE = ModelSignature(Schema([ColSpec("double", name) for name in FEATURES])).to_dict()
Flavors = dict[str, dict[str, Any]]


class Payload:
    """Writes the marker when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self._marker = marker

    def __reduce__(self):
        return Path.touch, (self._marker,)


def source(marker: Path) -> str:
    return f"import pathlib\npathlib.Path({str(marker)!r}).touch()\ndef _load_pyfunc(path, *args): return None\n"


def sklearn_pickle(name: str, protocol: int, form: str = "pickle") -> Callable[[Path, Path], Flavors]:
    def write(folder: Path, marker: Path) -> Flavors:
        (folder / name).write_bytes(pickle.dumps(Payload(marker), protocol))
        return {
            "python_function": {"loader_module": "mlflow.sklearn", "model_path": name},
            "sklearn": {"pickled_model": name, "serialization_format": form},
        }

    return write


def sklearn_outside(name: Callable[[Path], str]) -> Callable[[Path, Path], Flavors]:
    def write(folder: Path, marker: Path) -> Flavors:
        (folder.parent / "outside.bin").write_bytes(pickle.dumps(Payload(marker), 0))
        (folder.parent / "outside.skops").write_bytes(skops_file(marker))
        trusted = ["subprocess.Popen"]
        return {
            "python_function": {"loader_module": "mlflow.sklearn", "model_path": name(folder)},
            "sklearn": {
                "serialization_format": "skops" if name(folder).endswith("skops") else "pickle",
                "skops_trusted_types": trusted,
            },
        }

    return write


def loader(code: str, write_code: Callable[[Path, Path], None]) -> Callable[[Path, Path], Flavors]:
    def write(folder: Path, marker: Path) -> Flavors:
        (folder / "lib").mkdir()
        write_code(folder / "lib", marker)
        return {"python_function": {"loader_module": "evil", "code": code}}

    return write


def as_source(lib: Path, marker: Path) -> None:
    (lib / "evil.py").write_text(source(marker))


def as_bytecode(lib: Path, marker: Path) -> None:
    as_source(lib, marker)
    py_compile.compile(str(lib / "evil.py"), str(lib / "evil.pyc"))
    (lib / "evil.py").unlink()


def as_zip(lib: Path, marker: Path) -> None:
    with zipfile.ZipFile(lib / "weights.bin", "w") as archive:
        archive.writestr("evil.py", source(marker))


def as_package(lib: Path, marker: Path) -> None:
    (lib / "evil").mkdir()
    (lib / "evil" / "__init__.py").write_text(source(marker))


def code_under_a_known_loader(folder: Path, marker: Path) -> Flavors:
    """The module of a flavor that the environment lacks, from the model's own folder."""
    (folder / "lib").mkdir()
    (folder / "lib" / "torch.py").write_text(source(marker))
    return {"python_function": {"loader_module": "torch", "code": "lib"}}


def python_model(name: str) -> Callable[[Path, Path], Flavors]:
    def write(folder: Path, marker: Path) -> Flavors:
        (folder / name).write_bytes(pickle.dumps(Payload(marker), 0))
        return {
            "python_function": {
                "loader_module": "mlflow.pyfunc.model",
                "python_model": name,
                "cloudpickle_version": cloudpickle.__version__,
            }
        }

    return write


def model_from_code(folder: Path, marker: Path) -> Flavors:
    (folder / "agent.py").write_text(source(marker))
    return {
        "python_function": {
            "loader_module": "mlflow.pyfunc.model",
            "model_code_path": "agent.py",
            "python_model": "agent.py",
        }
    }


def lightgbm_pickle(form: str | None) -> Callable[[Path, Path], Flavors]:
    def write(folder: Path, marker: Path) -> Flavors:
        (folder / "model.lgb").write_bytes(pickle.dumps(Payload(marker), 0))
        options = {"data": "model.lgb", "model_class": "lightgbm.sklearn.LGBMClassifier"}
        options |= {"serialization_format": form} if form else {}
        return {"python_function": {"loader_module": "mlflow.lightgbm"}, "lightgbm": options}

    return write


def lightgbm_skops(folder: Path, marker: Path) -> Flavors:
    (folder / "model.lgb").write_bytes(skops_file(marker))
    options = {
        "data": "model.lgb",
        "model_class": "lightgbm.sklearn.LGBMClassifier",
        "serialization_format": "skops",
        "skops_trusted_types": ["subprocess.Popen"],
    }
    return {"python_function": {"loader_module": "mlflow.lightgbm"}, "lightgbm": options}


def xgboost_class(class_: str) -> Callable[[Path, Path], Flavors]:
    def write(folder: Path, marker: Path) -> Flavors:
        (folder / "lib").mkdir()
        (folder / "lib" / "evil.py").write_text(source(marker) + "class Booster:\n  def load_model(self, path): pass\n")
        (folder / "model.ubj").write_bytes(b"{}")
        return {
            "python_function": {"loader_module": "mlflow.xgboost", "code": "lib"},
            "xgboost": {"data": "model.ubj", "model_class": class_},
        }

    return write


def skops_file(marker: Path, **node: Any) -> bytes:
    """A skops file that runs `touch MARKER` when it is loaded with the types that its own model names."""

    def value(item: Any) -> dict[str, Any]:
        text = json.dumps(item)
        return {
            "__class__": "str",
            "__module__": "builtins",
            "__loader__": "JsonNode",
            "content": text,
            "is_json": True,
        }

    words = {
        "__class__": "list",
        "__module__": "builtins",
        "__loader__": "ListNode",
        "content": [value("touch"), value(str(marker))],
    }
    arguments = {"__class__": "tuple", "__module__": "builtins", "__loader__": "TupleNode", "content": [words]}
    root = {
        "__class__": "Popen",
        "__module__": "subprocess",
        "__loader__": "ConstructorFromReduceNode",
        "content": arguments,
        "protocol": 2,
        "_skops_version": "0.16.0",
        **node,
    }
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("schema.json", json.dumps(root))
    return file.getvalue()


def skops_types(name: str, prefix: bytes = b"", nested: bool = False) -> Callable[[Path, Path], Flavors]:
    def write(folder: Path, marker: Path) -> Flavors:
        data = skops_file(marker)
        if nested:  # below a list, which skops trusts
            root = json.loads(zipfile.ZipFile(io.BytesIO(data)).read("schema.json"))
            data = skops_file(marker, __class__="list", __module__="builtins", __loader__="ListNode", content=[root])
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(prefix + data)
        return {
            "python_function": {"loader_module": "mlflow.sklearn", "model_path": name},
            "sklearn": {"serialization_format": "skops", "skops_trusted_types": ["subprocess.Popen", "builtins.list"]},
        }

    return write


CARRIERS: dict[str, Callable[[Path, Path], Flavors]] = {
    "a protocol-0 pickle named weights.bin": sklearn_pickle("weights.bin", 0),
    "a protocol-2 pickle named MODEL.SKOPS": sklearn_pickle("MODEL.SKOPS", 2),
    "a protocol-5 pickle named model.onnx": sklearn_pickle("model.onnx", 5),
    "a cloudpickle named model.skops": sklearn_pickle("model.skops", 4, "cloudpickle"),
    "a pickle outside, by a relative path": sklearn_outside(lambda folder: "../outside.bin"),
    "a pickle outside, by an absolute path": sklearn_outside(lambda folder: str(folder.parent / "outside.bin")),
    "a skops file outside": sklearn_outside(lambda folder: "../outside.skops"),
    "a loader in a source file": loader("lib", as_source),
    "a loader in bytecode": loader("lib", as_bytecode),
    "a loader in a zip file": loader("lib/weights.bin", as_zip),
    "a loader in a package": loader("lib", as_package),
    "a loader with the name of a library": code_under_a_known_loader,
    "a python_model named pm.dat": python_model("pm.dat"),
    "a python_model named model.skops": python_model("model.skops"),
    "a model from code": model_from_code,
    "a LightGBM estimator in cloudpickle": lightgbm_pickle("cloudpickle"),
    "a LightGBM estimator in the default format": lightgbm_pickle(None),
    "a LightGBM estimator in skops with its own trusted types": lightgbm_skops,
    "an XGBoost class of the model": xgboost_class("evil.Booster"),
    "skops types that the model trusts": skops_types("model.skops"),
    "nested skops types that the model trusts": skops_types("model.skops", nested=True),
    "skops types in a file with the head of another format": skops_types("model.skops", b"\x08\x08ONNX"),
    "skops types in a subfolder": skops_types("sub/model.skops"),
}


def plain(folder: Path, flavors: Flavors) -> Flavors:
    return flavors


def with_decoys(folder: Path, flavors: Flavors) -> Flavors:
    """Beside sound files and flavors of the trusted formats."""
    for name in ("decoy.skops", "decoy.onnx", "decoy.lgb", "decoy.xgb"):
        (folder / name).write_bytes(b"PK")
    decoys = {
        "sklearn": {"pickled_model": "decoy.skops", "serialization_format": "skops"},
        "onnx": {"data": "decoy.onnx"},
        "lightgbm": {"data": "decoy.lgb"},
        "xgboost": {"data": "decoy.xgb"},
    }
    return {**decoys, **flavors}


def with_a_nested_model(folder: Path, flavors: Flavors) -> Flavors:
    """With a sound model in a subfolder, links' relatives and requirements that nobody may read."""
    save("ridge", folder / "nested")
    (folder / "requirements.txt").write_text("--index-url http://localhost:1/\nevil\n")
    (folder / "conda.yaml").write_text("dependencies: [!!python/object/apply:os.system ['false']]\n")
    return flavors


DRESSES = {"plain": plain, "with decoys": with_decoys, "with a nested model": with_a_nested_model}


def write_mlmodel(folder: Path, flavors: Flavors, **more: Any) -> None:
    with (folder / "MLmodel").open("w") as file:
        YAML(typ="safe", pure=True).dump({"flavors": flavors, "signature": SIGNATURE, **more}, file)


@contextlib.contextmanager
def forgotten_modules() -> Iterator[None]:
    modules, path = set(sys.modules), list(sys.path)
    try:
        yield
    finally:
        sys.path[:] = path
        for name in set(sys.modules) - modules:
            if name in ("evil", "torch", "agent"):
                del sys.modules[name]


def plan(folder: Path, formats: tuple[str, ...] = TRUSTED, max_size: int | None = None):
    return resolve_model(
        "m", str(folder), method="predict", trust_formats=formats, max_size=max_size, tracking_uri=""
    ).plan


@pytest.mark.parametrize("dress", DRESSES)
@pytest.mark.parametrize("carrier", CARRIERS)
def test_a_hostile_model_runs_nothing(tmp_path, carrier, dress):
    folder, marker = tmp_path / "model", tmp_path / "marker"
    folder.mkdir()
    write_mlmodel(folder, DRESSES[dress](folder, CARRIERS[carrier](folder, marker)))
    with forgotten_modules():
        with pytest.raises(ModelError, match="FS3009") as caught:
            plan(folder)
        assert caught.value.hint
        for format_ in (*TRUSTED, "unknown", ""):
            with pytest.raises(ModelError, match="FS3009"):
                load_model(ModelRef("m", digest_of(folder).hex, str(folder), format=format_))
        assert not marker.exists()
        assert not sys.modules.keys() & {"evil", "agent"}
        with contextlib.suppress(Exception):
            mlflow.pyfunc.load_model(str(folder))
    wait_for(marker.exists)


def wait_for(condition: Callable[[], bool]) -> None:
    """Popen returns before `touch` has written."""
    with contextlib.suppress(ChildProcessError):
        while not condition():
            os.waitpid(-1, 0)
    assert condition(), "MLflow did not run the model's code: the model is not hostile"


def test_the_guarded_process_refuses_it_too(tmp_path):
    folder, marker = tmp_path / "model", tmp_path / "marker"
    folder.mkdir()
    write_mlmodel(folder, skops_types("model.skops")(folder, marker))
    with pytest.raises(ModelError, match=r"FS3009 .*subprocess\.Popen"):
        guarded(ModelRef("m", digest_of(folder).hex, str(folder), format="skops"), None)
    assert not marker.exists()


def test_spark_workers_refuse_it_too(spark, tmp_path):
    from firesteel.udfs.model import distribute_model
    from firesteel.udfs.score import score, worker_error
    from firesteel.udfs.spec import Output, ScoreSpec

    folder, marker = tmp_path / "model", tmp_path / "marker"
    folder.mkdir()
    write_mlmodel(folder, skops_types("model.skops")(folder, marker))
    digest = digest_of(folder).hex
    ref = ModelRef("m", digest, distribute_model(spark, folder, digest), format="skops")
    frame = spark.range(3, numPartitions=1).selectExpr("id", *(f"double(id) AS {name}" for name in FEATURES))
    with pytest.raises(Exception, match="FS3009") as caught:
        score(frame, ScoreSpec(ref, FEATURES, ("id",), (Output("y", "double"),))).df.collect()
    assert isinstance(worker_error(caught.value), ModelError)
    assert not marker.exists()


@pytest.mark.parametrize("kind", ["logistic", "lightgbm", "xgboost", "onnx"])
def test_files_that_no_loader_was_chosen_for_are_not_touched(tmp_path, kind):
    """A sound model scores as MLflow's, whatever lies beside it and whatever its unused flavors say."""
    folder, marker = tmp_path / "model", tmp_path / "marker"
    save(kind, folder, example=True)
    right = mlflow.pyfunc.load_model(str(folder)).predict(training()[0])
    (folder / "extra.pkl").write_bytes(pickle.dumps(Payload(marker)))
    as_source(folder, marker)
    (folder / "sitecustomize.py").write_text(source(marker))
    mlmodel = YAML(typ="safe", pure=True).load(folder / "MLmodel")
    mlmodel["flavors"]["spark"] = {"model_data": "extra.pkl"}
    mlmodel["flavors"].get("sklearn", {})["skops_trusted_types"] = ["subprocess.Popen"]
    mlmodel["metadata"] = {"dependencies_schemas": {"x": "../../etc"}}
    with (folder / "MLmodel").open("w") as file:
        YAML(typ="safe", pure=True).dump(mlmodel, file)
    assert plan(folder).format == reference("m", folder).format
    loaded, _ = load_model(reference("m", folder))
    np.testing.assert_array_equal(np.asarray(loaded.predict(training()[0])), np.asarray(right))
    assert isinstance(loaded.example, pd.DataFrame)
    assert not marker.exists()


# -- skops -----------------------------------------------------------------------------------------------------------------------------


def skops_nodes() -> dict[str, dict[str, Any]]:
    text = {"__class__": "str", "__module__": "builtins", "__loader__": "JsonNode", "content": '"x"', "is_json": True}
    many = {"__class__": "tuple", "__module__": "builtins", "__loader__": "TupleNode", "content": [text]}
    keys = {"__class__": "list", "__module__": "builtins", "__loader__": "ListNode", "content": []}
    function = {"__class__": "system", "__module__": "posix", "__loader__": "FunctionNode"}
    mapping = {
        "__class__": "dict",
        "__module__": "builtins",
        "__loader__": "DictNode",
        "content": {},
        "key_types": keys,
    }
    estimator = {
        "__class__": "FunctionTransformer",
        "__module__": "sklearn.preprocessing._function_transformer",
        "__loader__": "ObjectNode",
    }
    types = {**keys, "content": [{"__class__": "str", "__module__": "builtins", "__loader__": "TypeNode"}]}
    partial = {
        "__class__": "partial",
        "__module__": "functools",
        "__loader__": "PartialNode",
        "content": {"func": function, "args": many, "kwds": mapping, "namespace": mapping},
    }
    method = {
        "__class__": "FunctionTransformer",
        "__module__": "sklearn.preprocessing._function_transformer",
        "__loader__": "MethodNode",
        "content": {"func": "set_params", "obj": estimator},
    }
    caller = {"__class__": "methodcaller", "__module__": "operator", "__loader__": "OperatorFuncNode", "attrs": many}
    return {
        "a function": function,
        "a type": {**function, "__loader__": "TypeNode"},
        "a partial": partial,
        "a method": method,
        "a method caller": caller,
        "a dictionary class": {**mapping, "__class__": "Popen", "__module__": "subprocess"},
        "a list class": {**keys, "__class__": "Popen", "__module__": "subprocess"},
        "a tuple class": {**many, "__class__": "Popen", "__module__": "subprocess"},
        "an object": {**estimator, "__class__": "Popen", "__module__": "subprocess"},
        "an estimator that calls a function": {
            **estimator,
            "content": {**mapping, "key_types": types, "content": {"func": function}},
        },
        "a module that is imported": {**estimator, "__class__": "x", "__module__": "evil"},
        "an unknown loader": {**estimator, "__loader__": "PickleNode"},
        "a node that refers to itself": {**keys, "__id__": 1, "content": [{**keys, "__id__": 1}]},
    }


@pytest.mark.parametrize("node", skops_nodes())
def test_a_skops_file_has_only_types_that_skops_or_the_spec_trusts(tmp_path, node):
    (tmp_path / "model.skops").write_bytes(skops_file(tmp_path / "marker", **skops_nodes()[node]))
    write_mlmodel(tmp_path, skops_types("unused.skops")(tmp_path, tmp_path / "marker"))
    flavors = {
        "python_function": {"loader_module": "mlflow.sklearn", "model_path": "model.skops"},
        "sklearn": {"serialization_format": "skops", "skops_trusted_types": ["posix.system", "subprocess.Popen"]},
    }
    write_mlmodel(tmp_path, flavors)
    if node == "a node that refers to itself":  # it holds nothing, and is no model
        with contextlib.suppress(FiresteelError):
            load_model(reference("m", tmp_path))
        return
    with pytest.raises(ModelError, match="FS3009"):
        plan(tmp_path)
    with pytest.raises(ModelError, match="FS3009"):
        load_model(reference("m", tmp_path))


def test_types_of_the_spec_are_trusted_and_no_others(tmp_path):
    import lightgbm

    frame, label = training()
    model = lightgbm.LGBMClassifier(n_estimators=3, verbose=-1, n_jobs=1).fit(frame, label)
    mlflow.lightgbm.save_model(
        model, tmp_path / "m", signature=ModelSignature.from_dict(SIGNATURE), pip_requirements=[]
    )
    types = ("collections.OrderedDict", "lightgbm.basic.Booster", "lightgbm.sklearn.LGBMClassifier")
    with pytest.raises(ModelError, match=r"FS3009 .*lightgbm\.basic\.Booster.*trust\.skops_types"):
        check_trust(tmp_path / "m", ("skops",), types[:1], "m")
    assert check_trust(tmp_path / "m", ("skops",), types, "m") == "skops"
    loaded, _ = load_model(reference("m", tmp_path / "m", "predict_proba", types))
    np.testing.assert_array_equal(loaded.predict(frame), model.predict_proba(frame))


def test_a_skops_file_that_unpacks_to_much_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "model.skops", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("schema.json", b" " * (100 << 20))
    write_mlmodel(tmp_path, SKOPS)
    with pytest.raises(ModelError, match=r"FS3009 .*unpacks to 104,857,600 bytes"):
        plan(tmp_path)


SKOPS: Flavors = {
    "python_function": {"loader_module": "mlflow.sklearn", "model_path": "model.skops"},
    "sklearn": {"serialization_format": "skops"},
}


def skops_array(folder: Path, marker: Path) -> None:
    """An array of objects, which numpy would unpickle."""
    array = np.empty(1, dtype=object)
    array[0] = Payload(marker)
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    node = {
        "__class__": "ndarray",
        "__module__": "numpy",
        "__loader__": "NdArrayNode",
        "type": "numpy",
        "file": "a.npy",
    }
    (folder / "model.skops").write_bytes(skops_file(marker, **node))
    with zipfile.ZipFile(folder / "model.skops", "a") as archive:
        archive.writestr("a.npy", file.getvalue())


def deep_schema(folder: Path, marker: Path) -> None:
    with zipfile.ZipFile(folder / "model.skops", "w") as archive:
        archive.writestr("schema.json", "[" * 20_000)


def escapes_in_a_type(folder: Path, marker: Path) -> None:
    (folder / "model.skops").write_bytes(skops_file(marker, __class__="\x1b[2J\n", __module__="evil"))


@pytest.mark.parametrize("write", [skops_array, deep_schema, escapes_in_a_type])
def test_a_skops_file_that_skops_does_not_write_is_a_coded_error(tmp_path, write):
    write(tmp_path, tmp_path / "marker")
    write_mlmodel(tmp_path, SKOPS)
    with pytest.raises(ModelError, match="FS3009|FS3012") as caught:
        load_model(reference("m", tmp_path))
    assert str(caught.value).isprintable()
    assert not (tmp_path / "marker").exists()


def test_the_parameters_in_a_lightgbm_model_write_and_read_nothing(tmp_path):
    save("lightgbm", tmp_path / "m")
    path = next((tmp_path / "m").glob("model.*"))
    right = mlflow.pyfunc.load_model(str(tmp_path / "m")).predict(training()[0])
    os.mkfifo(tmp_path / "pipe")
    names = ("output_model", "data", "forcedsplits_filename", "parser_config_file", "machine_list_filename")
    lines = "".join(f"[{name}: {tmp_path / ('marker' if name == 'output_model' else 'pipe')}]\n" for name in names)
    text = path.read_text()
    path.write_text(text.replace("parameters:\n", f"parameters:\n{lines}"))
    assert path.read_text() != text
    loaded, _ = load_model(reference("m", tmp_path / "m"))
    np.testing.assert_array_equal(loaded.predict(training()[0]), right)
    assert not (tmp_path / "marker").exists()


# -- ONNX ------------------------------------------------------------------------------------------------------------------------------


def onnx_model(location: str, where: str = "initializer"):
    from onnx import TensorProto, helper

    weights = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[3, 1], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", "0"), ("length", "12")):
        weights.external_data.add(key=key, value=value)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 3])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 1])
    product = helper.make_node("MatMul", ["x", "w"], ["y"])
    constant = helper.make_node("Constant", [], ["w"], value=weights)
    if where == "initializer":
        graph = helper.make_graph([product], "g", [x], [y], [weights])
    elif where == "constant":
        graph = helper.make_graph([constant, product], "g", [x], [y])
    else:  # in a branch
        out = helper.make_tensor_value_info("w", TensorProto.FLOAT, [3, 1])
        branch = helper.make_graph([constant], "b", [], [out])
        yes = helper.make_node("Constant", [], ["c"], value=helper.make_tensor("c", TensorProto.BOOL, [], [True]))
        choice = helper.make_node("If", ["c"], ["w"], then_branch=branch, else_branch=branch)
        graph = helper.make_graph([yes, choice, product], "g", [x], [y])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


ONNX: Flavors = {"python_function": {"loader_module": "mlflow.onnx", "data": "model.onnx"}, "onnx": {}}


def save_onnx(folder: Path, data: bytes) -> None:
    folder.mkdir()
    (folder.parent / "secret").write_bytes(np.ones(3, "f4").tobytes())
    (folder / "model.onnx").write_bytes(data)
    write_mlmodel(folder, ONNX)


@pytest.mark.parametrize("where", ["initializer", "constant", "branch"])
@pytest.mark.parametrize(
    "location", ["../secret", "ABSOLUTE", "./../secret", "sub/../../secret", "missing", "", "*/_ORT_MEM_ADDR_/*", "."]
)
def test_an_onnx_model_reads_no_file_outside_its_folder(tmp_path, where, location):
    location = str(tmp_path / "secret") if location == "ABSOLUTE" else location
    save_onnx(tmp_path / "m", onnx_model(location, where).SerializeToString())
    (tmp_path / "m" / "*" / "_ORT_MEM_ADDR_").mkdir(parents=True)
    (tmp_path / "m" / "*" / "_ORT_MEM_ADDR_" / "*").write_bytes(b"x" * 12)
    with pytest.raises(ModelError, match="FS3009 .*not a file in the model's folder"):
        plan(tmp_path / "m")
    with pytest.raises(ModelError, match="FS3009"):
        load_model(reference("m", tmp_path / "m"))


def test_an_onnx_model_reads_its_own_external_data(tmp_path):
    save_onnx(tmp_path / "m", onnx_model("weights.bin").SerializeToString())
    (tmp_path / "m" / "weights.bin").write_bytes(np.array([1, 2, 3], "f4").tobytes())
    assert plan(tmp_path / "m").format == "onnx"
    loaded, _ = load_model(reference("m", tmp_path / "m"))
    rows = pd.DataFrame([[1.0, 1.0, 1.0], [1.0, 0.0, 0.0]], columns=list(FEATURES))
    assert loaded.predict(rows)["y"].tolist() == [6.0, 1.0]


def encoded(tag: bytes, content: bytes) -> bytes:
    """A length-delimited field with the given bytes of its tag."""
    size = len(content)
    return tag + (bytes([size]) if size < 128 else bytes([size & 127 | 128, size >> 7])) + content


@pytest.mark.parametrize(
    "tag", [b"\x6a", b"\xea\x00", b"\xea\x80\x00", b"\xea\x80\x80\x80\x00", b"\xea\x80\x80\x80\x10"]
)
@pytest.mark.parametrize("swapped", [False, True])
def test_no_encoding_that_onnx_reads_hides_external_data(tmp_path, tag, swapped):
    import onnx

    entry = [encoded(b"\x0a", b"location"), encoded(b"\x12", b"../secret")]
    tensor = encoded(tag, b"".join(reversed(entry) if swapped else entry))
    data = b"\x08\x08" + encoded(b"\x3a", encoded(b"\x2a", tensor))
    (tmp_path / "x.onnx").write_bytes(data)
    try:
        read = onnx.load_model_from_string(data).graph.initializer[0].external_data
    except Exception:  # noqa: BLE001 - it is not read at all
        read = []
    try:
        found = external_files(tmp_path / "x.onnx")
    except ValueError:
        return
    assert found == {value.value for value in read if value.key == "location"} == {"../secret"}


@pytest.mark.parametrize("data", [b"", b"\x08", b"\x3a\xff\xff\xff\xff\x7f", b"\x0b\x0c", b"ORTM" * 9, os.urandom(999)])
def test_a_file_that_is_no_protobuf_is_a_coded_error(tmp_path, data):
    save_onnx(tmp_path / "m", data)
    with pytest.raises(ModelError, match="FS30"):
        load_model(reference("m", tmp_path / "m"))


@pytest.mark.parametrize(
    "options",
    [
        {"providers": [["CPUExecutionProvider", {"library": "/tmp/evil.so"}]]},
        {"providers": ["TensorrtExecutionProvider"]},
        {"providers": [["QNNExecutionProvider", {"backend_path": "evil.so"}]]},
        {"onnx_session_options": {"extra_session_config": {"session.load_model_format": "ORT"}}},
        {"onnx_session_options": ["x"]},
    ],
)
def test_options_of_onnx_runtime_that_name_files_are_code(tmp_path, options):
    save("onnx", tmp_path / "m")
    mlmodel = YAML(typ="safe", pure=True).load(tmp_path / "m" / "MLmodel")
    mlmodel["flavors"]["onnx"] |= options
    write_mlmodel(tmp_path / "m", mlmodel["flavors"])
    with pytest.raises(ModelError, match="FS3009"):
        plan(tmp_path / "m")


# -- MLmodel ---------------------------------------------------------------------------------------------------------------------------

BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{','.join([f'*{chr(97 + n)}'] * 9)}]\n" for n in range(9)
)


@pytest.mark.parametrize(
    "text",
    [
        BOMB,
        "a: &a {x: 1}\nb: {<<: *a}\n",
        "a: &a [*a]\nflavors: *a\n",
        "flavors: !!python/object/apply:os.system ['touch MARKER']\n",
        "flavors: !!python/name:os.system\n",
        "flavors: " + "[" * 5000,
        "flavors: " + "{a: " * 60 + "}" * 60,
        "flavors: [" + "a," * 200_000 + "]",
        "x" * (5 << 20),
        "- a\n",
        "",
        "flavors: {}\nflavors: {}\n",
        "\x00",
        "flavors: {}\nsignature: {inputs: '[{\"name\": 1}]'}\n",
        "flavors: {}\nsignature: {inputs: '" + "[" * 100_000 + "'}\n",
    ],
    ids=range(15),
)
def test_an_mlmodel_file_that_mlflow_does_not_write_is_a_coded_error(tmp_path, text):
    (tmp_path / "MLmodel").write_text(text.replace("MARKER", str(tmp_path / "marker")))
    with pytest.raises(ModelError, match="FS3001 .*MLmodel cannot be read") as caught:
        plan(tmp_path, ("pickle",))
    assert len(str(caught.value)) < 1000
    assert not (tmp_path / "marker").exists()


def test_a_value_that_an_mlmodel_file_repeats_by_an_alias_is_read_as_mlflow_reads_it(tmp_path):
    save("logistic", tmp_path / "m")
    path = tmp_path / "m" / "MLmodel"
    mlmodel = YAML(typ="safe", pure=True).load(path)
    shared = {"team": ["ml", "ops"]}
    mlmodel["metadata"] = {"first": shared, "second": shared}
    path.write_text(yaml.safe_dump(mlmodel))
    assert "*id001" in path.read_text()
    assert read_mlmodel(tmp_path / "m") == mlmodel


@pytest.mark.parametrize(
    "flavors",
    [
        {"python_function": {"loader_module": ["mlflow.sklearn"]}},
        {"python_function": {"loader_module": "mlflow.sklearn", "model_path": ["x"]}, "sklearn": {"serialization_format": "skops"}},
        {"python_function": {"loader_module": "mlflow.sklearn", "model_path": "a\nb"}, "sklearn": {"serialization_format": "skops"}},
        {"python_function": {"loader_module": "mlflow.sklearn", "predict_fn": ["x"], "model_path": "model.skops"}, "sklearn": {"serialization_format": "skops"}},
        {"python_function": {"loader_module": "mlflow.sklearn", "predict_fn": "__init__", "model_path": "model.skops"}, "sklearn": {"serialization_format": "skops"}},
        {"python_function": {"loader_module": "mlflow.sklearn", "config": {"a": 1}, "model_path": "model.skops"}, "sklearn": {"serialization_format": "skops"}},
        {"python_function": {"loader_module": "mlflow.xgboost"}, "xgboost": {"model_class": [1], "data": "model.skops"}},
        {"python_function": {"loader_module": "mlflow.xgboost"}, "xgboost": {"model_class": "subprocess.Popen", "data": "model.skops"}},
        {"python_function": {"loader_module": "mlflow.lightgbm"}, "lightgbm": {"model_class": ["x"], "data": "model.skops"}},
        {"python_function": {"loader_module": "mlflow.lightgbm"}, "lightgbm": {"data": "."}},
        {"python_function": {"loader_module": "MLFLOW.SKLEARN", "model_path": "model.skops"}, "sklearn": {"serialization_format": "skops"}},
        {"python_function": "mlflow.sklearn", "sklearn": []},
    ],
    ids=range(12),
)  # fmt: skip
def test_values_of_any_kind_in_an_mlmodel_file_are_code(tmp_path, flavors):
    (tmp_path / "model.skops").write_bytes(b"PK")
    write_mlmodel(tmp_path, flavors)
    with pytest.raises(ModelError, match=r"FS3009 .*stored as pickle \(") as caught:
        plan(tmp_path)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("kind", ["dataframe", "ndarray", "sparse_matrix_csc", "json_object"])
def test_an_input_example_is_read_only_in_the_folder(tmp_path, kind):
    save("ridge", tmp_path / "m")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "m" / "example.json").write_text(json.dumps(str(tmp_path / "pipe")))
    for name in ("../pipe", str(tmp_path / "pipe"), "example.json"):
        mlmodel = YAML(typ="safe", pure=True).load(tmp_path / "m" / "MLmodel")
        write_mlmodel(
            tmp_path / "m", mlmodel["flavors"], saved_input_example_info={"type": kind, "artifact_path": name}
        )
        assert plan(tmp_path / "m").warnings == ()
        with contextlib.suppress(ModelError):
            assert load_model(reference("m", tmp_path / "m"))[0].example is None


def test_an_estimator_reads_no_pickle_at_predict(tmp_path):
    """The functions that a model calls are types that must be trusted, also in a partial."""
    from sklearn.preprocessing import FunctionTransformer
    from skops.io import dump

    dump(FunctionTransformer(functools.partial(pickle.loads, b"x")), tmp_path / "model.skops")
    write_mlmodel(tmp_path, SKOPS)
    with pytest.raises(ModelError, match=r"FS3009 .*pickle\.loads"):
        plan(tmp_path)
