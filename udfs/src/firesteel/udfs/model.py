"""Distribute a model once per application, and load it once per Python worker after a check of its digest."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from firesteel.conf.errors import FiresteelError, ModelError
from firesteel.udfs.digest import Digest, check_digest, compare_digests, digest_of
from firesteel.udfs.loaders import load_trusted
from firesteel.udfs.mlmodel import example_of, metadata_of, printable, read_mlmodel
from firesteel.udfs.model_code import ModelCode
from firesteel.udfs.requirements import INSTALL, check_requirements, describe_missing, missing_module, this_executor
from firesteel.udfs.spec import ModelRef
from firesteel.udfs.threads import cap_threads, capped_sessions
from firesteel.udfs.trust import CODE

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

__all__ = ["Digest", "LoadedModel", "ModelRef", "digest_of", "distribute_model", "load_model"]


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A loaded model.

    Attributes
    ----------
    predict
        Takes a pandas frame of the features and returns the model's prediction.
    flavor
        The native model behind the pyfunc, or None.
    signature
        (name, type) of the columns that MLflow enforces before the call, or None.
    opaque_reason
        Why the backends must not call `flavor` directly, or empty.
    example
        The model's input example, or None.
    scratch
        Local folder for compiled models.
    code
        The model's own modules, active while `predict` or a method of `flavor` runs.
    engines
        The worker's engines by scoring configuration.
    """

    ref: ModelRef
    predict: Callable[[Any], Any]
    flavor: Any = None
    signature: tuple[tuple[str, str], ...] | None = None
    opaque_reason: str = ""
    example: Any = None
    scratch: str = ""
    code: ModelCode = field(default_factory=ModelCode)
    engines: dict[Hashable, Any] = field(default_factory=dict)


_CACHE: OrderedDict[tuple[str, str, str, tuple[str, ...], str], LoadedModel] = OrderedDict()
"""Models of this Python worker, least recently used first. Spark reuses workers, so a worker loads a model once."""


def distribute_model(spark: SparkSession, folder: Path, digest: str) -> str:
    """Distribute a model to all executors, once per application.

    The model travels as a zip archive, because `SparkContext.addFile` rejects local folders on clusters. The archive is deterministic.
    Non-ASCII names are escaped, because a JVM with a POSIX locale cannot create such files.

    Returns
    -------
    The archive's name for `ModelRef.archive`.
    """
    name = f"firesteel-model-{digest[:32]}"
    context = spark.sparkContext
    if any(str(archive).endswith(f"#{name}") for archive in context.listArchives):
        return name
    from pyspark import SparkFiles

    target = Path(SparkFiles.getRootDirectory(), f"{name}.zip")  # Spark deletes this private folder at its end
    compare_digests(_archive(folder, target), digest, folder.name)
    context.addArchive(f"{target}#{name}")
    return name


def _archive(folder: Path, target: Path) -> str:
    """Write a model's zip archive, and return the digest of the bytes in it."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive, contextlib.ExitStack() as last:
        sinks: dict[str, IO[bytes]] = {}

        def write(name: str, block: bytes) -> None:
            if name not in sinks:
                last.close()
                entry = zipfile.ZipInfo(_escaped(name), date_time=(1980, 1, 1, 0, 0, 0))
                sinks[name] = last.enter_context(archive.open(entry, "w", force_zip64=True))
            sinks[name].write(block)

        return digest_of(folder, on_block=write).hex


def load_model(ref: ModelRef, threads: int = 1, keep: int = 1) -> tuple[LoadedModel, bool]:
    """Return the model from this worker's cache, or load it after a check of its digest.

    Parameters
    ----------
    keep
        Maximum number of models in the cache, including this one. The least recently used model is evicted first.

    Returns
    -------
    The model, and whether this call loaded it.

    Raises
    ------
    ModelError
        FS3011 if the files do not match the digest. FS3009 if they are in another format than `ref.format`, or have types that are not
        in `ref.skops_types`. FS3012 if the model cannot be loaded. FS3013 if packages differ from those that the model requires, and
        `ref.requirements` is `enforce`.
    """
    key = (ref.digest, ref.method, ref.format, ref.skops_types, ref.requirements)
    load = key not in _CACHE
    if load:
        cap_threads(threads)
        folder = model_folder(ref.archive)
        check_digest(folder, ref.digest, ref.name)
        with capped_sessions(threads):
            _CACHE[key] = _open(folder, ref)
        cap_threads(threads)  # again, because the flavor has opened its own pools
    _CACHE.move_to_end(key)
    while len(_CACHE) > keep:
        _CACHE.popitem(last=False)
    return _CACHE[key], load


_ESCAPED = ".firesteel-escaped"
"""Suffix of escaped file names in the archive."""


def _escaped(name: str) -> str:
    """Return the ASCII name of a file in the archive."""
    return "/".join(map(_escaped_part, name.split("/")))


def _escaped_part(part: str) -> str:
    """Return the part of a name, escaped also if it looks escaped: a model could else name a path outside the folder."""
    return part if part.isascii() and not part.endswith(_ESCAPED) else f"{quote(part, safe='')}{_ESCAPED}"


def model_folder(archive: str) -> Path:
    """Return the local folder of a distributed model, with the original file names.

    Parameters
    ----------
    archive
        See `ModelRef.archive`.
    """
    if Path(archive).is_absolute():
        return Path(archive)
    from pyspark import SparkFiles

    folder = Path(SparkFiles.get(archive))
    return _with_original_names(folder) if any(folder.rglob(f"*{_ESCAPED}")) else folder


def _with_original_names(folder: Path) -> Path:
    """Return a copy of `folder` with the original names, made of hard links once per executor."""
    target = folder.with_name(f"{folder.name}-named")
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if target.is_dir():
            return target
        partial = folder.with_name(f"{folder.name}-partial")
        shutil.rmtree(partial, ignore_errors=True)
        for path in sorted(folder.rglob("*")):
            parts = path.relative_to(folder).parts
            original = partial.joinpath(
                *(unquote(part.removesuffix(_ESCAPED)) if part.endswith(_ESCAPED) else part for part in parts)
            )
            if path.is_dir():
                original.mkdir(parents=True, exist_ok=True)
            else:
                original.parent.mkdir(parents=True, exist_ok=True)
                os.link(path, original)
        partial.rename(target)
    return target


def _open(folder: Path, ref: ModelRef) -> LoadedModel:
    code = ModelCode()
    try:
        if ref.format == CODE:
            import mlflow.pyfunc

            code = ModelCode.of(folder)
            with code.active():
                model = mlflow.pyfunc.load_model(str(folder))
        else:
            model = load_trusted(folder, ref.format, ref.skops_types, ref.name)
        mlmodel = read_mlmodel(folder)
        example = example_of(folder, metadata_of(mlmodel))
    except FiresteelError:
        raise
    except Exception as error:
        _check_packages(folder, ref)  # the cause, if they differ
        module = missing_module(error)
        raise ModelError(
            "FS3012",
            f"model {ref.name} cannot be loaded in a worker: {type(error).__name__}: {printable(error)}"
            + (f" ({describe_missing(module)} in {this_executor()})" if module else ""),
            hint=INSTALL,
        ) from error
    _check_packages(folder, ref, mlmodel)
    raw = _raw(model)
    signature, opaque_reason = _signature(model, ref.method)
    predict = model.predict if ref.method == "predict" else _with_enforcement(model, raw, ref)
    scratch = "" if Path(ref.archive).is_absolute() else str(folder.parent)
    return LoadedModel(ref, code.wrap(predict), raw, signature, opaque_reason, example, scratch, code)


def _check_packages(folder: Path, ref: ModelRef, mlmodel: dict[str, Any] | None = None) -> None:
    """Compare the packages of this executor, which can differ from the planner's, with those that the model requires."""
    if ref.requirements == "enforce":
        check_requirements(folder, ref.name, ref.requirements, ref.format, this_executor(), mlmodel)


class _Method:
    """A method of the native model, which gets NaN for null integers.

    MLflow's enforcement rejects null integers, because a signature's `integer` cannot hold NaN. A model that was fitted with NaN can
    score such rows.
    """

    def __init__(self, call: Callable[[Any], Any]) -> None:
        self._call = call
        self.missing: dict[str, Any] = {}

    def predict(self, data: Any) -> Any:
        """Call the method with the columns that MLflow has enforced."""
        for name, mask in self.missing.items():
            data[name] = data[name].astype("float64").mask(mask)
        return self._call(data)


def _with_enforcement(model: Any, raw: Any, ref: ModelRef) -> Callable[[Any], Any]:
    """Wrap another method of the native model with MLflow's schema enforcement."""
    import pandas as pd
    from mlflow.pyfunc import PyFuncModel

    if not hasattr(raw, ref.method):
        raise ModelError(
            "FS3006",
            f"model {ref.name} has no method `{ref.method}`.",
            hint="Use `method: predict`, or another model.",
        )
    method = _Method(getattr(raw, ref.method))
    enforced = PyFuncModel(model.metadata, method)

    def predict(frame: Any) -> Any:
        integers = [name for name, kind in frame.dtypes.items() if pd.api.types.is_extension_array_dtype(kind)]
        exact = [name for name in integers if frame[name].abs().max() <= 1 << 53]  # exact in float64
        method.missing = {name: frame[name].isna() for name in exact}
        filled = {name: frame[name].fillna(0).astype(frame[name].dtype.numpy_dtype) for name in exact}
        return enforced.predict(frame.assign(**filled))

    return predict


def _raw(model: Any) -> Any:
    """Return the native model, or None if there is only the pyfunc."""
    try:
        return model.get_raw_model()
    except (NotImplementedError, AttributeError):
        return None


def _signature(model: Any, method: str) -> tuple[tuple[tuple[str, str], ...] | None, str]:
    """Return the signature that MLflow enforces, and the reason if the backends cannot enforce it without pandas."""
    if method == "predict" and model.metadata.flavors["python_function"].get("predict_fn", "predict") != "predict":
        return None, "the pyfunc calls a method other than predict"
    schema = model.metadata.get_input_schema()
    if schema is None:
        return None, ""
    if schema.is_tensor_spec() or not schema.has_input_names():
        return None, "the signature has no column names"
    return tuple((column.name, getattr(column.type, "name", str(column.type))) for column in schema.inputs), ""
