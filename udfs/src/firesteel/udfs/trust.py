"""What format a model is stored in, by our own reading of its files. The model's word about itself counts for nothing.

MLflow reads the list of trusted types from the model itself (mlflow#25686); whoever can write the model can write the list.
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
    """`skops`, `onnx`, `lightgbm`, `xgboost`, `pickle` or `unknown`.

    One file that unpickles makes the model `pickle`, whatever else it holds: it would run code when it is loaded.
    """
    names = [path for path in folder.rglob("*") if path.is_file()]
    if any(path.suffix.lower() in _PICKLES or _looks_pickled(path) for path in names):
        return "pickle"
    flavors: dict[str, Any] = _read_mlmodel(folder).get("flavors", {})
    if any(path.suffix == ".py" for path in names) or "code" in str(
        flavors.get("python_function", {}).get("code") or ""
    ):
        return "pickle"  # code beside the model runs at load, as a pickle does
    for flavor, (format_, suffixes) in _BY_FLAVOR.items():
        if flavor in flavors and any(path.suffix in suffixes for path in names):
            return format_
    if any(path.suffix == ".skops" for path in names):
        return "skops"
    return "unknown"


def check_trust(folder: Path, formats: tuple[str, ...], max_size: int | None, model: str) -> str:
    """The model's format, if the spec trusts it.

    Raises
    ------
    ModelError
        FS3009 (format) or FS3010 (size).
    """
    found = model_format(folder)
    if found not in formats:
        risk = " (it runs code at load)" if found == "pickle" else ""
        raise ModelError(
            "FS3009",
            f"model {model} is stored as {found}; trust.formats allows {', '.join(formats) or 'nothing'}.",
            hint=f"Log it again in one of those, or add `{found}`{risk}.",
        )
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    if max_size is not None and size > max_size:
        raise ModelError(
            "FS3010",
            f"model {model} has {size:,} bytes; trust.max_size allows {max_size:,}.",
            hint="Raise it, if this is the model you mean.",
        )
    return found


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
    """Pickle protocols 2 and later start with 0x80 and their number; a name can lie."""
    with path.open("rb") as handle:
        head = handle.read(2)
    return len(head) == 2 and head[0] == 0x80 and 2 <= head[1] <= 5
