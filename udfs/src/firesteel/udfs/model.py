"""A model on its way: shipped once per application, loaded once per Python worker, verified before it is loaded."""

from __future__ import annotations

import tempfile
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from firesteel.conf.errors import ModelError
from firesteel.udfs.digest import ADDED_BY_MLFLOW, Digest, check_digest, digest_of
from firesteel.udfs.spec import ModelRef
from firesteel.udfs.threads import cap_threads

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

__all__ = ["Digest", "LoadedModel", "ModelRef", "digest_of", "load_model", "ship_model"]

MODELS_IN_MEMORY = 2


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model ready to predict: `predict` takes a pandas frame of the features and returns what the model returns."""

    ref: ModelRef
    predict: Callable[[Any], Any]


_CACHE: OrderedDict[tuple[str, str], LoadedModel] = OrderedDict()
"""Per Python worker, least recently used first. Spark reuses workers, so a model is loaded once per worker and not per task."""


def ship_model(spark: SparkSession, folder: Path, digest: str) -> str:
    """Give a model to every executor, once per application.

    A zip archive, since `SparkContext.addFile` refuses local folders on clusters; deterministic, so that equal models are
    equal archives.

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
                entry = zipfile.ZipInfo(path.relative_to(folder).as_posix(), date_time=(1980, 1, 1, 0, 0, 0))
                with path.open("rb") as source, archive.open(entry, "w", force_zip64=True) as sink:
                    while block := source.read(1 << 20):
                        sink.write(block)
    context.addArchive(f"{target}#{name}")
    return name


def load_model(ref: ModelRef, threads: int = 1) -> tuple[LoadedModel, bool]:
    """The model, from this worker's cache or from its verified files.

    Returns
    -------
    The model, and whether it had to be loaded.

    Raises
    ------
    ModelError
        FS3011 when the files are not the planned ones; nothing of them was loaded. FS3012 when they cannot be loaded.
    """
    key = (ref.digest, ref.method)
    if key in _CACHE:
        _CACHE.move_to_end(key)
        return _CACHE[key], False
    cap_threads(threads)
    folder = _folder(ref)
    check_digest(folder, ref.digest, ref.name)
    loaded = LoadedModel(ref, _predictor(folder, ref))
    cap_threads(threads)  # again: the flavor has opened its own pools by now
    _CACHE[key] = loaded
    while len(_CACHE) > MODELS_IN_MEMORY:
        _CACHE.popitem(last=False)
    return loaded, True


def _folder(ref: ModelRef) -> Path:
    if Path(ref.archive).is_absolute():
        return Path(ref.archive)
    from pyspark import SparkFiles

    return Path(SparkFiles.get(ref.archive))


def _predictor(folder: Path, ref: ModelRef) -> Callable[[Any], Any]:
    import mlflow.pyfunc

    try:
        model = mlflow.pyfunc.load_model(str(folder))
    except Exception as error:
        raise ModelError(
            "FS3012",
            f"model {ref.name} cannot be loaded in a worker: {type(error).__name__}: {' '.join(str(error).split())[:300]}",
            hint="Do the executors have the packages of the model's requirements.txt, in these versions?",
        ) from error
    if ref.method == "predict":
        return model.predict
    method = getattr(model.get_raw_model(), ref.method, None)
    if method is None:
        raise ModelError(
            "FS3006",
            f"model {ref.name} has no method `{ref.method}`.",
            hint="Use `method: predict`, or a model that has it.",
        )
    found: Callable[[Any], Any] = method
    return found
