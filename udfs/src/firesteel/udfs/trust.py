"""Choose the loader and the file of a model, and check that the spec trusts them.

A model's MLmodel file can name any Python module as its loader, and any types, files and options for it. So MLflow loads a model only
if the spec trusts its code (`pickle`). firesteel loads the other formats itself (`loaders.py`), each from the one file chosen here.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from firesteel.conf.errors import ModelError
from firesteel.udfs.mlmodel import flavors_of, printable, read_mlmodel, resolve_inside
from firesteel.udfs.onnx_files import external_files

CODE = "pickle"
"""The format of every model that only its own code can load."""

XGBOOST_CLASSES = frozenset(
    ["xgboost.core.Booster"]
    + [
        f"xgboost.sklearn.{name}"
        for name in ("XGBModel", "XGBClassifier", "XGBRegressor", "XGBRanker", "XGBRFClassifier", "XGBRFRegressor")
    ]
)
PREDICT_FUNCTIONS = frozenset({"predict", "predict_proba", "predict_log_proba", "predict_joint_log_proba"})
ONNX_PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")
"""Others read libraries and caches from paths in their options or in the model."""
ONNX_OPTIONS = frozenset({"inter_op_num_threads", "intra_op_num_threads", "execution_mode", "graph_optimization_level"})


@dataclass(frozen=True, slots=True)
class Artifact:
    """How a model is loaded.

    Attributes
    ----------
    format
        `skops`, `onnx`, `lightgbm`, `xgboost`, or `pickle` for every model that only its own code can load.
    flavor
        The MLflow flavor whose predictions the model gives, or empty for `pickle`.
    path
        The one file that is loaded, or None for `pickle`.
    options
        The flavor's values in the MLmodel file.
    reason
        Why only its own code can load the model, or empty.
    """

    format: str
    flavor: str = ""
    path: Path | None = None
    options: dict[str, Any] | None = None
    reason: str = ""


def artifact_of(folder: Path, mlmodel: dict[str, Any] | None = None) -> Artifact:
    """Return how a model is loaded. Nothing is loaded.

    Raises
    ------
    ModelError
        FS3001 if the MLmodel file cannot be read.
    """
    flavors = flavors_of(read_mlmodel(folder) if mlmodel is None else mlmodel)
    pyfunc = flavors.get("python_function", {})
    loader = pyfunc.get("loader_module")
    for name, flavor in flavors.items():
        if flavor.get("code"):
            return Artifact(CODE, reason=f"its flavor {_shown(name)} has Python code")
    if pyfunc.get("config"):
        return Artifact(CODE, reason="its loader takes a configuration")
    choose = _CHOICES.get(loader) if isinstance(loader, str) else None
    if choose is None or not isinstance(loader, str):
        return Artifact(CODE, reason=f"its loader is {_shown(loader)}")
    flavor_name = loader.removeprefix("mlflow.")
    options = flavors.get(flavor_name, {})
    format_, name, reason = choose(pyfunc, options)
    predict = pyfunc.get("predict_fn", "predict")
    known = PREDICT_FUNCTIONS if flavor_name == "sklearn" else ("predict",)
    if not reason and not (isinstance(predict, str) and predict in known):
        reason = f"its predict_fn is {_shown(predict)}"
    if reason:
        return Artifact(CODE, reason=reason)
    path = resolve_inside(folder, name)
    if path is None:
        return Artifact(CODE, reason=f"{_shown(name)} is not a file in its folder")
    return Artifact(format_, flavor_name, path, options)


def check_trust(folder: Path, formats: tuple[str, ...], skops_types: tuple[str, ...], model: str) -> str:
    """Return the model's format if the spec trusts it and its file reads nothing else.

    Raises
    ------
    ModelError
        FS3001 if the MLmodel file cannot be read. FS3009 if the spec does not trust the format, the types in a skops file, or the
        files that an ONNX model reads.
    """
    artifact = artifact_of(folder)
    if artifact.format not in formats:
        known = f" ({artifact.reason})" if artifact.reason else ""
        risk = " (loading it runs code)" if artifact.format == CODE else ""
        raise ModelError(
            "FS3009",
            f"model {model} is stored as {artifact.format}{known}, but trust.formats allows only "
            f"{', '.join(formats) or 'no format'}.",
            hint=f"Log the model again in an allowed format, or add `{artifact.format}` to trust.formats{risk}.",
        )
    check_contents(artifact, skops_types, model)
    return artifact.format


def check_contents(artifact: Artifact, skops_types: tuple[str, ...], model: str) -> None:
    """Raise FS3009 if the file holds types that the spec does not trust, or reads files outside the model."""
    if artifact.path is None:
        return
    if artifact.format == "skops":
        _check_skops(artifact.path, skops_types, model)
    if artifact.format == "onnx":
        _check_onnx(artifact.path, model)


def _sklearn(pyfunc: dict[str, Any], options: dict[str, Any]) -> tuple[str, Any, str]:
    stored = options.get("serialization_format")
    reason = "" if stored == "skops" else f"its serialization_format is {_shown(stored)}"
    return "skops", pyfunc.get("data") or pyfunc.get("model_path"), reason


def _lightgbm(_pyfunc: dict[str, Any], options: dict[str, Any]) -> tuple[str, Any, str]:
    if options.get("model_class", "lightgbm.basic.Booster") == "lightgbm.basic.Booster":
        return "lightgbm", options.get("data"), ""
    return "skops", options.get("data"), _sklearn({}, options)[2]


def _xgboost(_pyfunc: dict[str, Any], options: dict[str, Any]) -> tuple[str, Any, str]:
    class_ = options.get("model_class", "xgboost.core.Booster")
    known = isinstance(class_, str) and class_ in XGBOOST_CLASSES
    return "xgboost", options.get("data"), "" if known else f"its model_class is {_shown(class_)}"


def _onnx(pyfunc: dict[str, Any], options: dict[str, Any]) -> tuple[str, Any, str]:
    providers = options.get("providers") or []
    names = [providers] if isinstance(providers, str) else providers
    session = options.get("onnx_session_options") or {}
    reason = ""
    if not isinstance(names, list) or any(name not in ONNX_PROVIDERS for name in names):
        reason = f"its execution providers are not only {' and '.join(ONNX_PROVIDERS)} without options"
    elif not isinstance(session, dict) or any(session[key] for key in session.keys() - ONNX_OPTIONS):
        reason = "its onnx_session_options have other keys than " + ", ".join(sorted(ONNX_OPTIONS))
    name = pyfunc.get("data") or options.get("data")
    if not reason and not str(name).endswith(".onnx"):
        reason = f"the name {_shown(name)} does not end with .onnx"
    return "onnx", name, reason


_CHOICES = {"mlflow.sklearn": _sklearn, "mlflow.lightgbm": _lightgbm, "mlflow.xgboost": _xgboost, "mlflow.onnx": _onnx}
"""By MLflow's loader: the format, the file, and why only the model's own code can load it, if so."""


def _check_skops(path: Path, trusted: tuple[str, ...], model: str) -> None:
    try:
        unknown = sorted(_untrusted_types(path) - set(trusted))
    except Exception as error:
        raise _invalid(path, "skops", model, error) from error
    if unknown:
        names = ", ".join(printable(name) for name in unknown[:5]) + (" and more" if len(unknown) > 5 else "")
        raise ModelError(
            "FS3009",
            f"model {model} has types that neither skops nor trust.skops_types trusts: {names}. Loading them can run code.",
            hint="Read what these types do, then add them to trust.skops_types.",
        )


def _untrusted_types(path: Path) -> set[str]:
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
    if unpacked > max(_UNPACKED_RATIO * path.stat().st_size, _UNPACKED_FREE):
        raise ValueError(f"it unpacks to {unpacked:,} bytes")
    try:
        from skops.io import get_untrusted_types
    except ImportError:
        return set()  # a machine that only plans; the types are checked again where the model is loaded
    return set(get_untrusted_types(file=path))


_UNPACKED_RATIO = 100
_UNPACKED_FREE = 64 << 20


def _check_onnx(path: Path, model: str) -> None:
    try:
        names = sorted(external_files(path))
    except (OSError, ValueError) as error:
        raise _invalid(path, "ONNX", model, error) from error
    for name in names:
        if "*" in name or resolve_inside(path.parent, name.removeprefix("./")) is None:
            raise ModelError(
                "FS3009",
                f"model {model}: {path.name} reads {_shown(name)}, which is not a file in the model's folder.",
                hint="Log the model again with its external data beside it.",
            )


def _invalid(path: Path, format_: str, model: str, error: Exception) -> ModelError:
    return ModelError(
        "FS3009",
        f"model {model}: {path.name} is not a valid {format_} file ({type(error).__name__}: {printable(error)}).",
        hint="Log the model again.",
    )


def _shown(value: object) -> str:
    return f"`{value[:100]}`" if isinstance(value, str) and value.isprintable() else ascii(value)[:100]
