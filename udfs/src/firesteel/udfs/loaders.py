"""Load the formats that need no code of the model, as MLflow's flavors do, but only from the file that `trust.py` chose."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from firesteel.conf.errors import ModelError
from firesteel.udfs.mlmodel import metadata_of, read_mlmodel
from firesteel.udfs.trust import ONNX_PROVIDERS, Artifact, artifact_of, check_contents

if TYPE_CHECKING:
    from pathlib import Path

    from mlflow.pyfunc import PyFuncModel


def load_trusted(folder: Path, format_: str, skops_types: tuple[str, ...], model: str) -> PyFuncModel:
    """Return the pyfunc of a model in the pinned format, without MLflow's loader.

    Raises
    ------
    ModelError
        FS3009 if the model has another format, or holds types that `skops_types` does not have.
    """
    from mlflow.pyfunc import PyFuncModel

    mlmodel = read_mlmodel(folder)
    artifact = artifact_of(folder, mlmodel)
    if artifact.format != format_:
        raise ModelError(
            "FS3009",
            f"model {model} is stored as {artifact.format}, but the plan requires {format_ or 'no format'}. It was not loaded.",
            hint="Run `plan` again.",
        )
    check_contents(artifact, skops_types, model)
    metadata = metadata_of(mlmodel)
    predict_fn = metadata.flavors["python_function"].get("predict_fn", "predict")
    return PyFuncModel(metadata, _LOADERS[format_](artifact, skops_types), predict_fn)


def _skops(artifact: Artifact, skops_types: tuple[str, ...]) -> Any:
    import skops.io

    loaded = skops.io.load(artifact.path, trusted=list(skops_types))
    if artifact.flavor == "lightgbm":
        from mlflow.lightgbm import _LGBModelWrapper

        return _LGBModelWrapper(loaded)
    from mlflow.sklearn import _SklearnModelWrapper

    return _SklearnModelWrapper(loaded)


def _lightgbm(artifact: Artifact, _skops_types: tuple[str, ...]) -> Any:
    import lightgbm
    from mlflow.lightgbm import _LGBModelWrapper

    return _LGBModelWrapper(lightgbm.Booster(model_file=str(artifact.path)))


def _xgboost(artifact: Artifact, _skops_types: tuple[str, ...]) -> Any:
    import xgboost
    from mlflow.xgboost import _XGBModelWrapper

    class_ = str((artifact.options or {}).get("model_class", "Booster")).rpartition(".")[2]
    loaded = getattr(xgboost, class_)()
    loaded.load_model(str(artifact.path))
    return _XGBModelWrapper(loaded)


def _onnx(artifact: Artifact, _skops_types: tuple[str, ...]) -> Any:
    import onnxruntime
    from mlflow.onnx import _OnnxModelWrapper

    options = artifact.options or {}
    named = options.get("providers") or ONNX_PROVIDERS
    named = [named] if isinstance(named, str) else named
    available = onnxruntime.get_available_providers()
    providers = [name for name in named if name in available] or ["CPUExecutionProvider"]
    session_options = _session_options(options.get("onnx_session_options") or {})
    wrapper = _OnnxModelWrapper.__new__(_OnnxModelWrapper)  # its constructor takes other options from the model
    try:
        wrapper.rt = onnxruntime.InferenceSession(str(artifact.path), providers=providers, sess_options=session_options)
    except Exception:
        if providers == ["CPUExecutionProvider"]:
            raise
        wrapper.rt = onnxruntime.InferenceSession(  # like MLflow, where a GPU cannot be used
            str(artifact.path), providers=["CPUExecutionProvider"], sess_options=session_options
        )
    wrapper.inputs = [(value.name, value.type) for value in wrapper.rt.get_inputs()]
    wrapper.output_names = [value.name for value in wrapper.rt.get_outputs()]
    return wrapper


def _session_options(values: dict[str, Any]) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    for name in ("inter_op_num_threads", "intra_op_num_threads"):
        if values.get(name):
            setattr(options, name, int(values[name]))
    if values.get("execution_mode"):
        options.execution_mode = getattr(
            onnxruntime.ExecutionMode, f"ORT_{str(values['execution_mode']).upper()}", options.execution_mode
        )
    if values.get("graph_optimization_level"):
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel(int(values["graph_optimization_level"]))
    return options


_LOADERS = {"skops": _skops, "lightgbm": _lightgbm, "xgboost": _xgboost, "onnx": _onnx}
