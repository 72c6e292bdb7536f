"""Determine the storage format of a model from its files, not from its metadata.

MLflow reads the list of trusted types from the model itself (mlflow#25686), so whoever can write the model can write the list.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from firesteel.conf.errors import ModelError

_PICKLES = (".pkl", ".pickle", ".joblib", ".cloudpickle", ".dill", ".pt", ".pth")
_BY_FLAVOR = {
    "onnx": ("onnx", (".onnx",)),
    "lightgbm": ("lightgbm", (".lgb", ".txt")),
    "xgboost": ("xgboost", (".xgb", ".json", ".ubj")),
}


def model_format(folder: Path) -> str:
    """Return `skops`, `onnx`, `lightgbm`, `xgboost`, `pickle` or `unknown`.

    A model with one pickle file is `pickle`, because loading it runs code.
    """
    files = [path for path in folder.rglob("*") if path.is_file()]
    if any(path.suffix.lower() in _PICKLES or _looks_pickled(path) for path in files):
        return "pickle"
    flavors: dict[str, Any] = _read_mlmodel(folder).get("flavors", {})
    if any(path.suffix == ".py" for path in files) or "code" in str(
        flavors.get("python_function", {}).get("code") or ""
    ):
        return "pickle"  # loading the model runs this code, too
    for flavor, (format_, suffixes) in _BY_FLAVOR.items():
        if flavor in flavors and any(path.suffix in suffixes for path in files):
            return format_
    if any(path.suffix == ".skops" for path in files):
        return "skops"
    return "unknown"


def check_trust(folder: Path, formats: tuple[str, ...], max_size: int | None, model: str) -> str:
    """Return the model's format if the spec trusts it.

    Raises
    ------
    ModelError
        FS3009 for an untrusted format, or FS3010 for a model that is too large.
    """
    model_format_ = model_format(folder)
    if model_format_ not in formats:
        risk = " (loading it runs code)" if model_format_ == "pickle" else ""
        raise ModelError(
            "FS3009",
            f"model {model} is stored as {model_format_}, but trust.formats allows only {', '.join(formats) or 'no format'}.",
            hint=f"Log the model again in an allowed format, or add `{model_format_}` to trust.formats{risk}.",
        )
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    if max_size is not None and size > max_size:
        raise ModelError(
            "FS3010",
            f"model {model} has {size:,} bytes, but trust.max_size allows {max_size:,} bytes.",
            hint="Raise trust.max_size if you expect a model of this size.",
        )
    return model_format_


def _read_mlmodel(folder: Path) -> dict[str, Any]:
    path = folder / "MLmodel"
    if not path.is_file():
        return {}
    try:
        loaded = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except (YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError("FS3001", f"{folder}/MLmodel cannot be read: {reason}", hint="Log the model again.") from error
    return loaded if isinstance(loaded, dict) else {}


def _looks_pickled(path: Path) -> bool:
    """Return whether a file starts with 0x80 and a pickle protocol from 2 to 5. The file name is not reliable."""
    with path.open("rb") as handle:
        head = handle.read(2)
    return len(head) == 2 and head[0] == 0x80 and 2 <= head[1] <= 5
