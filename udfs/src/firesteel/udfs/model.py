"""A model on its way: shipped once per application, loaded once per Python worker, verified before it is loaded."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from firesteel.conf.errors import ModelError
from firesteel.udfs.digest import ADDED_BY_MLFLOW, Digest, check_digest, digest_of
from firesteel.udfs.model_code import ModelCode
from firesteel.udfs.spec import ModelRef
from firesteel.udfs.threads import cap_threads, capped_sessions

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

__all__ = ["Digest", "LoadedModel", "ModelRef", "digest_of", "load_model", "ship_model"]


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model ready to predict: `predict` takes a pandas frame of the features and returns what the model returns.

    `flavor` is the object behind the pyfunc; `signature` what MLflow enforces before it calls that (None: nothing), as
    (name, type); `why_opaque` says why `flavor` must not be called directly, if so. `code` are the modules that it ships:
    active whenever `predict` or a method of `flavor` runs. `engines` are the backends that this worker has chosen, by what
    they were chosen for.
    """

    ref: ModelRef
    predict: Callable[[Any], Any]
    flavor: Any = None
    signature: tuple[tuple[str, str], ...] | None = None
    why_opaque: str = ""
    example: Any = None
    scratch: str = ""
    code: ModelCode = field(default_factory=ModelCode)
    engines: dict[Hashable, Any] = field(default_factory=dict)


_CACHE: OrderedDict[tuple[str, str], LoadedModel] = OrderedDict()
"""Per Python worker, least recently used first. Spark reuses workers, so a model is loaded once per worker and not per task."""


def ship_model(spark: SparkSession, folder: Path, digest: str) -> str:
    """Give a model to every executor, once per application.

    A zip archive, since `SparkContext.addFile` refuses local folders on clusters; deterministic, so that equal models are
    equal archives. Names that are not ASCII are escaped: a JVM in a POSIX locale cannot create such files.

    Returns
    -------
    The archive's name for `ModelRef.archive`.
    """
    check_digest(folder, digest, folder.name)
    name = f"firesteel-model-{digest[:32]}"
    context = spark.sparkContext
    if any(str(archive).endswith(f"#{name}") for archive in context.listArchives):
        return name
    target = Path(tempfile.mkdtemp(prefix="firesteel-model-"), f"{name}.zip")
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.name not in ADDED_BY_MLFLOW:
                entry = zipfile.ZipInfo(_escaped(path.relative_to(folder).as_posix()), date_time=(1980, 1, 1, 0, 0, 0))
                with path.open("rb") as source, archive.open(entry, "w", force_zip64=True) as sink:
                    while block := source.read(1 << 20):
                        sink.write(block)
    context.addArchive(f"{target}#{name}")
    return name


def load_model(ref: ModelRef, threads: int = 1, keep: int = 1) -> tuple[LoadedModel, bool]:
    """The model, from this worker's cache or from its verified files.

    Parameters
    ----------
    keep
        Models that the worker holds at most, this one among them; the one used longest ago goes first.

    Returns
    -------
    The model, and whether it had to be loaded.

    Raises
    ------
    ModelError
        FS3011 when the files are not the planned ones; nothing of them was loaded. FS3012 when they cannot be loaded.
    """
    key = (ref.digest, ref.method)
    fresh = key not in _CACHE
    if fresh:
        cap_threads(threads)
        folder = model_folder(ref.archive)
        check_digest(folder, ref.digest, ref.name)
        with capped_sessions(threads):
            _CACHE[key] = _open(folder, ref)
        cap_threads(threads)  # again: the flavor has opened its own pools by now
    _CACHE.move_to_end(key)
    while len(_CACHE) > keep:
        _CACHE.popitem(last=False)
    return _CACHE[key], fresh


_ESCAPED = ".firesteel-escaped"
"""Ends the name of a file that is escaped in the archive."""


def _escaped(name: str) -> str:
    """A file's name in the archive: ASCII, and shorter than file systems allow."""
    return name if name.isascii() else "/".join(map(_escaped_part, name.split("/")))


def _escaped_part(part: str) -> str:
    return part if part.isascii() else f"{quote(part, safe='')}{_ESCAPED}"


def model_folder(archive: str) -> Path:
    """The folder of a shipped model on this machine, its files under their own names.

    Parameters
    ----------
    archive
        See `ModelRef.archive`.
    """
    if Path(archive).is_absolute():
        return Path(archive)
    from pyspark import SparkFiles

    folder = Path(SparkFiles.get(archive))
    return _with_own_names(folder) if any(folder.rglob(f"*{_ESCAPED}")) else folder


def _with_own_names(folder: Path) -> Path:
    """A copy of hard links beside `folder`, made once per executor, in which no name is escaped."""
    target = folder.with_name(f"{folder.name}-named")
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if target.is_dir():
            return target
        partial = folder.with_name(f"{folder.name}-partial")
        shutil.rmtree(partial, ignore_errors=True)
        for path in sorted(folder.rglob("*")):
            parts = path.relative_to(folder).parts
            own = partial.joinpath(
                *(unquote(part.removesuffix(_ESCAPED)) if part.endswith(_ESCAPED) else part for part in parts)
            )
            if path.is_dir():
                own.mkdir(parents=True, exist_ok=True)
            else:
                own.parent.mkdir(parents=True, exist_ok=True)
                os.link(path, own)
        partial.rename(target)
    return target


def _open(folder: Path, ref: ModelRef) -> LoadedModel:
    import mlflow.pyfunc

    try:
        code = ModelCode.of(folder)
        with code.active():
            model = mlflow.pyfunc.load_model(str(folder))
            example = (
                model.metadata.load_input_example(str(folder)) if model.metadata.saved_input_example_info else None
            )
    except Exception as error:
        raise ModelError(
            "FS3012",
            f"model {ref.name} cannot be loaded in a worker: {type(error).__name__}: {' '.join(str(error).split())[:300]}",
            hint="Do the executors have the packages of the model's requirements.txt, in these versions?",
        ) from error
    raw = _raw(model)
    signature, why = _signature(model, ref.method)
    predict = model.predict if ref.method == "predict" else _with_enforcement(model, raw, ref)
    scratch = "" if Path(ref.archive).is_absolute() else str(folder.parent)
    return LoadedModel(ref, code.wrap(predict), raw, signature, why, example, scratch, code)


class _Method:
    """A method of the flavor's object. Integers that are null are NaN for it, as in any pandas frame.

    MLflow's enforcement refuses them in front of `predict`, because a signature's `integer` cannot hold NaN. It knows nothing of
    other methods, and a model that was fitted with NaN scores such rows.
    """

    def __init__(self, call: Callable[[Any], Any]) -> None:
        self._call = call
        self.missing: dict[str, Any] = {}

    def predict(self, data: Any) -> Any:
        """Called by MLflow with enforced columns."""
        for name, mask in self.missing.items():
            data[name] = data[name].astype("float64").mask(mask)
        return self._call(data)


def _with_enforcement(model: Any, raw: Any, ref: ModelRef) -> Callable[[Any], Any]:
    """Another method of the flavor's object, on what MLflow's schema enforcement would give to `predict`."""
    import pandas as pd
    from mlflow.pyfunc import PyFuncModel

    if not hasattr(raw, ref.method):
        raise ModelError(
            "FS3006",
            f"model {ref.name} has no method `{ref.method}`.",
            hint="Use `method: predict`, or a model that has it.",
        )
    method = _Method(getattr(raw, ref.method))
    enforced = PyFuncModel(model.metadata, method)

    def predict(frame: Any) -> Any:
        integers = [name for name, kind in frame.dtypes.items() if pd.api.types.is_extension_array_dtype(kind)]
        exact = [name for name in integers if frame[name].abs().max() <= 1 << 53]  # as float64
        method.missing = {name: frame[name].isna() for name in exact}
        filled = {name: frame[name].fillna(0).astype(frame[name].dtype.numpy_dtype) for name in exact}
        return enforced.predict(frame.assign(**filled))

    return predict


def _raw(model: Any) -> Any:
    """The flavor's own object; None where the pyfunc is all there is."""
    try:
        return model.get_raw_model()
    except (NotImplementedError, AttributeError):
        return None


def _signature(model: Any, method: str) -> tuple[tuple[tuple[str, str], ...] | None, str]:
    """What MLflow enforces before it calls the flavor, and why that cannot be done without pandas."""
    if method == "predict" and model.metadata.flavors["python_function"].get("predict_fn", "predict") != "predict":
        return None, "the pyfunc calls another method than predict"
    schema = model.metadata.get_input_schema()
    if schema is None:
        return None, ""
    if schema.is_tensor_spec() or not schema.has_input_names():
        return None, "the signature names no columns"
    return tuple((each.name, getattr(each.type, "name", str(each.type))) for each in schema.inputs), ""
